"""Other policies by what lists tell: targets by hand, and values against a simulated programme's truth."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom

from bandicoot_core.contracts import OFF_POLICY_VALUES
from bandicoot_core.evaluation.listed_policies import POLICIES, off_policy_table, policy_targets

DAYS = (date(2026, 11, 2), date(2026, 11, 3), date(2026, 11, 4))
CLUSTERS = (0, 1)
STATES = ("U", "R")
P_PASSIVE = {(0, "U"): 0.1, (0, "R"): 0.6, (1, "U"): 0.3, (1, "R"): 0.9}
P_ACTIVE = {(0, "U"): 0.2, (0, "R"): 0.6, (1, "U"): 0.8, (1, "R"): 0.95}
LISTED = {(0, "U"): 0.05, (0, "R"): 0.05, (1, "U"): 0.4, (1, "R"): 0.05}
"""Chance of an eligible caregiver to be on a list."""


def eligible_of(n_eligible: list[int], n_listed: int, day: date = DAYS[0]) -> pa.Table:
    """Rows for the four arms of a day."""
    arms = [(cluster, state) for cluster in CLUSTERS for state in STATES]
    return pa.table(
        {
            "call_date": pa.array([day] * 4, pa.date32()),
            "cluster_id": pa.array([cluster for cluster, _ in arms], pa.int16()),
            "state": [state for _, state in arms],
            "n_eligible": n_eligible,
            "n_listed": [n_listed] * 4,
            "n_control": [0] * 4,
            "n_control_responsive": [0] * 4,
            "whittle_index": [0.1, 0.0, 0.9, 0.1],
            "p_passive": [P_PASSIVE[arm] for arm in arms],
            "p_active": [P_ACTIVE[arm] for arm in arms],
        }
    )


def targets(policy: str, eligible: pa.Table) -> list[float]:
    found: list[float] = policy_targets(eligible, POLICIES[policy](eligible)).tolist()
    return found


def test_a_policy_lists_by_score_and_breaks_ties_by_lot() -> None:
    rows = eligible_of([10, 20, 30, 40], n_listed=50)
    assert targets("random", rows) == [0.5] * 4
    # 40 are unresponsive and all listed; 10 calls are left for 60 responsive caregivers.
    assert targets("worst_first", rows) == [1, 1 / 6, 1, 1 / 6]
    # By index: 30 of (1, U), then 50 tied for the other 20 calls.
    assert targets("whittle", rows) == [0.4, 0, 1, 0.4]
    # By the chance gained: 30 of (1, U), 10 of (0, U), then 10 of the 40 of (1, R).
    assert targets("myopic", rows) == pytest.approx([1, 0, 1, 0.25])


def test_each_day_has_its_own_budget_and_more_calls_than_eligible_list_everybody() -> None:
    rows = pa.concat_tables([eligible_of([10, 0, 0, 10], 5), eligible_of([1, 1, 1, 1], 9, DAYS[1])])
    assert targets("random", rows) == [0.25] * 4 + [1] * 4
    assert targets("whittle", rows)[4:] == [1] * 4


def simulated(seed: int, n_caregivers: int = 6_000) -> tuple[pa.Table, pa.Table, dict[str, float]]:
    """Lists, eligible, and each policy's true gain per call, for one draw of caregivers and lists."""
    rng = np.random.default_rng([8, seed])
    listed, eligible = [], []
    gains: dict[str, list[tuple[float, float]]] = {name: [] for name in POLICIES}
    control = rng.random(n_caregivers) < 0.2
    cluster = rng.integers(0, 2, n_caregivers)
    state = np.array(STATES)[rng.integers(0, 2, n_caregivers)]
    arm = [(int(c), str(s)) for c, s in zip(cluster, state, strict=True)]
    # Controls are the same on every day, and so are their outcomes.
    without = rng.random(n_caregivers) < [P_PASSIVE[each] for each in arm]
    for day in DAYS:
        is_listed = (rng.random(n_caregivers) < [LISTED[each] for each in arm]) & np.logical_not(control)
        outcome = rng.random(n_caregivers) < [P_ACTIVE[each] for each in arm]
        rows = eligible_of(
            [int(np.sum([a == each and not c for a, c in zip(arm, control, strict=True)])) for each in P_PASSIVE],
            int(is_listed.sum()),
            day,
        )
        n_control = [int(sum(control[i] and arm[i] == each for i in range(n_caregivers))) for each in P_PASSIVE]
        n_responsive = [
            int(sum(control[i] and without[i] and arm[i] == each for i in range(n_caregivers))) for each in P_PASSIVE
        ]
        rows = rows.set_column(5, "n_control", pa.array(n_control))
        rows = rows.set_column(6, "n_control_responsive", pa.array(n_responsive))
        eligible.append(rows)
        chosen = np.flatnonzero(is_listed)
        listed.append(
            pa.table(
                {
                    "call_date": pa.array([day] * len(chosen), pa.date32()),
                    "cluster_id": pa.array(cluster[chosen], pa.int16()),
                    "state": state[chosen],
                    "propensity": [LISTED[arm[i]] for i in chosen],
                    "is_responsive_next": outcome[chosen],
                }
            )
        )
        lift = np.array([P_ACTIVE[each] - P_PASSIVE[each] for each in P_PASSIVE])
        for name in POLICIES:
            calls = np.array(targets(name, rows)) * rows["n_eligible"].to_numpy()
            gains[name].append((float(calls @ lift), float(calls.sum())))
    truth = {name: sum(g for g, _ in parts) / sum(n for _, n in parts) for name, parts in gains.items()}
    return pa.concat_tables(listed), pa.concat_tables(eligible), truth


def test_the_gain_over_the_control_arm_is_found_and_covered() -> None:
    n_runs = 60
    covered: dict[tuple[str, str], int] = {}
    errors: dict[tuple[str, str], list[float]] = {}
    for seed in range(n_runs):
        listed, eligible, truth = simulated(seed, 2_000)
        table = off_policy_table(listed, eligible)
        assert table.schema == OFF_POLICY_VALUES.arrow_schema()
        for row in table.to_pylist():
            key = row["policy"], row["estimator"]
            covered[key] = covered.get(key, 0) + (row["low"] <= truth[row["policy"]] <= row["high"])
            errors.setdefault(key, []).append(row["value"] - truth[row["policy"]])
    for key, n_covered in covered.items():
        print(key, f"covered {n_covered / n_runs:.2f}, bias {np.mean(errors[key]):+.3f}, sd {np.std(errors[key]):.3f}")
        assert n_covered >= binom.ppf(0.001, n_runs, 0.93), key
        assert abs(np.mean(errors[key])) < 4 * np.std(errors[key]) / np.sqrt(n_runs) + 0.003, key


def test_without_controls_the_model_stands_for_them() -> None:
    listed, eligible, _ = simulated(1, 500)
    without = eligible.set_column(5, "n_control", pa.array([0] * eligible.num_rows))
    without = without.set_column(6, "n_control_responsive", pa.array([0] * eligible.num_rows))
    rows = {row["policy"]: row for row in off_policy_table(listed, without).to_pylist()}
    calls = np.array(targets("random", eligible)) * eligible["n_eligible"].to_numpy()
    assert rows["random"]["p_responsive_control"] == pytest.approx(
        float(calls @ eligible["p_passive"].to_numpy() / calls.sum())
    )


def test_no_list_says_nothing() -> None:
    listed, eligible, _ = simulated(1, 100)
    assert off_policy_table(listed.slice(0, 0), eligible).num_rows == 0
