"""A stand-in for Terraform's Google provider that knows the schema of 6.50 and nothing else.

Terraform asks it over gRPC (plugin protocol 5) what may be written, and what a plan would hold; what only Google knows
is left unknown, or made up where STAND_IN_KNOWS=everything asks for it. It creates nothing, and asks nobody. So it
finds missing, unknown and mistyped arguments and broken references; it does not know allowed values, conflicts between
arguments, quotas or rights.

    python provider.py SOCKET

prints the line for TF_REATTACH_PROVIDERS and answers on the socket until it is terminated.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import msgpack
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("google_schema.json").read_text())
ADDRESS = "hashicorp/google"
# What depends on an unknown value is unknown as a whole, as filters of alerts are; made up, it can be read. But only
# with unknown values does a plan show that nothing is counted by what is known later.
KNOWS_EVERYTHING = os.environ.get("STAND_IN_KNOWS") == "everything"
UNKNOWN = msgpack.ExtType(0, b"\x00")

# The messages of the protocol, as far as they are used: field, number, type; `[]` is many, `{}` by name.
_MESSAGES = {
    "DynamicValue": [("msgpack", 1, "bytes"), ("json", 2, "bytes")],
    "Attribute": [
        ("name", 1, "string"),
        ("type", 2, "bytes"),
        ("required", 4, "bool"),
        ("optional", 5, "bool"),
        ("computed", 6, "bool"),
    ],
    "NestedBlock": [
        ("type_name", 1, "string"),
        ("block", 2, "Block"),
        ("nesting", 3, "int64"),
        ("min_items", 4, "int64"),
        ("max_items", 5, "int64"),
    ],
    "Block": [("attributes", 2, "[]Attribute"), ("block_types", 3, "[]NestedBlock")],
    "Schema": [("version", 1, "int64"), ("block", 2, "Block")],
    "Named": [("key", 1, "string"), ("value", 2, "Schema")],
    "Schemas": [("provider", 1, "Schema"), ("resource_schemas", 2, "[]Named"), ("data_source_schemas", 3, "[]Named")],
    "Nothing": [],
    "ProviderConfig": [("config", 1, "DynamicValue")],
    "TypeConfig": [("type_name", 1, "string"), ("config", 2, "DynamicValue")],
    "Change": [("type_name", 1, "string"), ("proposed_new_state", 3, "DynamicValue")],
    "Value": [("value", 1, "DynamicValue")],
}
_SCALARS = {"string": 9, "bytes": 12, "bool": 8, "int64": 3}


def _message_classes() -> dict[str, Any]:
    """A class for each message. A map is sent as many of key and value, which is the same on the wire."""
    file = descriptor_pb2.FileDescriptorProto(name="plugin.proto", package="tfplugin5", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, told in fields:
            kind = told.removeprefix("[]")
            entry = message.field.add(name=field, number=number, label=3 if told.startswith("[]") else 1)
            if kind in _SCALARS:
                entry.type = _SCALARS[kind]  # type: ignore[assignment]
            else:
                entry.type, entry.type_name = 11, f".tfplugin5.{kind}"  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tfplugin5.{name}")) for name in _MESSAGES
    }


M = _message_classes()


def block(told: dict[str, Any]) -> Any:
    """A block of the schema as the protocol tells it."""
    attributes = [
        M["Attribute"](
            name=name,
            type=json.dumps(entry["type"]).encode(),
            required=entry["needed"],
            optional=entry["may_be_written"] and not entry["needed"],
            computed=entry["known_after"],
        )
        for name, entry in told["attributes"].items()
    ]
    blocks = [
        M["NestedBlock"](
            type_name=name,
            block=block(entry["block"]),
            nesting=1 if entry["single"] else 2,
            min_items=1 if entry["needed"] and not entry["single"] else 0,
            max_items=0 if entry["many"] or entry["single"] else 1,
        )
        for name, entry in told["blocks"].items()
    ]
    return M["Block"](attributes=attributes, block_types=blocks)


def completed(value: Any, told: dict[str, Any], unknown: Callable[[str, Any], Any]) -> Any:
    """A written block, with what is only known after filled in."""
    if value is None:
        return None
    for name, entry in told["attributes"].items():
        if entry["known_after"] and value.get(name) is None:
            value[name] = unknown(name, entry["type"])
    for name, entry in told["blocks"].items():
        inner = value.get(name)
        if isinstance(inner, list):
            value[name] = [completed(one, entry["block"], unknown) for one in inner]
        elif isinstance(inner, dict):
            value[name] = completed(inner, entry["block"], unknown)
    return value


def _made_up(name: str, kind: Any) -> Any:
    """Something of the right type, since there is nobody to ask; None for what has parts."""
    plain = {"string": "123456789012" if name == "number" else f"some-{name}", "number": 1, "bool": False}
    return plain.get(kind) if isinstance(kind, str) else None


def _plan(request: Any) -> Any:
    """What a resource would be: as written, and unknown where only Google can say."""

    def unknown(name: str, kind: Any) -> Any:
        made_up = _made_up(name, kind) if KNOWS_EVERYTHING else None
        return UNKNOWN if made_up is None else made_up

    proposed = msgpack.unpackb(request.proposed_new_state.msgpack, raw=False, strict_map_key=False)
    planned = completed(proposed, SCHEMA["resources"][request.type_name], unknown)
    return M["Value"](value=M["DynamicValue"](msgpack=msgpack.packb(planned)))


def _read(request: Any) -> Any:
    """What a data source says: something of the right type, since there is nobody to ask."""
    written = msgpack.unpackb(request.config.msgpack, raw=False, strict_map_key=False)
    answer = completed(written, SCHEMA["data"][request.type_name], _made_up)
    return M["Value"](value=M["DynamicValue"](msgpack=msgpack.packb(answer)))


def _schemas(_request: Any) -> Any:
    def named(kind: str) -> list[Any]:
        return [M["Named"](key=name, value=M["Schema"](block=block(told))) for name, told in SCHEMA[kind].items()]

    return M["Schemas"](
        provider=M["Schema"](block=block(SCHEMA["provider"])),
        resource_schemas=named("resources"),
        data_source_schemas=named("data"),
    )


def _nothing(_request: Any) -> Any:
    return M["Nothing"]()


_CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "GetSchema": ("Nothing", _schemas),
    "PrepareProviderConfig": ("ProviderConfig", lambda request: M["Value"](value=request.config)),
    "ValidateResourceTypeConfig": ("TypeConfig", _nothing),
    "ValidateDataSourceConfig": ("TypeConfig", _nothing),
    "Configure": ("Nothing", _nothing),
    "PlanResourceChange": ("Change", _plan),
    "ReadDataSource": ("TypeConfig", _read),
    "Stop": ("Nothing", _nothing),
}


def main() -> None:
    """Answers on the socket named on the command line."""
    socket = sys.argv[1]
    handlers = {
        call: grpc.unary_unary_rpc_method_handler(
            lambda request, _context, answer=answer: answer(request),
            request_deserializer=M[asked].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for call, (asked, answer) in _CALLS.items()
    }
    sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=sizes)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tfplugin5.Provider", handlers),))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    where = {"Network": "unix", "String": socket}
    told = {"Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True, "Addr": where}
    sys.stdout.write(json.dumps({ADDRESS: told}) + "\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
