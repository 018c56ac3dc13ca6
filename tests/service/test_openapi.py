"""The OpenAPI document and the service say the same, whatever is asked.

Schemathesis asks what the document allows and what it does not; it makes the same questions up each time.
`BANDICOOT_FUZZ_EXAMPLES` is how many for each address.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import Site
from tests.service.serving import served
from tests.small_programme import CALL_DATE

CONFIG = Path(__file__).with_name("schemathesis.toml")
N_EXAMPLES = os.environ.get("BANDICOOT_FUZZ_EXAMPLES", "25")
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
def document(site: Site) -> dict[str, Any]:
    """The document, whose examples name a caregiver and a day that the small programme has."""
    written = json.dumps(site.client().get("/openapi.json").json())
    return json.loads(
        written.replace("CG-012345", site.listed()[0]).replace("2026-11-28", CALL_DATE.isoformat())
    )


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, found in document["paths"].items():
        for method in METHODS & set(found):
            yield path, method, found[method]


def test_whatever_is_asked_the_answer_is_what_the_document_says(
    site: Site, document: dict[str, Any], tmp_path: Path
) -> None:
    app = site.app(api_bulk_per_minute=1_000_000, api_reads_per_minute=1_000_000, api_trainings_per_hour=1000)
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    with served(app) as address:
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
    assert found.returncode == 0, found.stdout + found.stderr
    n_operations = len(list(operations(document)))
    assert f"Tested: {n_operations}" in found.stdout
