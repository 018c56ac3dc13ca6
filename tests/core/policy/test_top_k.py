from itertools import product
from typing import Any

import numpy as np
import policy_tables as given
import pyarrow as pa
import pytest
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend

from bandicoot_core.model.behavioural_types import BehaviouralTypes, posteriors
from bandicoot_core.model.whittle import two_state_indices
from bandicoot_core.policy.top_k import (
    IndexPosterior,
    alike,
    in_top_shares,
    p_top_k,
    p_top_k_by_caregiver,
    p_top_k_by_cluster,
)

CHANCES = ((0.10, 0.60, 0.30, 0.75), (0.30, 0.80, 0.45, 0.85), (0.05, 0.40, 0.20, 0.50))


def group(n_eligible: int, *, cluster_id: int = 0, state: str = "U", **facts: Any) -> dict[str, Any]:
    return {
        **given.NO_WEEKS,
        "cluster_id": cluster_id,
        "assigned_by": "history",
        "state": state,
        "n_eligible": n_eligible,
        **facts,
    }


def groups_of(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def test_slots_go_to_groups_in_the_order_of_their_indices_and_the_last_is_shared() -> None:
    draws = np.array([[0.3, 0.9, 0.1], [0.3, 0.2, 0.1]])
    # 5 slots. First draw: 2 of the second group, then 3 of the 4 of the first. Second: all 4, then 1 of 2.
    assert in_top_shares([4, 2, 10], draws, k=5).tolist() == [(3 / 4 + 1) / 2, (1 + 1 / 2) / 2, 0.0]


def test_groups_with_equal_indices_share_their_slots_in_proportion() -> None:
    assert in_top_shares([2, 6, 1], np.array([[0.5, 0.5, 0.9]]), k=5).tolist() == [0.5, 0.5, 1.0]


@settings(max_examples=60, deadline=None, derandomize=True)
@each(
    n=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    k=st.integers(0, 60),
    seed=st.integers(0, 1000),
)
def test_the_expected_number_in_the_top_is_the_number_of_slots(n: list[int], k: int, seed: int) -> None:
    draws = np.random.default_rng(seed).integers(0, 4, (20, len(n))) / 4
    shares = in_top_shares(n, draws, k=k)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert shares @ np.array(n) == pytest.approx(min(k, sum(n)))


@pytest.mark.parametrize(("n", "k"), [([1, -1], 1), ([1, 1], -1), ([1, 1, 1], 1)])
def test_groups_that_cannot_be_are_refused(n: list[int], k: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        in_top_shares(n, np.zeros((3, 2)), k=k)


def test_the_chance_by_cluster_is_that_of_brute_force_over_caregivers() -> None:
    posterior = given.index_posterior(CHANCES, n_effective=60.0)
    cells = [(cluster_id, state) for cluster_id in range(3) for state in "UR"]
    sizes = [5, 3, 2, 6, 4, 5]
    groups = groups_of(
        *(group(n, cluster_id=c, state=s) for (c, s), n in zip(cells, sizes, strict=True)),
    )
    found = p_top_k_by_cluster(groups, posterior, k=7, n_draws=4000)

    # Every caregiver on her own: draw the chances of clusters, order all 25, break ties by chance, take 7.
    random = np.random.default_rng(3)
    n_draws = 4000
    chances = np.array(CHANCES)
    drawn = random.beta(60 * chances, 60 * (1 - chances), size=(n_draws, 3, 4))
    index = two_state_indices(drawn[..., :2], drawn[..., 2:], discount=0.95).reshape(n_draws, 6)
    member_of = np.repeat(np.arange(6), sizes)
    everybody = index[:, member_of] + 1e-9 * random.random((n_draws, 25))
    is_top = everybody >= np.sort(everybody, axis=1)[:, [-7]]
    by_hand = np.array([is_top[:, member_of == g].mean() for g in range(6)])
    assert found == pytest.approx(by_hand, abs=0.025)
    assert found @ np.array(sizes) == pytest.approx(7)


def own_types() -> BehaviouralTypes:
    """Four types on a small grid, in two clusters."""
    points = list(product((0.1, 0.5), (0.5, 0.9)))
    return BehaviouralTypes(
        share=np.array([0.4, 0.3, 0.2, 0.1]),
        p_passive=np.array(points).T,
        p_active=np.array([[0.5, 0.2, 0.6, 0.5], [0.6, 0.95, 0.6, 0.9]]),
        cluster_id=np.array([0, 0, 1, 1]),
        mix=np.array([[0.7, 0.3, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]),
    )


def test_the_chance_by_caregiver_is_that_of_brute_force_over_caregivers() -> None:
    types = own_types()
    posterior = IndexPosterior(given.transitions(CHANCES[:2], 8.0), types, discount=0.95, seed=7)
    groups = groups_of(
        group(30, n_uu=9, n_ur=1),
        group(25, n_uu=4, n_ur=4, n_rr=5, cluster_id=1),
        group(20, n_rr=12, state="R"),
        group(10, n_uu=5, n_active_ur=2),
        group(15, cluster_id=1, assigned_by="features", state="R"),
    )
    found = p_top_k_by_caregiver(groups, posterior, k=20, n_draws=1500)

    random = np.random.default_rng(5)
    chance_of_type = np.empty((5, 4))
    for rows, weight in posteriors(types, groups):
        chance_of_type[rows] = weight
    chances = np.array(CHANCES[:2])
    member_of = np.repeat(np.arange(5), groups["n_eligible"].to_numpy())
    state = np.array([0, 0, 1, 0, 1])[member_of]
    n_top = np.zeros(5)
    n_draws = 1500
    for _ in range(n_draws):
        q = random.beta(8 * chances[:, 2:], 8 * (1 - chances[:, 2:]))
        moved = np.log(q / (1 - q)) - np.log(chances[:, 2:] / (1 - chances[:, 2:]))
        odds = types.p_active / (1 - types.p_active) * np.exp(moved[types.cluster_id].T)
        index = two_state_indices(types.p_passive.T, (odds / (1 + odds)).T, discount=0.95)
        kind = (chance_of_type[member_of].cumsum(axis=1) < random.random((100, 1))).sum(axis=1)
        hers = index[kind, state] + 1e-9 * random.random(100)
        n_top += np.bincount(member_of, hers >= np.sort(hers)[-20], 5)
    by_hand = n_top / n_draws / groups["n_eligible"].to_numpy()
    assert by_hand.max() - by_hand.min() > 0.2
    assert found == pytest.approx(by_hand, abs=0.03)
    assert found @ groups["n_eligible"].to_numpy() == pytest.approx(20)


def test_by_features_her_cluster_is_all_that_is_known_of_her_type() -> None:
    types = own_types()
    posterior = IndexPosterior(given.transitions(CHANCES[:2], 1e9), types, discount=0.95, seed=7)
    groups = groups_of(*(group(4, cluster_id=c, assigned_by="features") for c in (0, 1)))
    of_type = 4 * types.mix.sum(axis=0)
    of_types = in_top_shares(of_type, types.indices(discount=0.95)[:1], k=3)
    found = p_top_k_by_caregiver(groups, posterior, k=3, n_draws=20)
    assert found == pytest.approx(types.mix @ of_types, abs=1e-3)
    # The same counts by history: the population's types, whatever the cluster.
    by_history = groups.set_column(groups.column_names.index("assigned_by"), "assigned_by", pa.array(["history"] * 2))
    one, other = p_top_k_by_caregiver(by_history, posterior, k=3, n_draws=20)
    assert one == pytest.approx(other)


def test_more_evidence_makes_the_chances_surer() -> None:
    groups = groups_of(*(group(50, cluster_id=c, state=s) for c in range(3) for s in "UR"))

    def spread(n_effective: float) -> float:
        found = p_top_k_by_cluster(groups, given.index_posterior(CHANCES, n_effective=n_effective), k=50)
        return float(np.abs(found - 1 / 6).max())

    assert spread(5) < spread(50) < spread(5000)
    assert spread(1e7) == pytest.approx(5 / 6)


def test_rows_get_the_chance_of_their_group_in_their_own_order(engine: Backend) -> None:
    posterior = given.index_posterior(CHANCES, n_effective=30.0)
    people = pa.Table.from_pylist(
        [
            {key: value for key, value in group(0, cluster_id=c, state=s).items() if key != "n_eligible"}
            | {"caregiver_key": key}
            for key, (c, s) in enumerate([(0, "U"), (0, "U"), (1, "R"), (2, "U"), (1, "R"), (0, "U")])
        ]
    )
    for index_level in ("caregiver", "cluster"):
        groups = alike(engine.create_table(f"people_{index_level}", people), index_level).to_pyarrow()
        assert sorted(groups["n_eligible"].to_pylist()) == [1, 2, 3]
        found = p_top_k(people.take([3, 0, 2]), groups, posterior, k=2, index_level=index_level)
        again = p_top_k(people, groups.take([2, 0, 1]), posterior, k=2, index_level=index_level)
        assert found.tolist() == again[[3, 0, 2]].tolist()
        assert again.sum() == pytest.approx(2)
        assert p_top_k(people.slice(0, 0), groups, posterior, k=2, index_level=index_level).tolist() == []


def test_a_row_that_is_not_among_the_eligible_is_refused() -> None:
    groups = groups_of(group(3))
    rows = groups_of(group(1, cluster_id=0, state="R"))
    with pytest.raises(ValueError, match="1 rows are not among the eligible"):
        p_top_k(rows, groups, given.index_posterior(CHANCES), k=1, index_level="cluster")
