import pyarrow as pa
import pytest

from bandicoot_core.contracts import CAREGIVERS, CLUSTERS, PUBLISHED_CALL_LIST, TABLES, Column, TableContract, conform

DESIGNED_LIST_COLUMNS = [
    "call_date",
    "rank",
    "caregiver_id",
    "district",
    "state",
    "cluster_id",
    "whittle_index",
    "index_low",
    "index_high",
    "reason",
    "days_since_last_open",
    "last_call_date",
    "ab_arm",
    "propensity",
    "model_version",
    "run_id",
    "published_at",
    "own_index",
    "p_top_k",
]


def test_the_published_list_has_the_columns_its_readers_rely_on() -> None:
    assert PUBLISHED_CALL_LIST.column_names == DESIGNED_LIST_COLUMNS
    assert PUBLISHED_CALL_LIST.key == ("call_date", "caregiver_id")


@pytest.mark.parametrize("contract", TABLES.values(), ids=lambda contract: contract.name)
def test_every_column_is_described_and_no_lake_table_holds_an_identity(contract: TableContract) -> None:
    for column in contract.columns:
        assert column.description
        assert not any(word in column.name for word in ("name_", "phone_number", "full_name"))
    if contract.name not in ("published_call_list", "call_outcomes"):
        assert "caregiver_id" not in contract.column_names


def test_a_key_that_is_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match="'b' is not a column"):
        TableContract("t", "t", (Column("a", "int64", "a"),), key=("b",))


def test_conform_orders_columns_casts_and_sorts() -> None:
    table = pa.table(
        {
            "n_tuples": pa.array([3, 1], pa.int32()),
            "cluster_id": [1, 0],
            "p_passive_r": [0.9, 0.5],
            "p_passive_u": [0.2, 0.1],
            "n_caregivers": [10, 20],
        }
    )
    conformed = conform(table, CLUSTERS)
    assert conformed.schema == CLUSTERS.arrow_schema()
    assert conformed["cluster_id"].to_pylist() == [0, 1]


def test_conform_names_missing_columns_and_forbidden_nulls() -> None:
    with pytest.raises(ValueError, match=r"clusters: columns \['cluster_id'"):
        conform(pa.table({"x": [1]}), CLUSTERS)
    nulls = CAREGIVERS.empty().to_pylist()
    nulls.append(dict.fromkeys(CAREGIVERS.column_names))
    table = pa.Table.from_pylist(nulls, schema=pa.schema([pa.field(f.name, f.type) for f in CAREGIVERS.arrow_schema()]))
    with pytest.raises(ValueError, match="caregiver_key"):
        conform(table, CAREGIVERS)
