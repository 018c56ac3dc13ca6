"""The messages of the demo: what was sent in a week, whether it arrived, and when it was opened and clicked.

They show the hidden states exactly: in a responsive week of a caregiver at least one message is opened within that
week, in an unresponsive one none is opened or clicked, whenever it was sent. Two messages a week, and one right after
enrolment. Each message is produced once, with everything that ever happens to it; `rows` hides what lies in the future.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bandicoot_core.demo.chains import ChainWeek
from bandicoot_core.demo.population import BoolArray, IntArray, Population
from bandicoot_core.demo.programme import SECONDS_PER_DAY, SECONDS_PER_WEEK, Programme
from bandicoot_core.demo.streams import BLOCK_SIZE, Stream, stream

NEVER = np.iinfo(np.int64).max
"""The instant of what never happens: later than every other one."""

MESSAGE_TYPES = ("reminder", "education", "welcome")
_WELCOME_SLOT = 2
_WELCOME_WAIT = 600  # seconds after enrolment by which the welcome has been sent


@dataclass(frozen=True)
class Messages:
    """Messages of one block of caregivers in one week; arrays have the shape (n_messages,), instants are in seconds
    since 1970 UTC, NEVER where it never happens, and sent <= delivered <= opened <= clicked."""

    number: IntArray
    """Serial number, unique over the programme."""
    caregiver: IntArray
    message_type: npt.NDArray[np.int8]
    """Index into MESSAGE_TYPES."""
    sent: IntArray
    delivered: IntArray
    opened: IntArray
    clicked: IntArray
    is_failed: BoolArray


def weekly_messages(programme: Programme, population: Population, chain: ChainWeek) -> Iterator[Messages]:
    """The messages sent in a week, one block of caregivers after the other."""
    first_number = 3 * sum(population.n_enrolled_by_week(week) for week in range(chain.week))
    n = len(chain.is_responsive)
    for block, first in enumerate(range(0, n, BLOCK_SIZE)):
        yield _block_messages(
            programme,
            population,
            chain,
            members=np.arange(first, min(first + BLOCK_SIZE, n)),
            draws=stream(programme.seed, Stream.MESSAGES, chain.week, block),
            first_number=first_number,
        )


def _block_messages(
    programme: Programme,
    population: Population,
    chain: ChainWeek,
    *,
    members: IntArray,
    draws: np.random.Generator,
    first_number: int,
) -> Messages:
    habits = programme.messages
    week_start = programme.week_start_second(chain.week)
    week_end = week_start + SECONDS_PER_WEEK
    is_newcomer = population.enrolled_week[members] == chain.week
    newcomers = members[is_newcomer]
    caregiver = np.concatenate([np.repeat(members, 2), newcomers])
    slot = np.concatenate([np.tile([0, 1], len(members)), np.full(len(newcomers), _WELCOME_SLOT)])

    sure_slot = np.where(is_newcomer, _WELCOME_SLOT, (draws.random(len(members)) < 0.5).astype(np.int64))
    draw_sent, draw_fails, draw_arrives, draw_opens, draw_late, draw_delay, draw_clicks, draw_click_delay = (
        draws.random((8, len(caregiver)))
    )

    sent = _sending_instants(population, caregiver, slot, week_start, draw_sent)
    is_sure = chain.is_responsive[caregiver] & (sure_slot[caregiver - members[0]] == slot)
    p_failed = np.where(population.is_phone_reliable[caregiver], habits.p_failed_reliable, habits.p_failed_unreliable)
    is_failed = (draw_fails < p_failed) & ~is_sure
    delivered = sent + 2 + (1200 * _early(draw_arrives)).astype(np.int64)

    is_opened_in_week = chain.is_responsive[caregiver] & ~is_failed & (is_sure | (draw_opens < habits.p_other_open))
    is_opened_late = (
        ~is_opened_in_week
        & ~is_failed
        & chain.is_responsive_next[caregiver]
        & (population.opted_out_week[caregiver] > chain.week + 1)
        & (draw_late < habits.p_late_open)
    )
    earliest = delivered + 5
    opened_in_week = earliest + (_early(draw_delay) * (week_end - earliest)).astype(np.int64)
    opened_late = week_end + (_early(draw_delay) * SECONDS_PER_WEEK).astype(np.int64)
    opened = np.where(is_opened_in_week, opened_in_week, np.where(is_opened_late, opened_late, NEVER))
    # A click belongs to the week of its open: in the next one it would show an engagement the chain does not know.
    last_second = week_end - 1 + np.where(is_opened_late, SECONDS_PER_WEEK, 0)
    clicked = np.minimum(np.minimum(opened, NEVER - 400) + 3 + (300 * draw_click_delay).astype(np.int64), last_second)
    is_clicked = (opened < NEVER) & (draw_clicks < habits.p_click)

    is_sent = population.opted_out_week[caregiver] > chain.week
    is_before_welcome = sent <= population.enrolled_second[caregiver] + _WELCOME_WAIT
    is_sent &= (slot == _WELCOME_SLOT) | ~is_before_welcome
    return Messages(
        number=(first_number + 3 * caregiver + slot)[is_sent],
        caregiver=caregiver[is_sent],
        message_type=slot.astype(np.int8)[is_sent],
        sent=sent[is_sent],
        delivered=np.where(is_failed, NEVER, delivered)[is_sent],
        opened=opened[is_sent],
        clicked=np.where(is_clicked, clicked, NEVER)[is_sent],
        is_failed=is_failed[is_sent],
    )


def _sending_instants(
    population: Population, caregiver: IntArray, slot: IntArray, week_start: int, draw: npt.NDArray[np.float64]
) -> IntArray:
    """Her weekday and usual time of day, up to an hour late; the welcome one to ten minutes after enrolment."""
    day = population.slot_day[caregiver, np.minimum(slot, 1)].astype(np.int64)
    scheduled = week_start + day * SECONDS_PER_DAY + population.slot_second[caregiver] + (3600 * draw).astype(np.int64)
    welcome = population.enrolled_second[caregiver] + 60 + ((_WELCOME_WAIT - 60) * draw).astype(np.int64)
    return np.where(slot == _WELCOME_SLOT, welcome, scheduled)


def _early(draw: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A share in [0, 1) that is mostly small: messages arrive, and are opened, rather early than late."""
    return draw * draw * draw
