from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import ibis
import numpy as np
import policy_tables as given
import pyarrow as pa
import pytest
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend
from policy_tables import CALL_DATE, LOOKBACK_DAYS, days_ago, md5, public_id

from bandicoot_core.contracts import CALL_LIST
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.policy.budgets import budget_pools
from bandicoot_core.policy.eligibility import with_eligibility
from bandicoot_core.policy.ranking import candidates, make_call_list, propensities
from bandicoot_core.settings import ListOptions
from bandicoot_core.stores.engine import open_engine

INDICES = {(0, "U"): 0.5, (0, "R"): 0.2, (1, "U"): 0.5, (1, "R"): 0.0}
OWN_INDICES = {
    (0, 0, "U"): 0.4,
    (5, 0, "U"): 0.7,
    (0, 0, "R"): 0.3,
    (5, 0, "R"): 0.1,
    (0, 1, "U"): 0.4,
    (5, 1, "U"): 0.6,
    (0, 1, "R"): -0.2,
    (5, 1, "R"): 0.0,
}
"""Clusters 0 and 1 tie in U, also by the own index of caregivers without passive weeks."""


@pytest.fixture(scope="module")
def one_engine() -> Iterator[Backend]:
    with open_engine(memory_limit="1GB") as engine:
        yield engine


def caregiver(key: int, *, cluster_id: int = 0, state: str = "U", n_uu: int = 0, **facts: Any) -> dict[str, Any]:
    return {"caregiver_key": key, "cluster_id": cluster_id, "state": state, "n_uu": n_uu, **facts}


def eligible(caregivers: Sequence[Mapping[str, Any]]) -> ibis.Table:
    of_state = [{k: v for k, v in c.items() if k not in ("cluster_id", "n_uu")} for c in caregivers]
    of_cluster = [{k: c[k] for k in ("caregiver_key", "cluster_id", "n_uu")} for c in caregivers]
    return with_eligibility(
        ibis.memtable(given.states(*of_state)),
        ibis.memtable(given.assignments(*of_cluster)),
        ibis.memtable(given.pending()),
        call_date=CALL_DATE,
        cool_down_days=0,
    )


def candidate_rows(
    engine: Backend,
    caregivers: Sequence[Mapping[str, Any]],
    options: ListOptions,
    *,
    call_date: date = CALL_DATE,
    own_indices: Mapping[tuple[int, int, str], float] = OWN_INDICES,
) -> pa.Table:
    return engine.to_pyarrow(
        candidates(
            eligible(caregivers),
            ibis.memtable(given.indices(INDICES)),
            ibis.memtable(given.tuple_indices(own_indices)),
            budget_pools(options),
            call_date=call_date,
            exploration_share=options.exploration_share,
            index_level=options.index_level,
        )
    )


def made(rows: pa.Table, ids: Mapping[int, str] | pa.Table, **changes: Any) -> pa.Table:
    arguments: dict[str, Any] = {
        "call_date": CALL_DATE,
        "model_version": "m-1",
        "lookback_days": LOOKBACK_DAYS,
        "index_level": "cluster",
        "p_top_k": np.full(rows.num_rows, 0.5),
        **changes,
    }
    return make_call_list(rows, ids, **arguments)


def listed(rows: pa.Table, **changes: Any) -> pa.Table:
    return made(rows, {key: public_id(key) for key in rows["caregiver_key"].to_pylist()}, **changes)


def call_list(engine: Backend, caregivers: Sequence[Mapping[str, Any]], options: ListOptions) -> pa.Table:
    return listed(candidate_rows(engine, caregivers, options), index_level=options.index_level)


def keys(table: pa.Table) -> list[int]:
    return table["caregiver_key"].to_pylist()


def only_by_order(budget: int, **district_budgets: int) -> ListOptions:
    return by_cluster(budget=budget, district_budgets=district_budgets, exploration_share=0)


def by_cluster(**options: Any) -> ListOptions:
    return ListOptions(index_level="cluster", **options)


def test_the_order_is_index_then_own_index_then_days_since_the_last_call(engine):
    caregivers = [
        caregiver(1, state="R"),  # index 0.2
        caregiver(2, last_call_date=days_ago(20)),  # index 0.5, own 0.4
        caregiver(3, last_call_date=days_ago(60)),
        caregiver(4),  # never called
        caregiver(5, n_uu=5, last_call_date=days_ago(16)),  # own 0.7
        caregiver(6, cluster_id=1, n_uu=5),  # the same index in another cluster, own 0.6
    ]
    table = call_list(engine, caregivers, only_by_order(6))
    assert keys(table) == [5, 6, 4, 3, 2, 1]
    assert table["rank"].to_pylist() == [1, 2, 3, 4, 5, 6]
    assert table["propensity"].to_pylist() == [1.0] * 6


