"""Where cohorts come from: two seeded generators with known chances, and a fitted model's own tables.

Each returns a `Cohort`. Not here: what a cohort is (`cohorts`), and how the tables of a fitted model come about.
"""

import numpy as np
import pyarrow as pa
from scipy.special import expit, logit

from bandicoot_core.contracts import RESPONSIVE, STATES
from bandicoot_core.evaluation.cohorts import Cohort, IntArray
from bandicoot_core.model.arm_validation import FloatArray
from bandicoot_core.model.transitions import transition_arrays

UNKNOWN_DISTRICT = "(unknown)"
"""What a missing district is called in a cohort: it competes for the shared calls."""

# Trials of a simulation have spawn keys of one number.
_COHORT_STREAM = 0

_OWN_CHANCES = ("p_passive_u", "p_passive_r", "p_active_u", "p_active_r")


def public_cohort(
    seed: int, *, n_arms: int = 500, budget: int = 60, n_weeks: int = 12, n_districts: int = 5, discount: float = 0.99
) -> Cohort:
    """The standard cohort of this evaluation: every caregiver differs, and a call always helps.

    Independent and uniform per caregiver: P(R | U, passive) in [0, 0.5], P(R | U, active) in [0.5, 1],
    P(R | R, passive) in [0, 0.7], P(R | R, active) in [0.8, 0.999]. Half of them, drawn at random (rounded down), are
    responsive in week 0; no cool-down. Districts are drawn uniformly. Policies at caregiver level know the truth;
    those at cluster level know the means of 20 clusters of passive behaviour: fifths by P(R | U, passive), each cut
    into fourths by P(R | R, passive).

    ValueError for fewer than 1 arm, week or district.
    """
    random = _generator(seed, n_arms=n_arms, n_districts=n_districts)
    p_passive = np.stack([random.uniform(0.0, 0.5, n_arms), random.uniform(0.0, 0.7, n_arms)], axis=1)
    p_active = np.stack([random.uniform(0.5, 1.0, n_arms), random.uniform(0.8, 0.999, n_arms)], axis=1)
    is_responsive = np.zeros(n_arms, dtype=np.bool_)
    is_responsive[random.permutation(n_arms)[: n_arms // 2]] = True
    cluster_id = _grid_clusters(p_passive, n_across=5, n_up=4)
    return Cohort(
        name="public",
        p_passive=p_passive,
        p_active=p_active,
        is_responsive=is_responsive,
        cluster_id=cluster_id,
        district=random.integers(0, n_districts, n_arms),
        district_names=_district_names(n_districts),
        cluster_p_passive=_means_by(cluster_id, p_passive),
        cluster_p_active=_means_by(cluster_id, p_active),
        own_p_passive=p_passive,
        own_p_active=p_active,
        budget=budget,
        n_weeks=n_weeks,
        discount=discount,
    )


def field_cohort(
    seed: int,
    *,
    n_arms: int = 7668,
    budget: int = 225,
    n_weeks: int = 7,
    cool_down_weeks: int = 3,
    n_clusters: int = 40,
    n_districts: int = 8,
    spread: float = 0.5,
    discount: float = 0.99,
) -> Cohort:
    """A cohort of the size of the SAHELI field study's arms, in which most calls hardly change anything.

    Size, calls a week and weeks are those of A. Mate et al. (2022), "Field study in deploying restless multi-armed
    bandits: assisting non-profits in improving maternal and child health", AAAI 36; the chances are not published, and
    these are made in the study's spirit, not estimated from it:

    - clusters differ in size (Dirichlet with parameter 2) and in passive behaviour: P(R | U) from Beta(2, 14),
      mean 0.125, and P(R | R) from Beta(14, 3), mean 0.82: states last;
    - a call lifts the log-odds of being responsive next week by the same amount for a whole cluster and state, never
      downwards: by Uniform(0.5, 2.5) with probability 0.4, else by Uniform(0, 0.1), drawn for each state on its own;
    - members of a cluster are of three kinds, equally likely, whose passive log-odds lie `spread` below, at and above
      the cluster's in both states; the lift is the cluster's. Policies at cluster level know only the members' means;
    - each is responsive in week 0 with chance 0.5, more than the passive chances sustain: without calls engagement
      drops;
    - districts differ in size (Dirichlet with parameter 5) and not in behaviour.

    ValueError for fewer than 1 arm, week, cluster or district.
    """
    random = _generator(seed, n_arms=n_arms, n_districts=n_districts, n_clusters=n_clusters)
    of_cluster = np.stack([random.beta(2.0, 14.0, n_clusters), random.beta(14.0, 3.0, n_clusters)], axis=1)
    helps = random.random((n_clusters, 2)) < 0.4
    lift = np.where(helps, random.uniform(0.5, 2.5, helps.shape), random.uniform(0.0, 0.1, helps.shape))
    cluster_id = random.choice(n_clusters, n_arms, p=random.dirichlet(np.full(n_clusters, 2.0)))
    kind = random.integers(-1, 2, n_arms)
    log_odds = logit(of_cluster)[cluster_id] + spread * kind[:, None]
    p_passive, p_active = expit(log_odds), expit(log_odds + lift[cluster_id])
    # Clusters nobody belongs to are left out, so that every cluster has members to take the mean of.
    cluster_id = np.unique(cluster_id, return_inverse=True)[1].astype(np.int64)
    return Cohort(
        name="field",
        p_passive=p_passive,
        p_active=p_active,
        is_responsive=random.random(n_arms) < 0.5,
        cluster_id=cluster_id,
        district=random.choice(n_districts, n_arms, p=random.dirichlet(np.full(n_districts, 5.0))),
        district_names=_district_names(n_districts),
        cluster_p_passive=_means_by(cluster_id, p_passive),
        cluster_p_active=_means_by(cluster_id, p_active),
        own_p_passive=p_passive,
        own_p_active=p_active,
        budget=budget,
        n_weeks=n_weeks,
        cool_down_weeks=cool_down_weeks,
        discount=discount,
    )


def fitted_cohort(
    transitions: pa.Table,
    groups: pa.Table,
    *,
    budget: int,
    n_weeks: int,
    cool_down_weeks: int = 0,
    district_budgets: dict[str, int] | None = None,
    discount: float = 0.99,
    name: str = "fitted",
) -> Cohort:
    """The cohort that a fitted model describes: its clusters' chances, and how many caregivers are in which state.

    Parameters
    ----------
    transitions : table of TRANSITION_MODELS
        What is believed at cluster level, and the truth unless `groups` says otherwise.
    groups : table with cluster_id, state, district (may be null), n_caregivers
        One row for any number of alike caregivers. With the four columns p_passive_u, p_passive_r, p_active_u and
        p_active_r, these are the truth of the group, for example the posterior means of a tuple, and what a policy at
        caregiver level believes; the clusters' chances then are beliefs only.
    budget, n_weeks, cool_down_weeks, district_budgets, discount
        As in `Cohort`.

    Returns
    -------
    Cohort
        Arms in the order of `groups`.

    Raises
    ------
    ValueError
        For missing columns, unknown states or clusters, or only some of the four columns of chances.
    """
    needed = ["cluster_id", "state", "district", "n_caregivers"]
    found_own = [column for column in _OWN_CHANCES if column in groups.column_names]
    missing = [column for column in needed if column not in groups.column_names]
    if missing or len(found_own) not in (0, len(_OWN_CHANCES)):
        raise ValueError(
            f"groups has the columns {groups.column_names}; expected {needed} and either all or none of "
            f"{list(_OWN_CHANCES)}"
        )
    states = groups["state"].to_pylist()
    if not set(states) <= set(STATES):
        raise ValueError(f"groups.state holds {sorted(set(map(str, states)))}; expected {' or '.join(STATES)}")
    cluster_p_passive, cluster_p_active = transition_arrays(transitions)
    of_group = np.repeat(np.arange(groups.num_rows), np.asarray(groups["n_caregivers"].to_numpy(), dtype=np.int64))
    cluster_id = np.asarray(groups["cluster_id"].to_numpy(), dtype=np.int64)[of_group]
    districts = [UNKNOWN_DISTRICT if district is None else district for district in groups["district"].to_pylist()]
    district_names, district = np.unique(np.array(districts, dtype=np.str_), return_inverse=True)
    if found_own:
        own = np.stack([np.asarray(groups[column].to_numpy(), dtype=np.float64) for column in _OWN_CHANCES], axis=1)
        p_passive, p_active = own[of_group, :2], own[of_group, 2:]
    else:
        # Ids that are no cluster's are refused by the cohort's own checks, with a better message than an IndexError.
        known = np.clip(cluster_id, 0, len(cluster_p_passive) - 1)
        p_passive, p_active = cluster_p_passive[known], cluster_p_active[known]
    return Cohort(
        name=name,
        p_passive=p_passive,
        p_active=p_active,
        is_responsive=np.array([state == RESPONSIVE for state in states], dtype=np.bool_)[of_group],
        cluster_id=cluster_id,
        district=district.astype(np.int64)[of_group],
        district_names=tuple(district_names.tolist()),
        cluster_p_passive=cluster_p_passive,
        cluster_p_active=cluster_p_active,
        own_p_passive=p_passive,
        own_p_active=p_active,
        budget=budget,
        n_weeks=n_weeks,
        cool_down_weeks=cool_down_weeks,
        discount=discount,
        district_budgets=district_budgets or {},
    )


def _generator(seed: int, **counts: int) -> np.random.Generator:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; expected 1 or more")
    # A spawn key of its own: a simulation with the same seed must not draw the numbers the chances were made of.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_COHORT_STREAM, 0)))


def _district_names(n_districts: int) -> tuple[str, ...]:
    width = len(str(n_districts))
    return tuple(f"District {number:0{width}d}" for number in range(1, n_districts + 1))


def _grid_clusters(p_passive: FloatArray, *, n_across: int, n_up: int) -> IntArray:
    """Equal-sized clusters: n_across by P(R | U), each cut into n_up by P(R | R); ids ascend with both."""
    across = _equal_parts(p_passive[:, 0], n_across)
    cluster_id = np.empty(len(p_passive), dtype=np.int64)
    for part in range(n_across):
        members = np.flatnonzero(across == part)
        cluster_id[members] = part * n_up + _equal_parts(p_passive[members, 1], n_up)
    return np.unique(cluster_id, return_inverse=True)[1].astype(np.int64)


def _equal_parts(values: FloatArray, n_parts: int) -> IntArray:
    """Which of n_parts parts, equal in size but for one, each value belongs to, from low to high."""
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return rank * n_parts // max(len(values), 1)


def _means_by(cluster_id: IntArray, chances: FloatArray) -> FloatArray:
    """Members' mean chances, shape (n_clusters, 2); every cluster has members."""
    n_members = np.bincount(cluster_id)
    return np.stack([np.bincount(cluster_id, weights=chances[:, s]) / n_members for s in range(2)], axis=1)
