"""Programmes with known truth: caregivers of several behavioural types, weeks with and without calls, and clusters.

Here: how such a programme is drawn and what an estimator is given of it. Not here: the estimators and how they compare
(`estimation`). Calls are made at random, so that nothing but the estimators differs.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import expit, logit

from bandicoot_core.contracts import ACTIVE_TUPLE, BY_HISTORY, PASSIVE_TUPLE
from bandicoot_core.model.behavioural_types import IntArray
from bandicoot_core.model.clusters import fit_clusters
from bandicoot_core.model.posterior import FloatArray

_N_CELLS_PER_CLUSTER = 2


@dataclass(frozen=True)
class SimulatedProgramme:
    """A programme's truth and what is known of it; n caregivers, m distinct rows of counts."""

    chances: FloatArray
    """True P(next = R), (n, 2, 2): caregiver, state [U, R], action [passive, active]."""
    state: IntArray
    """State after the last week, (n,): 0 is U, 1 is R."""
    weeks: FloatArray
    """Passive weeks by the state they started in, (n, 2)."""
    cluster_id: IntArray
    """(n,)."""
    row: IntArray
    """Row of `tuples` of each caregiver, (n,)."""
    tuples: pa.Table
    """Distinct counts with cluster_id, assigned_by and n_caregivers, as model.chances.member_tuples gives them."""
    clusters: pa.Table
    """CLUSTERS."""

    def cluster_truth(self) -> FloatArray:
        """True mean chances of each cluster, (n_clusters, 2, 2), members weighted by their weeks in the state."""
        n_clusters = self.clusters.num_rows
        means = np.empty((n_clusters, 2, 2))
        for s in range(2):
            # A cluster without a week in the state: members weigh equally.
            weight = self.weeks[:, s] + 1e-9
            total = np.bincount(self.cluster_id, weight, n_clusters)
            for action in range(2):
                sums = np.bincount(self.cluster_id, weight * self.chances[:, s, action], n_clusters)
                means[:, s, action] = sums / total
        return means


def random_types(
    random: np.random.Generator, *, n_types: int = 6, has_effect: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Behavioural types (n_types, 2, 2) by state and action, and their shares: no two programmes are alike.

    Passive chances in log-odds: U around -1.3 (spread 1.2), R above it by a half-normal step around 1.8 (0.8). A call
    adds a lift around 0.6 (0.7) per type and state, or nothing at all.
    """
    p_u = random.normal(-1.3, 1.2, n_types)
    p_r = p_u + np.abs(random.normal(1.8, 0.8, n_types))
    passive = np.stack([p_u, p_r], axis=-1)
    lift = random.normal(0.6, 0.7, (n_types, 2)) if has_effect else np.zeros((n_types, 2))
    return expit(np.stack([passive, passive + lift], axis=-1)), random.dirichlet(np.full(n_types, 3.0))


def sharp_types(random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Four types (4, 2, 2) far apart in what a call does to them, though not in how they behave, and drawn shares (4,).

    Those who stay responsive, sleepers whom a call wakes, those who fade and whom it keeps, and those whom it leaves
    as they are: clusters of passive behaviour can't tell the middle two apart.
    """
    passive = np.array([[0.60, 0.94], [0.06, 0.70], [0.09, 0.80], [0.25, 0.70]])
    active = np.array([[0.70, 0.96], [0.55, 0.74], [0.15, 0.95], [0.25, 0.70]])
    return np.stack([passive, active], axis=-1), random.dirichlet(np.full(len(passive), 8.0))


def simulate_programme(
    types: FloatArray,
    shares: FloatArray,
    random: np.random.Generator,
    *,
    n_caregivers: int,
    n_active: float,
    n_weeks: int = 26,
    n_clusters: int = 20,
    spread: float = 0.3,
) -> SimulatedProgramme:
    """A programme of caregivers who start in their stationary state, clustered as in a training run.

    types: (n_types, 2, 2) by state [U, R] and action [passive, active]; shares: (n_types,). Caregivers of a type
    differ by a normal step in log-odds with the standard deviation `spread`, one for each state, the same with a call
    and without. n_active: active weeks per cluster and state, on average; each caregiver-week is active with the same
    chance.
    """
    kind = random.choice(len(types), n_caregivers, p=shares)
    chances = expit(logit(types[kind]) + random.normal(0, spread, (n_caregivers, 2, 1)))
    share_active = n_active * n_clusters * _N_CELLS_PER_CLUSTER / (n_caregivers * (n_weeks - 1))
    p_u, p_r = chances[:, 0, 0], chances[:, 1, 0]
    state = (random.random(n_caregivers) < p_u / (p_u + 1 - p_r)).astype(np.int64)
    counts = np.zeros((n_caregivers, 2, 2, 2), dtype=np.int64)
    everyone = np.arange(n_caregivers)
    for _ in range(n_weeks - 1):
        is_active = (random.random(n_caregivers) < share_active).astype(np.int64)
        following = (random.random(n_caregivers) < chances[everyone, state, is_active]).astype(np.int64)
        counts[everyone, is_active, state, following] += 1
        state = following
    return _clustered(chances, state, counts, n_clusters=n_clusters)


def _clustered(chances: FloatArray, state: IntArray, counts: IntArray, *, n_clusters: int) -> SimulatedProgramme:
    # By action, from U and R to U and R, laid out as RR, RU, UR, UU.
    flat = counts[:, :, ::-1, ::-1].reshape(len(counts), 8)
    passive, sizes = np.unique(flat[:, :4], axis=0, return_counts=True)
    table = pa.table({**dict(zip(PASSIVE_TUPLE, passive.T, strict=True)), "n_caregivers": sizes})
    fit = fit_clusters(table, n_clusters=n_clusters, min_cluster_share=0.001, seed=7)
    clustered = np.stack([fit.tuple_clusters[name].to_numpy() for name in PASSIVE_TUPLE], axis=-1)
    cluster_of = dict(zip(map(tuple, clustered.tolist()), fit.tuple_clusters["cluster_id"].to_pylist(), strict=True))
    is_clustered = flat[:, :4].sum(axis=1) > 0
    flat, chances, state = flat[is_clustered], chances[is_clustered], state[is_clustered]
    tuples, row, n_alike = np.unique(flat, axis=0, return_inverse=True, return_counts=True)
    cluster_ids = np.array([cluster_of[tuple(counts)] for counts in tuples[:, :4].tolist()], dtype=np.int64)
    row = row.reshape(-1).astype(np.int64)
    return SimulatedProgramme(
        chances=chances,
        state=state,
        weeks=np.stack([flat[:, 2] + flat[:, 3], flat[:, 0] + flat[:, 1]], axis=-1).astype(np.float64),
        cluster_id=cluster_ids[row],
        row=row,
        tuples=pa.table(
            {
                **dict(zip((*PASSIVE_TUPLE, *ACTIVE_TUPLE), tuples.T, strict=True)),
                "cluster_id": cluster_ids,
                "assigned_by": [BY_HISTORY] * len(tuples),
                "n_caregivers": n_alike,
            }
        ),
        clusters=fit.clusters,
    )
