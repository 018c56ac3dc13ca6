"""A cohort to simulate on: caregivers with known chances, what a policy may believe of them, and the calls there are.

Here: the shape of a cohort and its checks. Not here: where cohorts come from (`cohort_generators`), who is called
(`policies`) and what comes of it (`simulation`).

Time in a cohort runs in weeks 0, 1, ..., n_weeks. The state of week 0 is given; in each of the weeks 0 to n_weeks - 1
calls are made after its state is seen, and together with chance they decide the state of the next. So there are
n_weeks rounds of calls, and the states that count are those of weeks 1 to n_weeks.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bandicoot_core.model.arm_validation import FloatArray, checked_discount, checked_two_state_arms, checked_weeks
from bandicoot_core.policy.budgets import SHARED_POOL, budget_pools, check_districts

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

BELIEF_LEVELS = ("cluster", "caregiver")
"""How finely a policy knows the caregivers: by their cluster's chances, or each by her own."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """Caregivers (arms) with their true chances, what may be believed of them, and the budget.

    p_passive, p_active: ndarray (n_arms, 2), the true P(next = R | state) without and with a call, states [U, R].
    is_responsive: ndarray (n_arms,), the state in week 0.
    cluster_id: ndarray (n_arms,), rows of the cluster chances.
    district: ndarray (n_arms,), positions in `district_names`.
    cluster_p_passive, cluster_p_active: ndarray (n_clusters, 2), what is believed at cluster level.
    own_p_passive, own_p_active: ndarray (n_arms, 2), what is believed at caregiver level; often the truth.
    budget: calls a week; `district_budgets` reserves some of them, as the call list does: a district with a budget of
        its own gets exactly those, the others share the rest, and calls a pool cannot use are lost.
    n_weeks: rounds of calls. cool_down_weeks: whole weeks after the week of a call in which no other is possible.
    discount: per week, for the policies that look ahead.

    ValueError for shapes that disagree or chances outside [0, 1]; InvalidSettingError for budgets that don't add up.
    """

    name: str
    p_passive: FloatArray
    p_active: FloatArray
    is_responsive: BoolArray
    cluster_id: IntArray
    district: IntArray
    cluster_p_passive: FloatArray
    cluster_p_active: FloatArray
    own_p_passive: FloatArray
    own_p_active: FloatArray
    budget: int
    n_weeks: int
    cool_down_weeks: int = 0
    discount: float = 0.99
    district_names: tuple[str, ...] = ("all",)
    district_budgets: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for whose in ("", "cluster_", "own_"):
            self._check_chances(f"{whose}p_passive", f"{whose}p_active")
        for name in ("own_p_passive", "is_responsive", "cluster_id", "district"):
            if len(getattr(self, name)) != self.n_arms:
                raise ValueError(
                    f"cohort {self.name}: {name} has {len(getattr(self, name))} rows; expected one for each of the "
                    f"{self.n_arms} arms of p_passive"
                )
        self._check_codes("cluster_id", len(self.cluster_p_passive))
        self._check_codes("district", len(self.district_names))
        checked_discount(self.discount)
        checked_weeks(self.cool_down_weeks)
        if checked_weeks(self.n_weeks) < 1:
            raise ValueError(f"cohort {self.name}: n_weeks is {self.n_weeks}; expected 1 or more")
        budget_pools(self)
        check_districts(self.district_budgets, self.district_names)

    @property
    def n_arms(self) -> int:
        """Caregivers."""
        return len(self.p_passive)

    def beliefs(self, level: str) -> tuple[FloatArray, FloatArray]:
        """P(next = R | state), passive and active, as believed at `level`: two arrays of shape (n_arms, 2).

        ValueError for a level that is not one of BELIEF_LEVELS.
        """
        if level not in BELIEF_LEVELS:
            raise ValueError(f"level is {level!r}; expected one of {', '.join(BELIEF_LEVELS)}")
        if level == "cluster":
            return self.cluster_p_passive[self.cluster_id], self.cluster_p_active[self.cluster_id]
        return self.own_p_passive, self.own_p_active

    def as_believed(self, level: str) -> "Cohort":
        """The cohort that a policy takes this one for: the believed chances in the place of the true ones."""
        p_passive, p_active = self.beliefs(level)
        return replace(self, p_passive=p_passive, p_active=p_active)

    def pools(self) -> tuple[tuple[str, ...], IntArray, IntArray]:
        """Who competes for which calls: names of the pools, calls a week of each, and the pool of each arm.

        Pools are sorted by name; SHARED_POOL holds the districts without a budget of their own.
        """
        table = budget_pools(self)
        names = tuple(table["pool"].to_pylist())
        pool_of_district = [
            names.index(name if name in self.district_budgets else SHARED_POOL) for name in self.district_names
        ]
        return names, np.asarray(table["budget"].to_numpy()), np.array(pool_of_district, dtype=np.int64)[self.district]

    def _check_chances(self, passive: str, active: str) -> None:
        found = getattr(self, passive), getattr(self, active)
        try:
            checked_two_state_arms(*found, None)
        except ValueError as error:
            raise ValueError(f"cohort {self.name}, {passive} and {active}: {error}") from error
        if found[0].ndim != 2 or found[0].shape != found[1].shape:
            raise ValueError(
                f"cohort {self.name}: {passive} has shape {found[0].shape} and {active} {found[1].shape}; expected "
                "both to be (n, 2), states [U, R]"
            )

    def _check_codes(self, name: str, n_codes: int) -> None:
        codes = getattr(self, name)
        if codes.size and not (codes.min() >= 0 and codes.max() < n_codes):
            raise ValueError(
                f"cohort {self.name}: {name} runs from {codes.min()} to {codes.max()}; expected 0 to {n_codes - 1}"
            )


def with_budget(cohort: Cohort, budget: int) -> Cohort:
    """The same cohort with another number of calls a week; what districts have reserved stays."""
    return replace(cohort, budget=budget)


def with_district_shares(cohort: Cohort) -> Cohort:
    """The same cohort with the calls shared out among its districts in proportion to their caregivers.

    Whole calls, by the largest remainder; of equal remainders the district that comes first in `district_names`.
    """
    n_arms = np.bincount(cohort.district, minlength=len(cohort.district_names))
    shares = cohort.budget * n_arms / max(cohort.n_arms, 1)
    budgets = np.floor(shares).astype(np.int64)
    by_remainder = np.argsort(-(shares - budgets), kind="stable")
    budgets[by_remainder[: cohort.budget - int(budgets.sum())]] += 1
    return replace(cohort, district_budgets=dict(zip(cohort.district_names, budgets.tolist(), strict=True)))
