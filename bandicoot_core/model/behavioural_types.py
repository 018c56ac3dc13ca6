"""Behavioural types of caregivers, and which of them a caregiver may be, given her weeks.

Here: the types as a table and as arrays, the posterior over types from passive and active counts, and what follows
from it for one caregiver: her own index, which is the mean of the types' indices under her posterior. Not here: how
the types and what calls do to them are fitted (`call_effects`, `chances`), and the indices of clusters (`indices`).

A type theta is a point (p_U, p_R) of the grid of `empirical_bayes` with the share pi(theta) of caregivers and the
chances (q_U, q_R) with a call. With a_sR and a_sU her active weeks from s to R and to U, her posterior is

    w(theta) ~ pi(theta) L_passive(theta) prod_s q_s(theta)^a_sR (1 - q_s(theta))^a_sU.

A caregiver with so few weeks that she was assigned by her features has the mix of types of her cluster in the place
of pi. States are ordered [U, R].
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits

from bandicoot_core.contracts import (
    ACTIVE_TUPLE,
    BEHAVIOURAL_TYPES,
    BY_FEATURES,
    CLUSTER_TYPES,
    PASSIVE_TUPLE,
    STATES,
    TUPLE_INDICES,
    conform,
)
from bandicoot_core.engagement.counts import RECENT_ACTIVE_TUPLE
from bandicoot_core.model.empirical_bayes import passive_likelihood, share_started_in_r
from bandicoot_core.model.posterior import FloatArray
from bandicoot_core.model.whittle import two_state_indices

IntArray = npt.NDArray[np.int64]

_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class BehaviouralTypes:
    """The types, and how they are mixed in each cluster."""

    share: FloatArray
    """pi(theta), (n_types,)."""
    p_passive: FloatArray
    """p_s(theta), (2, n_types)."""
    p_active: FloatArray
    """q_s(theta), (2, n_types)."""
    cluster_id: IntArray
    """The cluster whose centroid is nearest to the type, (n_types,)."""
    mix: FloatArray
    """Shares of the types among the members of each cluster, (n_clusters, n_types)."""

    def indices(self, *, discount: float) -> FloatArray:
        """The Whittle index of each type in U and in R, (2, n_types)."""
        return two_state_indices(self.p_passive.T, self.p_active.T, discount=discount).T

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """BEHAVIOURAL_TYPES and CLUSTER_TYPES."""
        n_clusters, n_types = self.mix.shape
        types = {
            "type_id": np.arange(n_types),
            "share": self.share,
            "p_passive_u": self.p_passive[0],
            "p_passive_r": self.p_passive[1],
            "p_active_u": self.p_active[0],
            "p_active_r": self.p_active[1],
            "cluster_id": self.cluster_id,
        }
        mix = {
            "cluster_id": np.repeat(np.arange(n_clusters), n_types),
            "type_id": np.tile(np.arange(n_types), n_clusters),
            "share": self.mix.ravel(),
        }
        return conform(pa.table(types), BEHAVIOURAL_TYPES), conform(pa.table(mix), CLUSTER_TYPES)

    @classmethod
    def from_tables(cls, types: pa.Table, cluster_types: pa.Table) -> "BehaviouralTypes":
        """The types of a model from BEHAVIOURAL_TYPES and CLUSTER_TYPES; ValueError when a row is missing."""
        types, cluster_types = conform(types, BEHAVIOURAL_TYPES), conform(cluster_types, CLUSTER_TYPES)
        n_types = types.num_rows
        n_clusters = cluster_types.num_rows // max(n_types, 1)
        expected = [(k, t) for k in range(n_clusters) for t in range(n_types)]
        found = list(zip(cluster_types["cluster_id"].to_pylist(), cluster_types["type_id"].to_pylist(), strict=True))
        if found != expected or types["type_id"].to_pylist() != list(range(n_types)):
            raise ValueError(
                f"behavioural_types has {n_types} rows and cluster_types {len(found)}; expected types 0 to n - 1, and "
                "each of them once in every cluster; both must come from the same training run"
            )

        def column(table: pa.Table, name: str) -> FloatArray:
            return np.asarray(table[name].to_numpy(), dtype=np.float64)

        return cls(
            share=column(types, "share"),
            p_passive=np.stack([column(types, "p_passive_u"), column(types, "p_passive_r")]),
            p_active=np.stack([column(types, "p_active_u"), column(types, "p_active_r")]),
            cluster_id=np.asarray(types["cluster_id"].to_numpy(), dtype=np.int64),
            mix=column(cluster_types, "share").reshape(n_clusters, n_types),
        )


class Evidence:
    """Rows of counts as arrays, and what each type makes of them.

    `tuples` has PASSIVE_TUPLE, and may have ACTIVE_TUPLE (without it weeks with calls are unknown) and n_caregivers
    (without it each row is one). With RECENT_ACTIVE_TUPLE, sums over the caregivers of a row, there are weighted active
    weeks beside them; the likelihood is that of all weeks alike, or it would no longer condition on what selected
    them. The likelihood of passive counts is kept per distinct tuple and start.
    """

    def __init__(self, tuples: pa.Table, p_passive: FloatArray) -> None:
        n_rows = tuples.num_rows
        passive = _columns(tuples, PASSIVE_TUPLE)
        active = _columns(tuples, ACTIVE_TUPLE) if ACTIVE_TUPLE[0] in tuples.column_names else np.zeros((n_rows, 4))
        self.n_caregivers: FloatArray = (
            _columns(tuples, ("n_caregivers",))[:, 0] if "n_caregivers" in tuples.column_names else np.ones(n_rows)
        )
        # Counts are RR, RU, UR, UU; states are [U, R].
        every = passive + active
        knows_all_weeks = ACTIVE_TUPLE[0] in tuples.column_names
        start = share_started_in_r(every[:, [2, 0]], every[:, [3, 1]]) if knows_all_weeks else np.zeros(n_rows)
        distinct, which = np.unique(np.column_stack([passive, start]), axis=0, return_inverse=True, equal_nan=True)
        self.which: IntArray = which.reshape(-1).astype(np.int64)
        """Row of `likelihood` that belongs to each row."""
        self.likelihood = passive_likelihood(
            pa.table(dict(zip(PASSIVE_TUPLE, distinct[:, :-1].T, strict=True))),
            p_passive,
            distinct[:, -1] if knows_all_weeks else None,
        )
        self.weeks: FloatArray = np.stack([passive[:, 2] + passive[:, 3], passive[:, 0] + passive[:, 1]], axis=-1)
        self.to_r: FloatArray = active[:, [2, 0]]
        self.to_u: FloatArray = active[:, [3, 1]]
        if RECENT_ACTIVE_TUPLE[0] in tuples.column_names:
            active = _columns(tuples, RECENT_ACTIVE_TUPLE) / self.n_caregivers[:, None]
        self.weighted_to_r: FloatArray = active[:, [2, 0]]
        self.weighted_weeks: FloatArray = active[:, [2, 0]] + active[:, [3, 1]]
        """Active weeks by state with their weights: what effects of calls are estimated from."""
        self.order: IntArray = np.lexsort(np.concatenate([self.to_r, self.to_u], axis=1).T).astype(np.int64)
        """Rows with equal active counts stand together, those without calls first."""
        self.n_quiet = int(((self.to_r + self.to_u).sum(axis=1) == 0).sum())

    def caregivers_by_tuple(self) -> FloatArray:
        """Caregivers of each row of `likelihood`."""
        return np.bincount(self.which, self.n_caregivers, len(self.likelihood)).astype(np.float64)

    def chunks(self, p_active: FloatArray, *, start: int = 0) -> Iterator[tuple[IntArray, FloatArray]]:
        """Rows and their likelihood under each type, (n_chunk, n_types), of the rows from `start` on in their order."""
        logarithms = np.concatenate([np.log(p_active), np.log1p(-p_active)])
        for first in range(start, len(self.order), _CHUNK_ROWS):
            rows = self.order[first : first + _CHUNK_ROWS]
            active, which = np.unique(
                np.concatenate([self.to_r[rows], self.to_u[rows]], axis=1), axis=0, return_inverse=True
            )
            yield rows, self.likelihood[self.which[rows]] * np.exp(active @ logarithms)[which.reshape(-1)]


def posteriors(types: BehaviouralTypes, tuples: pa.Table) -> Iterator[tuple[IntArray, FloatArray]]:
    """Rows of `tuples` in chunks, and the posterior over types of a caregiver of each: (n_chunk, n_types), sums 1.

    `tuples` has PASSIVE_TUPLE and ACTIVE_TUPLE, and for caregivers assigned by features cluster_id and assigned_by.
    """
    evidence = Evidence(tuples, types.p_passive)
    is_by_features = np.zeros(tuples.num_rows, dtype=bool)
    if "assigned_by" in tuples.column_names:
        is_by_features = np.asarray(tuples["assigned_by"].to_pylist(), dtype=object) == BY_FEATURES
    priors = np.concatenate([types.mix, types.share[None]])
    which_prior = np.full(tuples.num_rows, len(types.mix), dtype=np.int64)
    if is_by_features.any():
        cluster_ids = np.asarray(tuples["cluster_id"].to_numpy(), dtype=np.int64)
        which_prior[is_by_features] = cluster_ids[is_by_features]
    for rows, weight in evidence.chunks(types.p_active):
        yield rows, normalized(weight * priors[which_prior[rows]])


def means_under_posteriors(types: BehaviouralTypes, tuples: pa.Table, values: FloatArray) -> FloatArray:
    """Posterior means of numbers that belong to types: values (n_types, n), returned (n_rows, n), in the rows' order.

    One thread: the order of additions, and with it the last digit, would depend on the number of cores.
    """
    means = np.empty((tuples.num_rows, values.shape[1]))
    with threadpool_limits(limits=1):
        for rows, posterior in posteriors(types, tuples):
            means[rows] = posterior @ values
    return means


def own_index_table(combos: pa.Table, types: BehaviouralTypes, *, discount: float) -> pa.Table:
    """The index of a caregiver's own weeks, for every combination of counts and cluster [TUPLE_INDICES].

    combos: distinct rows of PASSIVE_TUPLE, ACTIVE_TUPLE, cluster_id and assigned_by. The own index in state s is the
    mean of the types' indices in s under her posterior: the index is what a call is worth, so its expectation ranks
    by expected worth; the index of mean chances would not. ValueError for a discount outside (0, 1).
    """
    own = means_under_posteriors(types, combos, types.indices(discount=discount).T)
    names = (*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id")
    return conform(
        pa.table(
            {
                **{name: np.repeat(combos[name].to_numpy(), len(STATES)) for name in names},
                "state": list(STATES) * combos.num_rows,
                "own_index": own.ravel(),
            }
        ),
        TUPLE_INDICES,
    )


def normalized(weight: FloatArray) -> FloatArray:
    """Rows divided by their sums, in place."""
    weight /= weight.sum(axis=1, keepdims=True)
    return weight


def _columns(table: pa.Table, names: tuple[str, ...]) -> FloatArray:
    return np.stack([np.asarray(table[name].to_numpy(), dtype=np.float64) for name in names], axis=-1)
