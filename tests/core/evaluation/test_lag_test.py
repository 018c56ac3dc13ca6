import ibis
import numpy as np
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend
from scipy.stats import chi2

from bandicoot_core.contracts import MEMORY_TEST
from bandicoot_core.evaluation.lag_test import lag_test, lag_verdict, memory_gains, past_counts
from bandicoot_core.evaluation.visit_test import VisitTest
from bandicoot_core.settings import ModelOptions
from tests.core.evaluation.histories import Kind, draw_history
from tests.core.evaluation.models import history_of, in_engine

OPTIONS = ModelOptions(n_clusters=2, min_cluster_share=0.01)
ALIKE = (Kind((0.3, 0.7), (0.5, 0.8)),)


def test_pasts_are_four_observed_weeks_and_end_where_they_are_asked_to(shared_engine: Backend) -> None:
    history = history_of(
        shared_engine,
        # Words read from the right: week 0 is the last digit.
        (1, 0b010110, 0b001000, 0b111111),
        (2, 0b010110, 0b001000, 0b111111),
        (3, 0b010110, 0b000000, 0b111100),  # too young for a past of four weeks and a next one
        (4, 0b010110, 0b000000, 0b111111),  # in no cluster
    )
    labels = ibis.memtable(pa.table({"caregiver_key": [1, 2, 3], "cluster_id": [5, 5, 5]}))
    names = ["cluster_id", "week", "past", "is_called", "is_responsive_next", "n"]
    for first_next_week, expected in (
        (0, [(5, 3, 0b0110, 1, 1, 2), (5, 4, 0b1011, 0, 0, 2)]),
        (5, [(5, 4, 0b1011, 0, 0, 2)]),
    ):
        counts = past_counts(history, labels, n_weeks=6, first_next_week=first_next_week)
        rows = counts.select(*names).to_pyarrow().to_pylist()
        assert sorted(tuple(row.values()) for row in rows) == expected


def counted(*rows: tuple[int, int, int, int]) -> pa.Table:
    """(week, past, is_responsive_next, n) of one cluster, nobody called."""
    columns = [pa.array(column, pa.int64()) for column in zip(*rows, strict=True)]
    table = pa.table(dict(zip(("week", "past", "is_responsive_next", "n"), columns, strict=True)))
    zeros = pa.array([0] * len(rows), pa.int64())
    return table.append_column("cluster_id", zeros).append_column("is_called", zeros)


def test_gain_and_ratio_are_those_of_the_counts() -> None:
    # R after R stays in R in 9 of 10 weeks, R after U in 3 of 10; together in 12 of 20.
    learned = [(9, 0b1100, 1, 9), (9, 0b1100, 0, 1), (9, 0b1000, 1, 3), (9, 0b1000, 0, 7)]
    measured = [(10, 0b1100, 1, 4), (10, 0b1000, 0, 6)]
    gains = memory_gains(counted(*learned, *measured), n_learned=11)
    row = gains.to_pylist()[0]
    assert gains.schema == MEMORY_TEST.arrow_schema()
    together, after_r, after_u = 13 / 22, 10 / 12, 4 / 12
    first_order = -(4 * np.log(together) + 6 * np.log(1 - together)) / 10
    second_order = -(4 * np.log(after_r) + 6 * np.log(1 - after_u)) / 10
    assert row["n_caregiver_weeks"] == 10
    assert row["log_loss"] == pytest.approx(second_order)
    assert row["gain"] == pytest.approx(first_order - second_order)
    saved = np.log([after_r / together] * 4 + [(1 - after_u) / (1 - together)] * 6)
    assert row["gain_error"] == pytest.approx(saved.std() / np.sqrt(10))

    def likelihood(k: int, n: int) -> float:
        return k * np.log(k / n) + (n - k) * np.log(1 - k / n)

    ratio = 2 * (likelihood(9, 10) + likelihood(3, 10) - likelihood(12, 20))
    assert (row["likelihood_ratio"], row["n_degrees"]) == (pytest.approx(ratio), 1)
    assert row["p_value"] == pytest.approx(chi2.sf(ratio, 1))


def test_weeks_in_u_are_counted_back_from_this_week_and_stop_at_four() -> None:
    pasts = [0b1111, 0b0111, 0b0011, 0b0001, 0b0000, 0b0100]
    rows = [(9, past, outcome, 5) for past in pasts for outcome in (0, 1)]
    gains = memory_gains(counted(*rows, (10, 0b1111, 1, 1)), n_learned=11).to_pylist()
    # R; U for 1 (twice), 2, 3 and 4 weeks: five cells against the two of the state alone.
    assert [row["n_degrees"] for row in gains] == [1, 3]


@pytest.mark.parametrize(("memory", "words"), [(0.0, "Two states are enough: "), (0.4, "A richer state would help: ")])
def test_alike_caregivers_need_two_states_unless_they_have_memory(
    shared_engine: Backend, memory: float, words: str
) -> None:
    rows = draw_history(3000, 20, seed=4, kinds=ALIKE, memory=memory, p_call=0.05, share_new=0.0)
    control = draw_history(1500, 20, seed=5, kinds=ALIKE, memory=memory, p_call=0.0, share_new=0.0)
    control = control.set_column(0, "caregiver_key", pa.array(np.arange(10_001, 11_501)))
    both = in_engine(shared_engine, pa.concat_tables([rows, control.cast(rows.schema)]))
    found = lag_test(both, OPTIONS, n_weeks=20, never_called=both.filter(both.caregiver_key > 10_000))
    assert found.verdict.startswith(words), found.verdict
    assert [visit.state for visit in found.visits] == ["U", "R"]


def test_differences_that_clusters_leave_are_told_from_memory() -> None:
    gains = memory_gains(
        counted((9, 0b1100, 1, 900), (9, 0b1100, 0, 100), (9, 0b1000, 1, 300), (9, 0b1000, 0, 700),
                (10, 0b1100, 1, 90), (10, 0b1100, 0, 10), (10, 0b1000, 1, 30), (10, 0b1000, 0, 70)),
        n_learned=11,
    )  # fmt: skip
    visit = VisitTest("R", 100, 99.0, 0.1, 0.9)
    found = VisitTest("R", 200, 99.0, 9.0, 1e-9)
    assert lag_verdict(gains, [visit]).startswith(
        "Two states are enough for a caregiver, but clusters leave differences"
    )
    assert lag_verdict(gains, [found]).startswith("A richer state would help: ")
    assert lag_verdict(gains, [found]).endswith("single caregivers' chains show memory in R.")
    assert "no control arm" in lag_verdict(gains, [])


def test_a_short_window_says_that_it_is_too_short(shared_engine: Backend) -> None:
    rows = draw_history(200, 9, seed=1)
    found = lag_test(in_engine(shared_engine, rows), OPTIONS, n_weeks=9)
    assert found.gains.num_rows == 0
    assert found.verdict == "Too few weeks to say whether two states are enough: 10 are needed."
