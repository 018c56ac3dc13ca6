import itertools
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandicoot_core.demo.chains import ChainWeek, weekly_chains
from bandicoot_core.demo.messages import NEVER, Messages, weekly_messages
from bandicoot_core.demo.population import Population, build_population
from bandicoot_core.demo.programme import SECONDS_PER_WEEK, BehaviouralType, MessageHabits, Programme

AS_OF = date(2026, 11, 19)
DETERMINISTIC_TYPES = tuple(
    BehaviouralType(name, 1.0, p_passive, p_active, 0.0, 0.0, 0.0, 0.0, (0.0, 0.0, 0.0, 0.0))
    for name, p_passive, p_active in [
        ("responsive only when called", (0.0, 0.0), (1.0, 1.0)),
        ("unresponsive only when called", (1.0, 1.0), (0.0, 0.0)),
        ("swaps, but stays when called", (1.0, 0.0), (0.0, 1.0)),
    ]
)


def simulate(programme: Programme) -> tuple[Population, np.ndarray, list[ChainWeek]]:
    population = build_population(programme)
    is_control = np.arange(population.n_caregivers) % 10 == 0
    return population, is_control, list(weekly_chains(programme, population, is_control=is_control))


def whole_week(programme: Programme, population: Population, chain: ChainWeek) -> Messages:
    blocks = list(weekly_messages(programme, population, chain))
    assert len(blocks) == 1
    return blocks[0]


def test_a_call_in_a_week_decides_the_step_to_the_next_one_whatever_its_outcome() -> None:
    programme = Programme(n_caregivers=600, n_weeks=20, as_of_date=AS_OF, types=DETERMINISTIC_TYPES)
    population, _, weeks = simulate(programme)
    n_called = 0
    for now, after in itertools.pairwise(weeks):
        n = len(now.is_responsive)
        kind, state, called = population.type_id[:n], now.is_responsive, now.is_called
        expected = np.select([kind == 0, kind == 1], [called, ~called], np.where(called, state, ~state))
        assert np.array_equal(after.is_responsive[:n], expected)
        assert np.array_equal(now.is_responsive_next, expected)
        n_called += np.count_nonzero(called)
    assert n_called > 300


def test_the_historic_policy_keeps_its_rules() -> None:
    programme = Programme(n_caregivers=1000, n_weeks=30, as_of_date=AS_OF, p_opted_out=0.3)
    population, is_control, weeks = simulate(programme)
    assert programme.weekly_budget == 35
    last_call = np.full(population.n_caregivers, -(10**12))
    n_unresponsive_before = []
    for before, now in itertools.pairwise(weeks):
        who, when = now.calls.caregiver, now.calls.attempted_second
        week_start = programme.week_start_second(now.week)
        assert 0 < len(who) <= 35
        assert len(set(who)) == len(who)
        assert np.array_equal(np.flatnonzero(now.is_called), np.sort(who))
        assert not is_control[who].any()
        assert np.all(population.opted_out_week[who] > now.week)
        assert np.all(when - population.enrolled_second[who] > 6 * SECONDS_PER_WEEK)
        assert np.all(when - last_call[who] > 2 * SECONDS_PER_WEEK)
        second_of_week = when - week_start
        assert set(second_of_week // 86_400) <= {1, 2, 3, 4, 5, 6}
        assert np.all((second_of_week % 86_400 >= 9 * 3600) & (second_of_week % 86_400 < 18 * 3600))
        assert np.all(np.diff(when) >= 0)
        last_call[who] = when
        n_unresponsive_before.append(np.count_nonzero(~before.is_responsive[who]))
    # 14 of 35 are taken from the unresponsive alone, the other 21 from everybody (about 60 % unresponsive).
    assert 14 + 21 * 0.5 < np.mean(n_unresponsive_before) < 14 + 21 * 0.7


def test_between_thirty_and_fifty_percent_are_responsive_in_every_week() -> None:
    _, _, weeks = simulate(Programme(n_caregivers=5000, as_of_date=AS_OF))
    shares = [np.mean(week.is_responsive) for week in weeks]
    assert 0.3 < min(shares) < max(shares) < 0.5


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 300),
    day=st.integers(0, 6),
    p_late=st.sampled_from([0.0, 0.12, 1.0]),
    p_failed=st.sampled_from([0.05, 1.0]),
)
def test_opens_and_clicks_show_the_hidden_state_of_every_week_exactly(
    seed: int, n: int, day: int, p_late: float, p_failed: float
) -> None:
    programme = Programme(
        n_caregivers=n,
        seed=seed,
        n_weeks=9,
        as_of_date=AS_OF + timedelta(days=day),
        p_opted_out=0.3,
        messages=MessageHabits(p_failed_reliable=p_failed, p_late_open=p_late, p_click=0.5),
    )
    population, _, weeks = simulate(programme)
    shown = np.zeros((len(weeks) + 2, population.n_caregivers), dtype=np.bool_)
    for chain in weeks:
        sms = whole_week(programme, population, chain)
        assert np.all(population.opted_out_week[sms.caregiver] > chain.week)
        assert np.all(sms.sent >= population.enrolled_second[sms.caregiver])
        assert np.all((sms.sent < sms.delivered) & (sms.delivered <= sms.opened) & (sms.opened <= sms.clicked))
        assert np.array_equal(sms.delivered == NEVER, sms.is_failed)
        for instant in (sms.opened, sms.clicked):
            happened = instant < NEVER
            week = (instant[happened] - programme.week_start_second(0)) // SECONDS_PER_WEEK
            assert np.all((week == chain.week) | (week == chain.week + 1))
            shown[week, sms.caregiver[happened]] = True
    for chain in weeks:
        who = np.flatnonzero(population.opted_out_week[: len(chain.is_responsive)] > chain.week)
        assert np.array_equal(shown[chain.week, who], chain.is_responsive[who])
        gone = np.flatnonzero(population.opted_out_week <= chain.week)
        assert not shown[chain.week, gone].any()


