"""Arms are balanced within strata, nested in the share, and drawn once whoever comes when."""

import hashlib
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.policy.experiment import BLOCK_SIZE, arms, draw_caregivers, is_control, strata

START = datetime(2026, 1, 4, tzinfo=UTC)
SHARES = (0.1, 0.25, 0.5, 0.9, 1.0)


def registry(n_caregivers: int, *, n_districts: int = 3, seed: int = 1) -> pa.Table:
    """Caregivers in order of enrolment, an hour apart, with facts at random, some of them unknown."""
    rng = np.random.default_rng(seed)
    age = rng.integers(15, 45, n_caregivers)
    return pa.table(
        {
            "caregiver_id": [f"CG-{number}" for number in range(n_caregivers)],
            "enrolled_at": pa.array(
                [START + timedelta(hours=hour) for hour in range(n_caregivers)], pa.timestamp("us", tz="UTC")
            ),
            "district": pa.array([f"D{d}" for d in rng.integers(0, n_districts, n_caregivers)]),
            "age": pa.array(age, pa.int32(), mask=rng.random(n_caregivers) < 0.1),
            "parity": pa.array(rng.integers(1, 6, n_caregivers), pa.int16()),
            "phone_reliable": pa.array(rng.random(n_caregivers) < 0.7, mask=rng.random(n_caregivers) < 0.05),
        }
    )


def alike(n_caregivers: int) -> pa.Table:
    """Caregivers of one stratum, in order of enrolment."""
    rows = registry(n_caregivers)
    same = {"district": "Patna", "age": 24, "parity": 1, "phone_reliable": True}
    return pa.table(
        {
            "caregiver_id": rows["caregiver_id"],
            "enrolled_at": rows["enrolled_at"],
            **{name: pa.array([value] * n_caregivers) for name, value in same.items()},
        }
    )


def draws(rows: pa.Table, experiment: str = "demo") -> np.ndarray:
    return draw_caregivers(rows, experiment=experiment, n_drawn={})["draw"].to_numpy()


def test_a_stratum_names_the_facts_within_which_arms_are_balanced_and_unknown_is_one_of_their_values() -> None:
    rows = pa.table(
        {
            "district": pa.array([" Patna ", "Gaya", None, ""]),
            "age": pa.array([20, 21, None, 90]),
            "parity": pa.array([1, 2, 4, None]),
            "phone_reliable": pa.array([True, False, None, True]),
        }
    )
    assert strata(rows).to_pylist() == [
        "Patna | age under 21 | parity 0 or 1 | phone reliable",
        "Gaya | age 21 to 29 | parity 2 or 3 | phone unreliable",
        "unknown | age unknown | parity 4 or more | phone unknown",
        "unknown | age unknown | parity unknown | phone reliable",
    ]


def test_the_draws_of_a_block_follow_from_the_hash_of_its_name() -> None:
    drawn = draw_caregivers(alike(25), experiment="demo", n_drawn={})
    name = "Patna | age 21 to 29 | parity 0 or 1 | phone reliable"
    assert drawn["stratum"].unique().to_pylist() == [name]
    assert drawn["block"].to_pylist() == [0] * 20 + [1] * 5
    for block, first, last in ((0, 0, 20), (1, 20, 25)):
        digest = hashlib.shake_256(f"demo\0{name}\0{block}".encode()).digest(160)
        words = [int.from_bytes(digest[4 * k : 4 * k + 4], "big") for k in range(40)]
        ranks = [sorted(words[:20]).index(word) for word in words[:20]]
        expected = [(ranks[slot] + (words[20 + slot] + 0.5) / 2**32) / 20 for slot in range(last - first)]
        assert drawn["draw"].to_pylist()[first:last] == expected