def test_at_the_level_of_caregivers_the_own_index_is_first_whatever_the_cluster(engine):
    caregivers = [
        caregiver(1, state="R"),  # own 0.3, index 0.2
        caregiver(2, last_call_date=days_ago(20)),  # own 0.4, index 0.5
        caregiver(3, last_call_date=days_ago(60)),
        caregiver(4, cluster_id=1, state="R"),  # own -0.2
        caregiver(5, n_uu=5),  # own 0.7
        caregiver(6, cluster_id=0, state="R", n_uu=5),  # own 0.1, index 0.2
        caregiver(7, cluster_id=1, state="R", n_uu=5),  # own 0.0, index 0.0
    ]
    table = call_list(engine, caregivers, ListOptions(budget=7, exploration_share=0, index_level="caregiver"))
    assert keys(table) == [5, 3, 2, 1, 6, 7, 4]
    assert table["own_index"].to_pylist() == [0.7, 0.4, 0.4, 0.3, 0.1, 0.0, -0.2]


def test_caregivers_with_equal_own_indices_tie_whatever_their_clusters_index(engine):
    own = {**OWN_INDICES, (0, 0, "R"): 0.4}
    caregivers = [caregiver(key, state="UR"[key % 2]) for key in range(1, 31)]  # own 0.4, index 0.5 and 0.2
    options = ListOptions(budget=4, exploration_share=0, index_level="caregiver")
    rows = candidate_rows(engine, caregivers, options, own_indices=own)
    by_hash = sorted(range(1, 31), key=lambda key: md5(f"{public_id(key)}|2026-11-20"))
    table = listed(rows, index_level="caregiver")
    assert keys(table) == by_hash[:4]
    assert table["propensity"].to_pylist() == pytest.approx([4 / 30] * 4)


def test_the_last_ties_are_broken_by_the_hash_of_id_and_date(engine):
    caregivers = [caregiver(key, cluster_id=key % 2) for key in range(1, 31)]
    by_hash = sorted(range(1, 31), key=lambda key: md5(f"{public_id(key)}|2026-11-20"))
    assert keys(call_list(engine, caregivers, only_by_order(4))) == by_hash[:4]


def test_the_list_keeps_its_contract(engine):
    table = call_list(engine, [caregiver(1, district=None), caregiver(2)], only_by_order(2))
    assert table.schema == CALL_LIST.arrow_schema()
    assert set(table["call_date"].to_pylist()) == {CALL_DATE}
    assert set(table["model_version"].to_pylist()) == {"m-1"}
    assert table["index_low"].to_pylist() == [0.4, 0.4]


@pytest.mark.parametrize(("budget", "exploration_share"), [(10, 0.0), (10, 0.5), (3, 0.0), (3, 1.0)])
def test_with_slots_for_everybody_everybody_is_listed_for_certain(engine, budget, exploration_share):
    caregivers = [caregiver(1), caregiver(2, state="R"), caregiver(3, n_uu=5)]
    table = call_list(engine, caregivers, by_cluster(budget=budget, exploration_share=exploration_share))
    assert keys(table) == [3, 1, 2]
    assert table["propensity"].to_pylist() == [1.0] * 3


def test_a_budget_of_nothing_makes_an_empty_list(engine):
    table = call_list(engine, [caregiver(1)], by_cluster(budget=0))
    assert table.num_rows == 0
    assert table.schema == CALL_LIST.arrow_schema()


def test_nobody_eligible_makes_an_empty_list(engine):
    assert call_list(engine, [], by_cluster(budget=5)).num_rows == 0


def test_district_budgets_are_kept_apart_and_ranks_run_through_all(engine):
    caregivers = [
        caregiver(1, district="Pune", n_uu=5),
        caregiver(2, district="Pune", last_call_date=days_ago(30)),
        caregiver(3, district="Nashik", state="R"),
        caregiver(4, district="Wardha"),
        caregiver(5, district=None, cluster_id=1, n_uu=5),
        caregiver(6, district="Wardha", state="R"),
        caregiver(7, district="Nashik", state="R", n_uu=5),
    ]
    table = call_list(engine, caregivers, only_by_order(6, Pune=1, Nashik=3))
    # Pune has one slot for two, Nashik a slot more than caregivers, Wardha and the unknown share two.
    assert list(zip(keys(table), table["rank"].to_pylist(), strict=True)) == [(1, 1), (5, 2), (4, 3), (3, 4), (7, 5)]


