import ibis
import pytest
import sqlglot
from ibis.config import Config
from policy_tables import CALL_DATE

from bandicoot_core.contracts import (
    CAREGIVER_STATES,
    CLUSTER_ASSIGNMENTS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
    TableContract,
)
from bandicoot_core.policy.budgets import budget_pools
from bandicoot_core.policy.eligibility import eligibility_funnel, eligible_only, with_eligibility
from bandicoot_core.policy.ranking import candidates
from bandicoot_core.settings import ListOptions


class SparkOptions(Config):
    """The option that Spark's client, which is installed apart, brings with it."""

    treat_nan_as_null: bool = False


def named(contract: TableContract) -> ibis.Table:
    return ibis.table(ibis.schema(contract.arrow_schema()), name=contract.name)


def expressions() -> dict[str, ibis.Table]:
    pending = ibis.table({"caregiver_key": "int64"}, name="pending")
    eligibility = with_eligibility(
        named(CAREGIVER_STATES), named(CLUSTER_ASSIGNMENTS), pending, call_date=CALL_DATE, cool_down_days=14
    )
    return {
        "with_eligibility": eligibility,
        "eligibility_funnel": eligibility_funnel(eligibility),
        "candidates": candidates(
            eligible_only(eligibility),
            named(WHITTLE_INDICES),
            named(TUPLE_INDICES),
            budget_pools(ListOptions(budget=10, district_budgets={"Pune": 3})),
            call_date=CALL_DATE,
            exploration_share=0.1,
            index_level="cluster",
        ),
    }


@pytest.mark.parametrize("dialect", ["duckdb", "bigquery", "pyspark"])
@pytest.mark.parametrize("name", ["with_eligibility", "eligibility_funnel", "candidates"])
def test_every_expression_compiles_to_sql_that_the_dialect_can_read(monkeypatch, name, dialect):
    monkeypatch.setattr(ibis.options, "pyspark", SparkOptions())
    sql = str(ibis.to_sql(expressions()[name], dialect=dialect))
    assert sqlglot.parse_one(sql, read="spark" if dialect == "pyspark" else dialect).find(sqlglot.exp.Select)


def test_no_join_condition_compares_a_column_with_itself():
    sql = str(ibis.to_sql(expressions()["candidates"], dialect="duckdb"))
    conditions = [
        condition
        for join in sqlglot.parse_one(sql, read="duckdb").find_all(sqlglot.exp.Join)
        for condition in join.args["on"].find_all(sqlglot.exp.EQ, sqlglot.exp.NullSafeEQ)
    ]
    assert len(conditions) > 10
    assert [condition.sql() for condition in conditions if condition.left == condition.right] == []
