"""What the synthetic programme is made of: its size, places, behavioural types, messages and historic policy.

Only parameters, their bounds and the calendar that follows from them. How they become people, weeks and rows is in the
other modules of this package.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from bandicoot_core.calendar import PROGRAMME_UTC_OFFSET_MINUTES, week_of
from bandicoot_core.contracts import CALL_OUTCOMES
from bandicoot_core.errors import InvalidSettingError

SECONDS_PER_DAY = 86_400
SECONDS_PER_WEEK = 7 * SECONDS_PER_DAY
_EPOCH_DATE = date(1970, 1, 1)


@dataclass(frozen=True)
class District:
    """A district: its share of the caregivers and how remote it is (0 = city, 1 = far from any road)."""

    name: str
    share: float
    remoteness: float


@dataclass(frozen=True)
class EnrollmentSource:
    """A place of enrolment and its share of the caregivers."""

    name: str
    share: float


@dataclass(frozen=True)
class BehaviouralType:
    """How a kind of caregiver behaves, and whom one finds among them.

    `p_passive` and `p_active` are P(next = R | state) for the states [U, R] without and with an attempted call.
    `share` is the weight of the type before the registry features speak; the leanings are log-odds per unit of the
    feature: ten years of age, one child, a reliable phone, remoteness, and one per source of enrolment.
    """

    name: str
    share: float
    p_passive: tuple[float, float]
    p_active: tuple[float, float]
    age_leaning: float
    parity_leaning: float
    phone_leaning: float
    remote_leaning: float
    source_leanings: tuple[float, ...]

    @property
    def stationary_share(self) -> float:
        """Long-run share of responsive weeks without calls: p_U / (1 - p_R + p_U)."""
        p_u, p_r = self.p_passive
        return p_u / (1 - p_r + p_u)


@dataclass(frozen=True)
class MessageHabits:
    """What happens to messages: two a week, plus one at enrolment."""

    p_failed_reliable: float = 0.02
    p_failed_unreliable: float = 0.07
    p_other_open: float = 0.35
    """In a responsive week one message is opened for sure; the other one with this chance."""
    p_late_open: float = 0.12
    """A message left unopened in its week is opened in the next one, if that is responsive, with this chance."""
    p_click: float = 0.25


@dataclass(frozen=True)
class HistoricPolicy:
    """Whom the programme called before Bandicoot: some at random, some because they had not opened anything."""

    daily_budget_share: float = 0.005
    """Calls per day as a share of n_caregivers, over all seven days of a week."""
    random_share: float = 0.6
    warm_up_weeks: int = 6
    cool_down_weeks: int = 2
    p_outcomes: tuple[float, ...] = (0.50, 0.35, 0.08, 0.02, 0.05)
    """Chances of the outcomes in the order of CALL_OUTCOMES, for a reliable phone."""
    p_outcomes_unreliable: tuple[float, ...] = (0.25, 0.50, 0.10, 0.12, 0.03)


DISTRICTS = (
    District("Patna", 0.22, 0.0),
    District("Gaya", 0.15, 0.5),
    District("Muzaffarpur", 0.14, 0.4),
    District("Purnia", 0.10, 0.9),
    District("Nashik", 0.15, 0.2),
    District("Nandurbar", 0.08, 1.0),
    District("Palghar", 0.10, 0.5),
    District("Gadchiroli", 0.06, 1.0),
)

ENROLLMENT_SOURCES = (
    EnrollmentSource("hospital", 0.40),
    EnrollmentSource("asha_worker", 0.32),
    EnrollmentSource("health_camp", 0.16),
    EnrollmentSource("self", 0.12),
)

# A call moves sleepers and returners out of U, keeps faders and drifters in R, and leaves the engaged, the
# unreachable and the indifferent (nearly) as they are.
BEHAVIOURAL_TYPES = (
    BehaviouralType("always_engaged", 0.14, (0.70, 0.95), (0.80, 0.96), -0.8, -0.4, 1.0, -1.3, (0.3, -0.2, -0.6, 1.4)),
    BehaviouralType("fading", 0.16, (0.08, 0.80), (0.15, 0.96), -0.6, 0.1, 0.4, -0.5, (1.2, -0.5, -0.2, 0.0)),
    BehaviouralType("sleeper", 0.14, (0.05, 0.70), (0.60, 0.75), 0.7, 0.2, 0.5, 1.1, (-0.6, 1.2, -0.4, -0.8)),
    BehaviouralType("intermittent", 0.12, (0.35, 0.50), (0.55, 0.65), -0.5, -0.4, -0.5, 0.3, (-0.5, 0.0, 1.2, 0.3)),
    BehaviouralType("unreachable", 0.10, (0.01, 0.30), (0.015, 0.30), 0.2, 0.3, -2.4, 1.0, (0.0, 0.3, 0.3, -0.8)),
    BehaviouralType("drifting", 0.12, (0.12, 0.75), (0.25, 0.90), 1.2, 0.6, 0.3, -0.4, (0.5, 0.0, -0.5, -0.3)),
    BehaviouralType("indifferent", 0.12, (0.25, 0.70), (0.25, 0.70), -0.3, -0.5, 0.0, 0.2, (0.0, -0.4, 0.8, 0.8)),
    BehaviouralType("returning", 0.10, (0.20, 0.60), (0.70, 0.65), 0.3, 0.4, 0.5, 0.2, (-0.5, 0.6, 0.0, 0.2)),
)


@dataclass(frozen=True, kw_only=True)
class Programme:
    """The whole synthetic programme; equal programmes write equal rows, byte for byte.

    `n_caregivers` is how many are enrolled `n_weeks` weeks after the start: at as_of_date, unless start_date is given
    and as_of_date lies later; enrolment then goes on at its last pace. `as_of_date` is the first Asia/Kolkata day that
    does not exist yet. `start_date` (default: n_weeks before as_of_date) fixes every random stream, so that two
    programmes that differ in as_of_date alone share their past. `control_share` and `experiment` are for whoever
    decides on the arms. Raises InvalidSettingError for values out of bounds.
    """

    as_of_date: date
    n_caregivers: int = 20_000
    seed: int = 7
    n_weeks: int = 34
    start_date: date | None = None
    control_share: float = 0.1
    experiment: str = "demo"
    share_before_start: float = 0.6
    weeks_before_start: int = 60
    enrolment_growth: float = 1.0
    """Enrolments a day grow by this share of their first level between the start and n_weeks later."""
    p_opted_out: float = 0.04
    """Chance to opt out within n_weeks; less time is left to those who enrol later, so that about 3 % have."""
    p_age_missing: float = 0.005
    districts: tuple[District, ...] = DISTRICTS
    enrollment_sources: tuple[EnrollmentSource, ...] = ENROLLMENT_SOURCES
    types: tuple[BehaviouralType, ...] = BEHAVIOURAL_TYPES
    messages: MessageHabits = MessageHabits()
    policy: HistoricPolicy = HistoricPolicy()

    def __post_init__(self) -> None:
        _require(self.n_caregivers >= 1, "n_caregivers", self.n_caregivers, "at least 1")
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        _require(self.n_weeks >= 1, "n_weeks", self.n_weeks, "at least 1")
        _require(self.weeks_before_start >= 1, "weeks_before_start", self.weeks_before_start, "at least 1")
        _require(self.enrolment_growth > 0, "enrolment_growth", self.enrolment_growth, "above 0")
        _require(0 < self.share_before_start <= 1, "share_before_start", self.share_before_start, "in (0, 1]")
        _require(0 <= self.p_opted_out < 1, "p_opted_out", self.p_opted_out, "in [0, 1)")
        _require(self.as_of_date > self.origin_date, "as_of_date", self.as_of_date, f"after {self.origin_date}")
        _require(1 <= len(self.types) <= 127, "types", len(self.types), "1 to 127 types")
        for kind in self.types:
            chances = (*kind.p_passive, *kind.p_active)
            is_legal = len(chances) == 4 and all(0 <= p <= 1 for p in chances) and kind.share > 0
            is_legal = is_legal and not (kind.p_passive[0] == 0 and kind.p_passive[1] == 1)
            _require(is_legal, f"types[{kind.name}]", chances, "four chances in [0, 1] that forget where they began")
            _require(
                len(kind.source_leanings) == len(self.enrollment_sources),
                f"types[{kind.name}].source_leanings",
                len(kind.source_leanings),
                f"{len(self.enrollment_sources)} numbers, one per source of enrolment",
            )
        for shares in (self.policy.p_outcomes, self.policy.p_outcomes_unreliable):
            is_legal = len(shares) == len(CALL_OUTCOMES) and abs(sum(shares) - 1) < 1e-9
            _require(is_legal, "policy.p_outcomes", shares, f"{len(CALL_OUTCOMES)} chances that sum to 1")

    @property
    def origin_date(self) -> date:
        """The day from which everything is counted: start_date, or n_weeks before as_of_date."""
        return self.start_date or self.as_of_date - timedelta(weeks=self.n_weeks)

    @property
    def first_week_date(self) -> date:
        """Sunday of week 0, the first week with messages; it contains origin_date."""
        return week_of(self.origin_date)

    @property
    def n_complete_weeks(self) -> int:
        """Weeks from week 0 on that end before as_of_date."""
        return (self.as_of_date - self.first_week_date).days // 7

    @property
    def n_started_weeks(self) -> int:
        """Weeks from week 0 on that begin before as_of_date; the last one may be partial."""
        return -(-(self.as_of_date - self.first_week_date).days // 7)

    @property
    def weekly_budget(self) -> int:
        """Calls the historic policy may attempt in a week."""
        return max(1, round(self.n_caregivers * self.policy.daily_budget_share * 7))

    def with_fixed_start(self) -> "Programme":
        """The same programme with start_date written out, so that as_of_date may move on."""
        return replace(self, start_date=self.origin_date)

    def week_date(self, week: int) -> date:
        """The Sunday of week number `week`."""
        return self.first_week_date + timedelta(weeks=week)

    def week_start_second(self, week: int) -> int:
        """The instant at which week number `week` starts (Sunday 00:00 IST), in seconds since 1970 UTC."""
        return day_start_second(epoch_day(self.week_date(week)))

    def transition_chances(self) -> npt.NDArray[np.float64]:
        """P(next = R) as ndarray (n_types, 2, 2): type, action [passive, active], state [U, R]."""
        return np.array([[kind.p_passive, kind.p_active] for kind in self.types], dtype=np.float64)


def epoch_day(day: date) -> int:
    """Days from 1970-01-01 to an Asia/Kolkata day."""
    return (day - _EPOCH_DATE).days


def day_start_second(day: int) -> int:
    """The instant at which an Asia/Kolkata day (counted from 1970-01-01) starts, in seconds since 1970 UTC."""
    return day * SECONDS_PER_DAY - PROGRAMME_UTC_OFFSET_MINUTES * 60


def _require(is_legal: bool, name: str, found: object, expected: str) -> None:
    if not is_legal:
        raise InvalidSettingError(f"demo programme: {name} is {found}; expected {expected}")
