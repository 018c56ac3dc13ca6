"""Who is enrolled in the demo: registry features, behavioural type, enrolment, opt-out and message slots, as arrays.

Everything here is fixed when a caregiver enrols. What happens to her week by week is in `chains`, what the tables show
of her in `rows`. Caregivers are numbered from 0 in the order of their enrolment days, so that everybody who had
enrolled by some day is a prefix of every array.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.demo.programme import Programme, day_start_second, epoch_day
from bandicoot_core.demo.streams import BLOCK_SIZE, Stream, stream

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

NO_WEEK = np.iinfo(np.int32).max
"""opted_out_week of those who never opt out."""

_N_DRAWS = 15


@dataclass(frozen=True)
class Population:
    """One entry per caregiver in every array; shapes are (n_caregivers,) unless said otherwise."""

    caregiver_ids: pa.StringArray
    enrolled_day: npt.NDArray[np.int32]
    """Asia/Kolkata day, counted from 1970-01-01; ascending."""
    enrolled_week: npt.NDArray[np.int32]
    """Week number of enrolled_day, negative before week 0; ascending."""
    enrolled_second: IntArray
    """Instant, in seconds since 1970 UTC."""
    opted_out_week: npt.NDArray[np.int32]
    """First week without messages, or NO_WEEK."""
    district: npt.NDArray[np.int8]
    source: npt.NDArray[np.int8]
    age: npt.NDArray[np.int8]
    is_age_known: BoolArray
    parity: npt.NDArray[np.int8]
    is_phone_reliable: BoolArray
    type_id: npt.NDArray[np.int8]
    slot_day: npt.NDArray[np.int8]
    """(n_caregivers, 2): days after Sunday on which her two weekly messages are sent."""
    slot_second: npt.NDArray[np.int32]
    """Usual second of the day (IST) of her messages."""

    @property
    def n_caregivers(self) -> int:
        """Caregivers in the arrays, those of the whole last week included."""
        return len(self.enrolled_day)

    def n_enrolled_by_week(self, week: int) -> int:
        """Caregivers enrolled before the end of a week; they are the first ones."""
        return int(np.searchsorted(self.enrolled_week, week, side="right"))

    def n_enrolled_before(self, day: int) -> int:
        """Caregivers enrolled before an Asia/Kolkata day; they are the first ones."""
        return int(np.searchsorted(self.enrolled_day, day, side="left"))


def build_population(programme: Programme) -> Population:
    """Everybody who enrols by the end of the week that contains the last existing day."""
    last_week = programme.n_started_weeks - 1
    end_day = epoch_day(programme.week_date(last_week + 1))
    n_candidates = _n_candidates(programme, end_day)
    blocks = [
        _build_block(programme, block, first, min(first + BLOCK_SIZE, n_candidates))
        for block, first in enumerate(range(0, n_candidates, BLOCK_SIZE))
    ]
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    n = int(np.searchsorted(columns["enrolled_day"], end_day, side="left"))
    digits = pc.utf8_lpad(pa.array(np.arange(n)).cast(pa.string()), width=6, padding="0")
    return Population(
        caregiver_ids=pc.binary_join_element_wise("CG", digits, "-"),
        **{name: column[:n] for name, column in columns.items()},
    )


def _build_block(programme: Programme, block: int, first: int, end: int) -> dict[str, npt.NDArray[np.generic]]:
    # A full block is drawn always: the draws of a caregiver must not depend on how many come after her.
    draws = stream(programme.seed, Stream.REGISTRY, block).random((_N_DRAWS, BLOCK_SIZE))[:, : end - first]
    enrolled_day = _enrolment_days(programme, np.arange(first, end), draws[0])
    enrolled_week = (enrolled_day - epoch_day(programme.first_week_date)) // 7
    office_hour_second = 9 * 3600 + (draws[1] * 9 * 3600).astype(np.int64)

    district = _pick([place.share for place in programme.districts], draws[2])
    remoteness = np.array([place.remoteness for place in programme.districts])[district]
    source = _pick([place.share for place in programme.enrollment_sources], draws[3])
    age = 17 + (26 * draws[4] * (0.45 + 0.55 * draws[5])).astype(np.int64)
    parity = 1 + np.minimum(4, (5 * draws[6] * (age - 12) / 26).astype(np.int64))
    is_phone_reliable = draws[7] < 0.9 - 0.25 * remoteness
    type_chances = _type_chances(
        programme,
        age=age,
        parity=parity,
        is_phone_reliable=is_phone_reliable,
        remoteness=remoteness,
        source=source,
    )
    n_below = (draws[8][:, None] >= np.cumsum(type_chances, axis=1)).sum(axis=1)

    first_slot = (4 * draws[9]).astype(np.int64)
    second_slot = first_slot + 2 + (2 * draws[10]).astype(np.int64)
    return {
        "enrolled_day": enrolled_day.astype(np.int32),
        "enrolled_week": enrolled_week.astype(np.int32),
        "enrolled_second": day_start_second(0) + enrolled_day * 86_400 + office_hour_second,
        "opted_out_week": _opted_out_weeks(programme, enrolled_week, draws[11]).astype(np.int32),
        "district": district.astype(np.int8),
        "source": source.astype(np.int8),
        "age": age.astype(np.int8),
        "is_age_known": draws[12] >= programme.p_age_missing,
        "parity": parity.astype(np.int8),
        "is_phone_reliable": is_phone_reliable,
        "type_id": np.minimum(n_below, len(programme.types) - 1).astype(np.int8),
        "slot_day": np.column_stack([first_slot, second_slot]).astype(np.int8),
        "slot_second": (9 * 3600 + (draws[13] * 9 * 3600).astype(np.int64)).astype(np.int32),
    }


def _split(programme: Programme) -> tuple[int, int]:
    """Caregivers enrolled before the start, and in the n_weeks after it."""
    n_before = max(1, round(programme.share_before_start * programme.n_caregivers))
    return n_before, programme.n_caregivers - n_before


def _enrolment_days(programme: Programme, index: IntArray, draw: FloatArray) -> IntArray:
    """Days of enrolment: even before the start, then at a pace that grows for n_weeks and stays at its last level.

    With u = time since the start in units of n_weeks and growth g, the share enrolled by u <= 1 is
    (u + g u^2 / 2) / (1 + g / 2). Caregiver j of those after the start gets the u at which that share is
    (j + draw) / n_after: stratified, hence ascending, and all n_after fall within the n_weeks.
    """
    n_before, n_after = _split(programme)
    origin = epoch_day(programme.origin_date)
    before = np.minimum(-1, np.floor(7 * programme.weeks_before_start * ((index + draw) / n_before - 1)))
    g = programme.enrolment_growth
    share = (index - n_before + draw) / max(1, n_after)
    within = np.clip(share, 0, 1)
    u = (np.sqrt(1 + 2 * g * within * (1 + g / 2)) - 1) / g
    u_beyond = 1 + (share - 1) * (1 + g / 2) / (1 + g)
    n_days = 7 * programme.n_weeks
    after = np.where(
        share < 1, np.minimum(np.floor(u * n_days), n_days - 1), np.maximum(np.floor(u_beyond * n_days), n_days)
    )
    return origin + np.where(index < n_before, before, after).astype(np.int64)


def _n_candidates(programme: Programme, end_day: int) -> int:
    """An upper bound of how many enrol before end_day: the inverse of the pace in `_enrolment_days`."""
    n_before, n_after = _split(programme)
    g = programme.enrolment_growth
    u_end = (end_day - epoch_day(programme.origin_date)) / (7 * programme.n_weeks)
    share = max(1.0, 1 + (u_end - 1) * (1 + g) / (1 + g / 2))
    return n_before + (ceil(n_after * share) + 1 if n_after else 0)


def _type_chances(
    programme: Programme,
    *,
    age: IntArray,
    parity: IntArray,
    is_phone_reliable: BoolArray,
    remoteness: FloatArray,
    source: IntArray,
) -> FloatArray:
    """Softmax of the types' leanings on the registry features: ndarray (n_caregivers, n_types), rows sum to 1."""
    kinds = programme.types
    features = np.column_stack([(age - 27) / 10, parity - 2, is_phone_reliable - 0.8, remoteness - 0.45])
    leanings = np.array([[k.age_leaning, k.parity_leaning, k.phone_leaning, k.remote_leaning] for k in kinds])
    by_source = np.array([k.source_leanings for k in kinds]).T
    # einsum and not `@`: the sum over four terms then has one order on every machine.
    score = np.einsum("if,tf->it", features, leanings) + by_source[source] + np.log([k.share for k in kinds])
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def _opted_out_weeks(programme: Programme, enrolled_week: IntArray, draw: FloatArray) -> IntArray:
    """First week without messages, from a constant weekly hazard that reaches p_opted_out within n_weeks.

    Nobody opts out in the week of her enrolment or, for those enrolled before it, in week 0.
    """
    weekly = 1 - (1 - programme.p_opted_out) ** (1 / programme.n_weeks)
    if weekly == 0:
        return np.full(len(draw), NO_WEEK, dtype=np.int64)
    n_weeks_stayed = np.floor(np.log1p(-draw) / np.log1p(-weekly)).astype(np.int64)
    return np.minimum(np.maximum(enrolled_week, 0) + 1 + n_weeks_stayed, NO_WEEK)


def _pick(shares: list[float], draw: FloatArray) -> IntArray:
    """Index into shares (which need not sum to 1) with chances in their proportion."""
    bounds = np.cumsum(shares) / np.sum(shares)
    return np.minimum(np.searchsorted(bounds, draw, side="right"), len(shares) - 1)
