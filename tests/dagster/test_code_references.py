"""Every asset leads to its own function, on this machine or in the repository."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bandicoot_core.contracts.lineage import COLUMN_LINEAGE
from bandicoot_core.settings import Settings
from bandicoot_dagster.definitions import ALL_ASSETS, build_definitions

COMPUTED = [asset for asset in ALL_ASSETS if isinstance(asset, dg.AssetsDefinition)]


def references(settings: Settings) -> dict[str, Any]:
    graph = build_definitions(settings).resolve_asset_graph()
    return {
        key.path[-1]: graph.get(key).metadata["dagster/code_references"].code_references
        for key in graph.materializable_asset_keys
    }


def test_every_asset_refers_to_the_line_of_its_function() -> None:
    for name, [reference] in references(Settings()).items():
        lines = Path(reference.file_path).read_text().splitlines()[reference.line_number - 1 :]
        assert "/bandicoot_dagster/" in reference.file_path
        assert any(f"def {name}(" in line for line in lines[:60]), (name, reference)


def test_with_the_repositorys_address_the_references_are_links() -> None:
    settings = Settings(repository_url="https://github.com/example/bandicoot", repository_branch="v1")

    [link] = references(settings)["call_list"]

    assert link.url.startswith("https://github.com/example/bandicoot/tree/v1/bandicoot_dagster/assets/call_list.py#L")


@pytest.mark.parametrize("asset", COLUMN_LINEAGE)
def test_columns_come_from_what_lies_upstream(asset: str) -> None:
    graph = build_definitions(Settings()).resolve_asset_graph()
    upstream = {key.to_user_string() for key in graph.get_ancestor_asset_keys(dg.AssetKey(asset))}

    tables = {source.rpartition(".")[0] for sources in COLUMN_LINEAGE[asset].values() for source in sources}

    assert tables <= upstream