def test_the_drawn_are_ranked_among_the_others_and_told_so(engine):
    caregivers = [caregiver(key, state="U" if key <= 10 else "R") for key in range(1, 41)]
    table = call_list(engine, caregivers, by_cluster(budget=14, exploration_share=0.3))
    is_drawn = [reason.startswith("Chosen at random") for reason in table["reason"].to_pylist()]
    assert sum(is_drawn) == 4
    certain = [key for key in keys(table) if key <= 10]
    assert certain == keys(table)[:10]
    # The four drawn and none else come from where the order does not reach, in the order of the tie hash.
    by_hash = sorted(keys(table)[10:], key=lambda key: md5(f"{public_id(key)}|2026-11-20"))
    assert keys(table)[10:] == by_hash


def test_propensities_follow_the_formula():
    rows = pa.table(
        {
            "n_ahead": [0, 2, 2, 6, 0, 0],
            "n_tied": [2, 4, 2, 4, 3, 1],
            "n_eligible": [10, 10, 10, 10, 3, 1],
            "n_exploit": [4, 4, 4, 4, 0, 4],
            "n_explore": [3, 3, 3, 3, 1, 2],
        }
    )
    # above; 2 slots for 4 tied, then 3 of 6; exactly filled; below; the draw alone; more slots than eligible
    assert propensities(rows).tolist() == [1.0, 0.5 + 0.5 * 0.5, 1.0, 0.5, pytest.approx(1 / 3), 1.0]


def test_how_often_a_caregiver_is_listed_over_many_days_is_her_propensity():
    n_caregivers, n_days = 12, 2000
    n_ahead = np.array([0, 0] + [2] * 6 + [8] * 4)
    rows = pa.table(
        {
            "caregiver_key": np.arange(1, n_caregivers + 1),
            "district": ["Pune"] * n_caregivers,
            "pool": [""] * n_caregivers,
            "state": ["U"] * n_caregivers,
            "cluster_id": pa.array([0] * n_caregivers, pa.int16()),
            "whittle_index": -n_ahead / 10,
            "own_index": [0.0] * n_caregivers,
            "index_low": [0.0] * n_caregivers,
            "index_high": [1.0] * n_caregivers,
            "p_passive": [0.1] * n_caregivers,
            "p_active": [0.2] * n_caregivers,
            "days_since_last_open": pa.array([9] * n_caregivers, pa.int16()),
            "last_call_date": pa.array([None] * n_caregivers, pa.date32()),
            "ab_arm": ["treatment"] * n_caregivers,
            "n_ahead": n_ahead,
            "n_tied": [2] * 2 + [6] * 6 + [4] * 4,
            "n_eligible": [n_caregivers] * n_caregivers,
            "n_exploit": [4] * n_caregivers,
            "n_explore": [2] * n_caregivers,
        }
    )
    n_listed = np.zeros(n_caregivers)
    told = np.zeros(n_caregivers)
    for day in range(n_days):
        call_date = CALL_DATE + timedelta(days=day)
        table = listed(rows, call_date=call_date)
        assert table.num_rows == 6
        n_listed[np.array(keys(table)) - 1] += 1
        told[np.array(keys(table)) - 1] = table["propensity"].to_numpy()
    # 2 certain; 2 slots for 6 tied, then 2 drawn of the other 8; 2 drawn of 8
    expected = np.array([1.0] * 2 + [1 / 3 + 2 / 3 / 4] * 6 + [1 / 4] * 4)
    assert told == pytest.approx(expected)
    error = 4.5 * np.sqrt(expected * (1 - expected) / n_days)
    assert (np.abs(n_listed / n_days - expected) <= error).all()


CAREGIVERS = st.lists(
    st.fixed_dictionaries(
        {
            "district": st.sampled_from(["Pune", "Nashik", "Wardha", None]),
            "cluster_id": st.sampled_from([0, 1]),
            "state": st.sampled_from(["U", "R"]),
            "n_uu": st.sampled_from([0, 5]),
            "last_call_date": st.sampled_from([None, days_ago(20), days_ago(60)]),
        }
    ),
    max_size=60,
)
BUDGETS = st.tuples(st.integers(0, 25), st.dictionaries(st.sampled_from(["Pune", "Nashik"]), st.integers(0, 12)))


