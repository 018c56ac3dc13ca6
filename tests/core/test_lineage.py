"""Column lineage names columns that exist, for every column of the tables it covers."""

import pytest

from bandicoot_core.contracts import PUBLISHED_CALL_LIST, TABLES
from bandicoot_core.contracts.lineage import COLUMN_LINEAGE
from bandicoot_core.stores.source.tables import SOURCE_TABLES

OUTSIDE = {f"suvita_production/{table.name}": {c.name for c in table.columns} for table in SOURCE_TABLES.values()}
OUTSIDE["bandicoot/call_outcomes"] = set(TABLES["call_outcomes"].column_names)
ADDED = {
    "call_list": {"call_date", "model_version"},
    "published_call_list": {"run_id", "published_at"},
}
"""Columns that come from no other: they say what made the row."""


@pytest.mark.parametrize("asset", COLUMN_LINEAGE)
def test_every_column_has_its_origin_and_no_other_is_named(asset: str) -> None:
    columns = set(TABLES[asset].column_names)

    assert set(COLUMN_LINEAGE[asset]) == columns - ADDED.get(asset, set()) or asset == "published_call_list"
    for sources in COLUMN_LINEAGE[asset].values():
        for source in sources:
            table, _, column = source.rpartition(".")
            known = OUTSIDE[table] if table in OUTSIDE else set(TABLES[table].column_names)
            assert column in known, source


def test_the_published_list_is_covered_but_for_what_publication_adds() -> None:
    expected = set(PUBLISHED_CALL_LIST.column_names) - ADDED["published_call_list"]

    assert set(COLUMN_LINEAGE["published_call_list"]) == expected
