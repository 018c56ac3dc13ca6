"""The guide of the service names what the service has."""

import re
from pathlib import Path

from bandicoot_api.metrics import Metrics
from bandicoot_api.recommending import BY_KEY, BY_LOAD, BY_LOSS, BY_MODEL
from bandicoot_core.settings import ServiceOptions
from tests.service.conftest import Site

GUIDE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()


def test_the_guide_names_every_address_with_its_scope(site: Site) -> None:
    document = site.app().openapi()
    documented = dict(re.findall(r"^\| (`(?:GET|POST) [^|]*`) \| (\w+)", GUIDE, re.MULTILINE))
    addresses = {
        (method, re.sub(r"\{\w+\}", "{}", path)): scope
        for cell, scope in documented.items()
        for method, path in re.findall(r"`(GET|POST) ([^`]+)`", cell)
    }
    served = {
        (method.upper(), re.sub(r"\{[^}]+\}", "{}", path))
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert set(addresses) == served | {("GET", "/")}


def test_the_guide_names_every_metric_and_every_reason_for_a_tier() -> None:
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in Metrics().registry.collect()
    }
    assert set(re.findall(r"`(bandicoot_api_\w+)`", GUIDE)) == names
    for reason in (BY_KEY, BY_LOAD, BY_LOSS, BY_MODEL):
        assert f"| `{reason}` |" in GUIDE


def test_the_limits_in_the_guide_are_the_defaults() -> None:
    for name, number in re.findall(r"`BANDICOOT_(API_\w+)` \((\d+)\)", GUIDE):
        assert ServiceOptions.model_fields[name.lower()].default == int(number)