@settings(max_examples=40, deadline=None)
@each(
    people=CAREGIVERS,
    budgets=BUDGETS,
    exploration_share=st.sampled_from([0.0, 0.125, 0.5, 1.0]),
    index_level=st.sampled_from(["caregiver", "cluster"]),
    seed=st.randoms(),
)
def test_the_list_is_the_one_that_sorting_everybody_gives_whatever_the_order_of_rows(
    one_engine, people, budgets, exploration_share, index_level, seed
):
    left, reserved = budgets
    caregivers = [{"caregiver_key": key, **facts} for key, facts in enumerate(people, start=1)]
    known = [
        {
            **facts,
            "whittle_index": INDICES[facts["cluster_id"], facts["state"]],
            "own_index": OWN_INDICES[facts["n_uu"], facts["cluster_id"], facts["state"]],
        }
        for facts in caregivers
    ]
    expected = given.plain_call_list(
        known,
        {"": left, **reserved},
        exploration_share=exploration_share,
        call_date=CALL_DATE,
        index_level=index_level,
    )
    options = ListOptions(
        budget=left + sum(reserved.values()),
        district_budgets=reserved,
        exploration_share=exploration_share,
        index_level=index_level,
    )
    seed.shuffle(caregivers)
    table = call_list(one_engine, caregivers, options)
    assert keys(table) == [key for key, _ in expected]
    assert table["rank"].to_pylist() == list(range(1, len(expected) + 1))
    assert table["propensity"].to_pylist() == pytest.approx([propensity for _, propensity in expected])


def test_the_same_list_comes_out_of_shuffled_rows_byte_for_byte(engine):
    caregivers = [caregiver(key, state="UR"[key % 2], n_uu=5 * (key % 3 == 0)) for key in range(1, 200)]
    options = by_cluster(budget=20, exploration_share=0.25)
    rows = candidate_rows(engine, caregivers, options)
    shuffled = candidate_rows(engine, caregivers[::-1], options)
    assert listed(rows).equals(listed(shuffled.take(list(range(shuffled.num_rows))[::-1])))


def test_another_day_breaks_ties_otherwise(engine):
    caregivers = [caregiver(key) for key in range(1, 200)]
    tomorrow = CALL_DATE + timedelta(days=1)
    options = by_cluster(budget=20, exploration_share=0.25)
    later = listed(candidate_rows(engine, caregivers, options, call_date=tomorrow), call_date=tomorrow)
    assert set(keys(later)) != set(keys(listed(candidate_rows(engine, caregivers, options))))


def test_only_rows_that_can_be_listed_leave_the_engine(engine):
    n_caregivers = 30_000
    number = np.arange(1, n_caregivers + 1)
    spread = {
        "state": np.where(number % 3, "U", "R"),
        "n_uu": 5 * (number % 7 == 0),
        "last_call_date": pa.array(
            np.datetime64(CALL_DATE) - (15 + number % 60).astype("timedelta64[D]"), mask=number % 40 == 0
        ).cast(pa.date32()),
    }
    rows = pa.table({"caregiver_key": number, **spread}).to_pylist()
    people = [{"district": "Wardha", "cluster_id": 0, **row} for row in rows]
    options = by_cluster(budget=100, exploration_share=0.05)
    candidate_table = candidate_rows(engine, people, options)
    assert candidate_table.num_rows < 400
    known = [
        {**c, "whittle_index": INDICES[0, c["state"]], "own_index": OWN_INDICES[c["n_uu"], 0, c["state"]]}
        for c in people
    ]
    expected = given.plain_call_list(known, {"": 100}, exploration_share=0.05, call_date=CALL_DATE)
    table = listed(candidate_table)
    assert keys(table) == [key for key, _ in expected]
    assert table["propensity"].to_pylist() == pytest.approx([propensity for _, propensity in expected])


def test_a_caregiver_whose_index_the_model_lacks_stops_the_list(engine):
    caregivers = [caregiver(1, cluster_id=1), caregiver(2, cluster_id=7, n_uu=5)]
    with pytest.raises(InvalidInputError, match=r"whittle_indices: 1 eligible .* \(first: cluster_id=7, state=U\)"):
        call_list(engine, caregivers, only_by_order(1))


def test_a_caregiver_whose_own_index_the_model_lacks_stops_the_list(engine):
    known = {arm: index for arm, index in OWN_INDICES.items() if arm != (5, 0, "U")}
    rows = candidate_rows(engine, [caregiver(1), caregiver(2, n_uu=5)], only_by_order(1), own_indices=known)
    with pytest.raises(InvalidInputError, match=r"tuple_indices: 1 eligible .* n_uu=5, .*cluster_id=0, state=U"):
        listed(rows)


def test_a_candidate_without_public_id_stops_the_list(engine):
    rows = candidate_rows(engine, [caregiver(1), caregiver(2)], only_by_order(2))
    with pytest.raises(InvalidInputError, match=r"1 of 2 candidates have no caregiver_id \(first: caregiver_key=2\)"):
        made(rows, {1: "CG-1"})


def test_public_ids_may_come_as_a_table_in_any_order(engine):
    rows = candidate_rows(engine, [caregiver(key) for key in range(1, 30)], only_by_order(5))
    numbers = list(range(40, 0, -1))
    ids = pa.table({"caregiver_key": numbers, "caregiver_id": [public_id(key) for key in numbers]})
    table = made(rows, ids)
    assert table.equals(listed(rows))