def test_a_click_stays_in_the_week_of_its_open_however_late_that_is() -> None:
    habits = MessageHabits(p_click=1.0, p_other_open=1.0)
    programme = Programme(n_caregivers=20_000, n_weeks=6, as_of_date=AS_OF, messages=habits)
    population, _, weeks = simulate(programme)
    n_at_the_end = 0
    for chain in weeks:
        sms = whole_week(programme, population, chain)
        opened, clicked = (instant[sms.clicked < NEVER] for instant in (sms.opened, sms.clicked))
        week_start = programme.week_start_second(0)
        assert np.array_equal((opened - week_start) // SECONDS_PER_WEEK, (clicked - week_start) // SECONDS_PER_WEEK)
        n_at_the_end += np.count_nonzero((clicked + 1 - week_start) % SECONDS_PER_WEEK == 0)
    assert n_at_the_end > 0


def test_everybody_gets_two_messages_a_week_and_a_welcome_when_she_enrols() -> None:
    programme = Programme(n_caregivers=500, n_weeks=8, as_of_date=AS_OF, p_opted_out=0.0)
    population, _, weeks = simulate(programme)
    numbers: list[int] = []
    for chain in weeks:
        sms = whole_week(programme, population, chain)
        n_sent = np.bincount(sms.caregiver, minlength=len(chain.is_responsive))
        is_newcomer = population.enrolled_week[: len(n_sent)] == chain.week
        assert np.all(n_sent[~is_newcomer] == 2)
        assert np.array_equal(np.sort(sms.caregiver[sms.message_type == 2]), np.flatnonzero(is_newcomer))
        hour = (sms.sent + 19_800) % 86_400 / 3600
        assert np.all((hour >= 9) & (hour < 19))
        numbers.extend(sms.number)
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(("is_reliable", "expected"), [(True, 0.02), (False, 0.07)])
def test_messages_fail_more_often_on_unreliable_phones(is_reliable: bool, expected: float) -> None:
    programme = Programme(n_caregivers=4000, n_weeks=8, as_of_date=AS_OF)
    population, _, weeks = simulate(programme)
    sms = whole_week(programme, population, weeks[-1])
    # Those whose open was certain cannot fail; look at the unresponsive only.
    chosen = (population.is_phone_reliable[sms.caregiver] == is_reliable) & ~weeks[-1].is_responsive[sms.caregiver]
    n = np.count_nonzero(chosen)
    tolerance = 4 * np.sqrt(expected * (1 - expected) / n)
    assert abs(np.mean(sms.is_failed[chosen]) - expected) < tolerance