@pytest.mark.parametrize("share", SHARES)
def test_every_full_block_has_exactly_its_share_in_treatment(share: float) -> None:
    rows = registry(4_000)
    drawn = draw_caregivers(rows, experiment="demo", n_drawn={})
    control = is_control(drawn["draw"].to_numpy(), rollout_share=share)
    blocks = list(zip(drawn["stratum"].to_pylist(), drawn["block"].to_pylist(), strict=True))
    size, treated = Counter(blocks), Counter(b for b, c in zip(blocks, control, strict=True) if not c)
    full = [block for block, n in size.items() if n == BLOCK_SIZE]
    assert len(full) > 100
    assert {treated[block] for block in full} == {round(BLOCK_SIZE * share)}


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=6), seed=st.integers(0, 5))
def test_draws_do_not_depend_on_who_came_at_once_or_in_which_order_the_rows_stand(cuts: list[int], seed: int) -> None:
    rows = registry(300, seed=seed)
    at_once = draw_caregivers(rows, experiment="demo", n_drawn={})
    n_drawn: Counter[str] = Counter()
    parts = []
    for first, last in pairwise([0, *sorted(cuts), 300]):
        shuffled = np.random.default_rng(seed).permutation(last - first)
        part = draw_caregivers(rows.slice(first, last - first).take(shuffled), experiment="demo", n_drawn=n_drawn)
        n_drawn.update(part["stratum"].to_pylist())
        parts.append(part.take(np.argsort(shuffled)))
    assert pa.concat_tables(parts).to_pylist() == at_once.to_pylist()


def test_raising_the_share_only_moves_caregivers_from_control_to_treatment() -> None:
    drawn = draws(registry(2_000))
    controls = [is_control(drawn, rollout_share=share) for share in SHARES]
    for smaller, larger in pairwise(controls):
        assert smaller[larger].all()
        assert smaller.sum() > larger.sum()
    assert not controls[-1].any()


def test_arms_are_balanced_in_every_stratum_up_to_one_block() -> None:
    drawn = draw_caregivers(registry(3_000), experiment="demo", n_drawn={})
    treated = arms(drawn["draw"].to_numpy(), rollout_share=0.5) == "treatment"
    sizes, n_treated = (
        Counter(drawn["stratum"].to_pylist()),
        Counter(name for name, is_treated in zip(drawn["stratum"].to_pylist(), treated, strict=True) if is_treated),
    )
    assert all(abs(n_treated[name] - n / 2) <= BLOCK_SIZE / 2 for name, n in sizes.items())


def test_draws_are_uniform_and_another_experiment_draws_independently() -> None:
    rows = registry(20_000)
    first, second = draws(rows), draws(rows, "autumn")
    share_below = np.array([np.mean(first < u) for u in np.linspace(0.1, 0.9, 9)])
    assert np.abs(share_below - np.linspace(0.1, 0.9, 9)).max() < 0.01
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert 0 < first.min() < first.max() < 1


def test_who_enrolled_at_an_unknown_time_comes_last() -> None:
    rows = alike(30)
    instants = rows["enrolled_at"].to_pylist()
    unknown = rows.set_column(1, "enrolled_at", pa.array([None, *instants[1:]], pa.timestamp("us", tz="UTC")))
    drawn = draw_caregivers(unknown, experiment="demo", n_drawn={})
    assert drawn["block"].to_pylist() == [1] + [0] * 20 + [1] * 9


def test_nobody_new_is_nothing_to_draw() -> None:
    assert draw_caregivers(registry(0), experiment="demo", n_drawn={"a": 3}).num_rows == 0


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_outside_its_bounds_is_refused(share: float) -> None:
    with pytest.raises(InvalidSettingError, match=r"rollout_share is .*; it must lie above 0 and not above 1"):
        is_control(np.array([0.5]), rollout_share=share)


def test_a_hundred_thousand_caregivers_are_drawn_in_little_time() -> None:
    rows = registry(100_000)
    started = time.perf_counter()
    draws(rows)
    assert time.perf_counter() - started < 3
