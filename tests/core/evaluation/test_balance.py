"""The balance table on a few caregivers checked by eye, and its p-values under a draw carried out as planned."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom

from bandicoot_core.contracts import EXPERIMENT_BALANCE
from bandicoot_core.evaluation.balance import balance_table

ARMS = [True, True, False, False]
ONE_BLOCK = [0, 0, 0, 0]


def test_each_number_has_its_means_and_each_level_its_shares() -> None:
    facts = pa.table(
        {
            "age": pa.array([20, 30, 30, None], pa.int16()),
            "phone_reliable": pa.array([True, True, None, False]),
            "district": ["Patna"] * 4,
        }
    )
    table = balance_table(facts, ARMS, ONE_BLOCK, seed=1)
    assert table.schema == EXPERIMENT_BALANCE.arrow_schema()
    rows = {(row["fact"], row["level"]): row for row in table.to_pylist()}
    assert {key: (row["treatment_mean"], row["control_mean"]) for key, row in rows.items()} == {
        ("age", None): (25, 30),
        ("age", "unknown"): (0, 0.5),
        ("district", "Patna"): (1, 1),
        ("phone_reliable", "true"): (1, 0),
        ("phone_reliable", "false"): (0, 0.5),
        ("phone_reliable", "unknown"): (0, 0.5),
    }
    # (25 - 30) / sqrt((25 + 0) / 2), and (0 - 0.5) / sqrt((0 + 0.25) / 2).
    assert rows["age", None]["standardized_difference"] == pytest.approx(-5 / np.sqrt(12.5))
    assert rows["age", "unknown"]["standardized_difference"] == pytest.approx(-0.5 / np.sqrt(0.125))
    assert rows["district", "Patna"]["standardized_difference"] == 0


def test_the_p_value_is_the_share_of_draws_as_uneven_and_one_where_the_draw_has_no_say() -> None:
    facts = pa.table({"x": [1.0, 1.0, 0.0, 0.0], "district": ["Patna"] * 4})
    table = balance_table(facts, ARMS, ONE_BLOCK, n_redraws=5_999, seed=1)
    # Of the 6 ways to choose 2 of 4, the one found and its mirror image are as uneven.
    by_fact = dict(zip(table["fact"].to_pylist(), table["p_value"].to_pylist(), strict=True))
    assert by_fact["x"] == pytest.approx(1 / 3, abs=0.03)
    assert by_fact["district"] == 1


def test_under_a_draw_as_planned_one_fact_in_twenty_looks_uneven() -> None:
    rng = np.random.default_rng(3)
    block = np.repeat(np.arange(20), 20)
    arms = rng.permuted(np.tile(np.arange(20) < 18, (20, 1)), axis=1).ravel()
    facts = pa.table({f"fact {k}": rng.normal(size=400) for k in range(300)})
    table = balance_table(facts, arms, block, n_redraws=199, seed=1)
    n_uneven = int((table["p_value"].to_numpy() <= 0.05).sum())
    assert binom.ppf(0.001, 300, 0.05) <= n_uneven <= binom.ppf(0.999, 300, 0.05)


def test_an_empty_arm_or_other_shapes_are_refused() -> None:
    facts = pa.table({"x": [1.0, 2.0]})
    with pytest.raises(ValueError, match="with 2 treated"):
        balance_table(facts, [True, True], [0, 0], seed=1)
    with pytest.raises(ValueError, match="expected one entry per row"):
        balance_table(facts, [True], [0], seed=1)
