"""The vaccinations of the demo: four doses per child, when each was due and when it was given.

A dose that falls due in a responsive week is more often given on time. A dose is an outcome of the programme; it
changes nothing in the hidden chains.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bandicoot_core.demo.chains import ChainWeek
from bandicoot_core.demo.population import BoolArray, Population
from bandicoot_core.demo.programme import Programme, epoch_day
from bandicoot_core.demo.streams import Stream, stream

NEVER_DAY = np.iinfo(np.int32).max
"""The day of a dose that is not given."""


@dataclass(frozen=True)
class Dose:
    """A dose of the schedule and how many days after enrolment it is due."""

    vaccine_name: str
    due_after_days: int


DOSES = (
    Dose("BCG", 0),
    Dose("Pentavalent-1", 42),
    Dose("Pentavalent-2", 70),
    Dose("Pentavalent-3", 98),
)

_P_ON_TIME_U, _P_ON_TIME_R = 0.45, 0.80
_P_CAUGHT_UP = 0.5  # of the doses missed
_ON_TIME_DAYS = 7
_CATCH_UP_DAYS = 28


class DoseBook:
    """Collects the day on which each dose was given while the weeks pass.

    `given_day` has the shape (n_doses, n_caregivers): days since 1970-01-01, NEVER_DAY where not (yet) decided or
    never given; days at or after as_of_date are future and hidden by `rows`.
    """

    def __init__(self, programme: Programme, population: Population) -> None:
        self._programme = programme
        self._population = population
        self.given_day = np.full((len(DOSES), population.n_caregivers), NEVER_DAY, dtype=np.int32)
        self._n_decided = [0] * len(DOSES)
        self._decide_doses_before_week_0()

    def record_week(self, chain: ChainWeek) -> None:
        """Decide the doses that fall due in a week; the weeks must come in order, from 0."""
        week_end_day = epoch_day(self._programme.week_date(chain.week + 1))
        for dose in range(len(DOSES)):
            self._decide(dose, week_end_day, chain.week + 1, chain.is_responsive)

    def _decide_doses_before_week_0(self) -> None:
        """No state is known then: the type's stationary share of responsive weeks stands in for it."""
        share = np.array([kind.stationary_share for kind in self._programme.types])[self._population.type_id]
        first_day = epoch_day(self._programme.first_week_date)
        for dose in range(len(DOSES)):
            self._decide(dose, first_day, 0, share)

    def _decide(self, dose: int, end_day: int, address: int, p_responsive: BoolArray | npt.NDArray[np.float64]) -> None:
        """Decide a dose for those to whom it falls due before end_day; they follow those decided before."""
        first = self._n_decided[dose]
        due_after = DOSES[dose].due_after_days
        end = int(np.searchsorted(self._population.enrolled_day, end_day - due_after, side="left"))
        self._n_decided[dose] = end
        n = end - first
        draw, draw_delay = stream(self._programme.seed, Stream.DOSES, dose, address).random((2, n))
        p_on_time = _P_ON_TIME_U + (_P_ON_TIME_R - _P_ON_TIME_U) * p_responsive[first:end]
        p_given = p_on_time + (1 - p_on_time) * _P_CAUGHT_UP
        delay = np.where(
            draw < p_on_time,
            (_ON_TIME_DAYS * draw_delay).astype(np.int32),
            _ON_TIME_DAYS + (_CATCH_UP_DAYS * draw_delay).astype(np.int32),
        )
        due_day = self._population.enrolled_day[first:end] + due_after
        self.given_day[dose, first:end] = np.where(draw < p_given, due_day + delay, NEVER_DAY)
