"""Which of the things an analyst looks for every asset carries in the UI, and why some assets lack one.

What stands in the definitions is checked here for every asset; what only a run can show, in test_analysis.
"""

from collections.abc import Collection

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from bandicoot_core.contracts import TABLES, Column
from bandicoot_core.contracts.lineage import COLUMN_LINEAGE
from bandicoot_core.settings import Settings
from bandicoot_dagster.definitions import ALL_ASSETS, build_definitions

CONTRACT_OF = {
    "what_if_call_list": "call_list",
    "coverage_report": "coverage",
    "estimation_report": "estimation",
    "experiment_report": "experiment_effects",
}
"""The contract of an asset that is not called like it."""

EXCEPTIONS: dict[str, dict[str, str]] = {
    "column schema": {
        "features_only_mapper": "a fitted classifier has no rows",
        "model_version": "a bundle of several tables, each described on the asset it comes from",
        "index_cache": "keys and values in Redis; docs/consumers.md describes them",
        "why_listed": "its answer is about one person, in sentences and a table of rules",
        "model_comparison": "a report of sentences, pictures and small tables",
    },
    "column lineage": {
        **dict.fromkeys(
            (
                "features_only_mapper",
                "model_version",
                "index_cache",
                "why_listed",
                "model_comparison",
            ),
            "no column schema, so no columns to trace",
        ),
        **dict.fromkeys(
            ("coverage_report", "estimation_report", "policy_simulation", "model_backtest", "experiment_report"),
            "each figure comes from all of its inputs by computation; no column is handed on",
        ),
        "cost_report": "made of prices and of Dagster's own run times, which are no tables here",
        "what_if_call_list": "has the columns of call_list, where they are traced, and writes none of them",
    },
    "partitions": {"model_comparison": "compares any two versions, which its configuration names"},
    "single-run backfill": {
        "call_list": "a list of a past day must face its checks alone; a month of lists is a month of decisions",
        "published_call_list": "published day by day, each in its own transaction",
        "index_cache": "holds the newest list only",
        "cost_report": "says what had been spent by the end of one day",
        "why_listed": "a question about one day",
        "what_if_call_list": "a question about one day",
    },
}


@pytest.fixture(scope="module")
def graph() -> AssetGraph:
    return build_definitions(Settings()).resolve_asset_graph()


def names(graph: AssetGraph, *, without: str | None = None) -> list[str]:
    """Every asset that this project computes, but for the exceptions of a feature."""
    excepted: Collection[str] = EXCEPTIONS[without] if without else ()
    return sorted({key.to_user_string() for key in graph.materializable_asset_keys} - set(excepted))


def metadata(graph: AssetGraph, name: str) -> dict[str, object]:
    return dict(graph.get(dg.AssetKey.from_user_string(name)).metadata)


def test_exceptions_name_assets_that_exist_and_say_why(graph: AssetGraph) -> None:
    for feature, reasons in EXCEPTIONS.items():
        assert set(reasons) <= set(names(graph)), feature
        assert all(len(reason) > 20 for reason in reasons.values()), feature


def test_every_asset_external_ones_included_has_description_group_owner_and_kind(graph: AssetGraph) -> None:
    for key in graph.get_all_asset_keys():
        node, name = graph.get(key), key.to_user_string()
        assert len(node.description or "") > 30, name
        assert node.group_name not in (None, "default"), name
        assert node.owners == ["team:programme-analytics"], name
        assert node.kinds, name


def test_every_computed_asset_has_a_code_version_and_a_reference_to_its_code(graph: AssetGraph) -> None:
    for name in names(graph):
        assert graph.get(dg.AssetKey(name)).code_version, name
        references = metadata(graph, name)["dagster/code_references"]
        assert isinstance(references, dg.CodeReferencesMetadataValue)
        assert "bandicoot_dagster" in str(references.code_references[0]), name


def test_every_asset_with_rows_shows_its_columns_with_their_units(graph: AssetGraph) -> None:
    for name in names(graph, without="column schema"):
        schema = metadata(graph, name)["dagster/column_schema"]
        shown = {column.name: column.description or "" for column in schema.columns}  # type: ignore[attr-defined]
        contract = TABLES[CONTRACT_OF.get(name, name)]
        assert list(shown) == list(contract.column_names), name
        for column in contract.columns:
            assert shown[column.name].startswith(column.description), (name, column.name)
            assert column.unit is None or f"[{column.unit}]" in shown[column.name], (name, column.name)


def is_measured(column: Column) -> bool:
    """Whether a column counts something, or names a day or an instant; chances, shares and ranks have no unit."""
    is_name_or_rank = column.name.endswith(("_id", "_key", "rank"))
    return column.type in ("int16", "int32", "int64", "date", "timestamp") and not is_name_or_rank


def test_every_count_day_and_instant_has_a_unit(graph: AssetGraph) -> None:
    without = {
        (name, column.name)
        for name in names(graph, without="column schema")
        for column in TABLES[CONTRACT_OF.get(name, name)].columns
        if is_measured(column) and column.unit is None
    }
    assert without == set()


def test_external_upstreams_are_specs_that_show_which_columns_are_read(graph: AssetGraph) -> None:
    external = sorted(key.to_user_string() for key in graph.external_asset_keys)
    specs = [asset for asset in ALL_ASSETS if isinstance(asset, dg.AssetSpec)]
    assert sorted(spec.key.to_user_string() for spec in specs) == external
    for name in external:
        assert metadata(graph, name)["dagster/column_schema"].columns, name  # type: ignore[attr-defined]
        if name != "received_events":  # told, and kept in the lake; no database has it as a table
            assert metadata(graph, name)["dagster/table_name"] == name.replace("/", "."), name


def test_the_published_list_names_its_table(graph: AssetGraph) -> None:
    assert metadata(graph, "published_call_list")["dagster/table_name"] == "bandicoot.call_list"


def test_every_table_made_of_others_traces_its_columns(graph: AssetGraph) -> None:
    assert set(names(graph, without="column lineage")) == set(COLUMN_LINEAGE)


def test_every_asset_of_a_period_has_partitions_and_the_daily_ones_a_single_run_for_a_month(graph: AssetGraph) -> None:
    for name in names(graph, without="partitions"):
        assert graph.get(dg.AssetKey(name)).partitions_def is not None, name
    for name in names(graph, without="single-run backfill"):
        node = graph.get(dg.AssetKey(name))
        if isinstance(node.partitions_def, dg.DailyPartitionsDefinition):
            assert node.backfill_policy == dg.BackfillPolicy.single_run(), name


def test_what_a_clock_makes_for_others_says_by_when(graph: AssetGraph) -> None:
    due = {name for name in names(graph) if graph.get(dg.AssetKey(name)).freshness_policy is not None}
    assert due == {"call_list", "published_call_list", "model_version"}


def test_every_list_and_model_is_checked_before_anything_follows(graph: AssetGraph) -> None:
    by_asset: dict[str, list[bool]] = {}
    for key in graph.asset_check_keys:
        node = graph.get(key)
        by_asset.setdefault(key.asset_key.to_user_string(), []).append(node.blocking)  # type: ignore[union-attr]
        assert node.description, key
    assert {name: any(blocking) for name, blocking in by_asset.items()} == {
        "call_list": True,
        "model_version": True,
        "model_backtest": False,  # by then the model is in use; it warns
        "index_cache": False,  # readers fall back on PostgreSQL; it warns
        "cost_report": False,  # without the bill it estimates; it warns
    }
