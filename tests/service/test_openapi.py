"""The OpenAPI document and the service say the same, whatever is asked.

Schemathesis asks what the document allows and what it does not; it makes the same questions up each time.
`BANDICOOT_FUZZ_EXAMPLES` is how many for each address.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.servers.dagster import DagsterServer
from tests.service.conftest import Site
from tests.service.serving import served
from tests.small_programme import CALL_DATE, NOON

CONFIG = Path(__file__).with_name("schemathesis.toml")
N_EXAMPLES = os.environ.get("BANDICOOT_FUZZ_EXAMPLES", "25")
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
def document(site: Site) -> dict[str, Any]:
    """The document, whose examples name a caregiver, a model and a day that the small programme has."""
    written = json.dumps(site.client().get("/openapi.json").json())
    model = site.execute("SELECT model_version FROM bandicoot.list_publications")[0][0]
    known = {
        "2026-11-27T19:32:10.123456Z": NOON.isoformat().replace("+00:00", "Z"),
        "CG-012345": site.listed()[0],
        "2026-11-15-3f2a": str(model),
        "2026-11-28": CALL_DATE.isoformat(),
    }
    for shown, there in known.items():
        assert shown in written
        written = written.replace(shown, there)
    return json.loads(written)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, found in document["paths"].items():
        for method in METHODS & set(found):
            yield path, method, found[method]


def test_whatever_is_asked_the_answer_is_what_the_document_says(
    site: Site, document: dict[str, Any], dagster: DagsterServer, tmp_path: Path
) -> None:
    app = site.app(
        api_dagster_url=dagster.url,
        api_bulk_per_minute=1_000_000,
        api_reads_per_minute=1_000_000,
        api_trainings_per_hour=1000,
    )
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    with served(app) as address, dagster.queue_paused():
        found = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", "openapi.json"),
                *("--url", address, "--header", f"Authorization: Bearer {site.key('read', 'call', 'admin')}"),
                *("--checks", "all", "--continue-on-failure", "--request-timeout", "20", "--no-color"),
                *("--max-examples", N_EXAMPLES, "--generation-deterministic"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        dagster.end_queued_runs()
    assert found.returncode == 0, found.stdout + found.stderr
    n_operations = len(list(operations(document)))
    assert f"Tested: {n_operations}" in found.stdout


def test_every_address_says_what_it_is_for_what_it_asks_and_how_it_fails(document: dict[str, Any]) -> None:
    silent = []
    for path, method, operation in operations(document):
        says = [operation.get("summary"), operation.get("description"), operation.get("tags")]
        if not all(says):
            silent.append(f"{method} {path} has no summary, description or tag")
        needed = {"422"} if operation.get("parameters") or "requestBody" in operation else set()
        if "security" in operation:
            needed |= {"401", "403", "413", "429", "500", "503", "504"}
        silent += [f"{method} {path} does not document {status}" for status in needed - set(operation["responses"])]
        for status, response in operation["responses"].items():
            shape = response.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
            if status[0] in "45" and "security" in operation and not shape.endswith("/ErrorBody"):
                silent.append(f"{method} {path} {status} has another shape than every error")
    assert not silent, "\n".join(silent)


def test_every_address_shows_examples_and_they_are_what_their_schemas_allow(document: dict[str, Any]) -> None:
    wrong = []
    for path, method, operation in operations(document):
        place = f"{method} {path}"
        for parameter in operation.get("parameters", ()):
            shown = examples_of(parameter) + examples_of(parameter["schema"])
            if not shown and "default" not in parameter["schema"]:
                wrong.append(f"{place}: no example of {parameter['name']}")
            wrong += [f"{place}: {fault}" for each in shown for fault in faults(each, parameter["schema"], document)]
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            shown = examples_of(content) + examples_of(resolved(content["schema"], document))
            shown = shown or inner_examples(content["schema"], document)
            wrong += [] if shown else [f"{place}: no example of a body"]
        answers = [found["content"] for status, found in operation["responses"].items() if status[0] == "2"]
        for content in answers:
            schema = content.get("application/json", {}).get("schema")
            if schema is not None and not inner_examples(schema, document):
                wrong.append(f"{place}: no example in what it answers")
    for name, schema in document["components"]["schemas"].items():
        for each in examples_of(schema):
            wrong += [f"{name}: {fault}" for fault in faults(each, schema, document)]
        for field, about in schema.get("properties", {}).items():
            wrong += [
                f"{name}.{field}: {fault}" for each in examples_of(about) for fault in faults(each, about, document)
            ]
    assert not wrong, "\n".join(wrong)


def test_the_examples_of_the_document_are_accepted(site: Site, document: dict[str, Any]) -> None:
    client = site.client("read", "call", "admin")
    for path, method, operation in operations(document):
        if "training" in operation["tags"]:
            continue  # needs Dagster: test_runs starts what the document shows
        address, query = path, {}
        for parameter in operation.get("parameters", ()):
            shown = (examples_of(parameter) + examples_of(parameter["schema"]))[:1]
            if parameter["in"] == "path":
                address = address.replace(f"{{{parameter['name']}}}", shown[0])
            elif shown:
                query[parameter["name"]] = shown[0]
        body = None
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            body = (examples_of(content) or [example_of(content["schema"], document)])[0]
        response = client.request(method, address, params=query, json=body)
        assert response.status_code == 200, f"{method} {path}: {response.text}"


def test_the_document_is_the_same_for_everybody_and_of_this_release(site: Site) -> None:
    document = site.client().get("/openapi.json").json()
    assert document == site.client("admin").get("/openapi.json").json()
    assert document["info"]["version"] == version("bandicoot")


def examples_of(schema: dict[str, Any]) -> list[Any]:
    return [*([schema["example"]] if "example" in schema else []), *schema.get("examples", [])]


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def inner_examples(schema: dict[str, Any], document: dict[str, Any]) -> list[Any]:
    """Examples of a schema and of all that is within it."""
    schema = resolved(schema, document)
    within = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    within += [schema["items"]] if "items" in schema else []
    return examples_of(schema) + [each for inner in within for each in inner_examples(inner, document)]


def example_of(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    """An example of a schema that shows one, or is put together from some that do."""
    schema = resolved(schema, document)
    if examples_of(schema):
        return examples_of(schema)[0]
    if schema["type"] == "array":
        return [example_of(schema["items"], document)]
    return {name: example_of(schema["properties"][name], document) for name in schema["required"]}


def faults(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    whole = {**schema, "components": document["components"]}
    checker = jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker())
    return [error.message for error in checker.iter_errors(value)]
