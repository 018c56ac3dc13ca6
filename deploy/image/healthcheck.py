#!/usr/bin/env python
"""Whether the container's process answers, for the image's HEALTHCHECK: exit 0 when it does, 1 and a line when not.

What is asked follows from the command line of process 1. The service and the webserver are asked over HTTP, the code
location over gRPC. The daemon and runs answer nobody: for them a container that runs is one that is well, and the
alarms tell of lists that are late. Light, since it is started twice a minute beside a process that has little memory.
"""

import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

TIMEOUT_SECONDS = 5.0
_PATHS = {"api": (8080, "/health"), "webserver": (3000, "/server_info")}


def address_of(words: list[str]) -> str | None:
    """What to ask a process with this command line: `http://...`, `grpc://host:port`, or None when it answers nobody.

    Words before the program's name, such as Python's or an init's, are passed over.
    """
    names = [word.rsplit("/", 1)[-1] for word in words]
    if "dagster-webserver" in names:
        kind = "webserver"
    elif _follow(names, ["bandicoot", "api"]) and not _follow(names, ["api", "keys"]):
        kind = "api"
    elif _follow(names, ["dagster", "api", "grpc"]):
        return f"grpc://127.0.0.1:{_port(words) or 4000}"
    else:
        return None
    port, path = _PATHS[kind]
    return f"http://127.0.0.1:{_port(words) or port}{path}"


def _follow(names: list[str], wanted: list[str]) -> bool:
    """Whether the wanted names stand one after the other."""
    return any(names[place : place + len(wanted)] == wanted for place in range(len(names)))


def _port(words: list[str]) -> str | None:
    """The value of --port or -p."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in ("--port", "-p"):
            return following
        if word.startswith("--port="):
            return word.removeprefix("--port=")
    return None


def ask(address: str) -> str | None:
    """None when the address answers that all is well, else what it said."""
    if address.startswith("grpc://"):
        return _ask_grpc(address.removeprefix("grpc://"))
    try:
        with urlopen(address, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - an address of this container
            return None if answer.status == 200 else f"answered {answer.status}"
    except (URLError, OSError) as error:
        return str(error)


def _ask_grpc(target: str) -> str | None:
    import grpc  # noqa: PLC0415 - only the code location needs it
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse  # noqa: PLC0415
    from grpc_health.v1.health_pb2_grpc import HealthStub  # noqa: PLC0415

    try:
        with grpc.insecure_channel(target) as channel:
            answer = HealthStub(channel).Check(HealthCheckRequest(service="DagsterApi"), timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        return str(error.code())
    serving = HealthCheckResponse.ServingStatus.SERVING
    return None if answer.status == serving else f"answered status {answer.status}, expected {serving} (serving)"


def main() -> int:
    """Ask process 1 of this container."""
    words = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    address = address_of(words)
    if address is None:
        sys.stdout.write(f"{' '.join(words[:4])}: answers nobody; it runs\n")
        return 0
    trouble = ask(address)
    sys.stdout.write(f"{address}: {trouble or 'well'}\n")
    return 0 if trouble is None else 1


if __name__ == "__main__":
    sys.exit(main())
