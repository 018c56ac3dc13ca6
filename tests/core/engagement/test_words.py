from datetime import date, timedelta

import ibis
import pytest

from bandicoot_core.calendar import start_of_day, weeks_ending_with
from bandicoot_core.engagement.words import bits, require_window, within, word_of_week, word_since

SUNDAY = date(2026, 12, 27)


def test_bits_run_from_the_first_to_the_last_week():
    assert bits(0, 4) == 0b1111
    assert bits(2, 4) == 0b1100
    assert bits(4, 4) == 0
    assert bits(0, 62) == 2**62 - 1


def test_a_window_is_returned_oldest_first():
    assert require_window((SUNDAY, date(2027, 1, 3))) == [SUNDAY, date(2027, 1, 3)]
    assert len(require_window(weeks_ending_with(SUNDAY, 62))) == 62


@pytest.mark.parametrize(
    ("weeks", "message"),
    [
        ([], "found none"),
        (weeks_ending_with(SUNDAY, 63), "found 63"),
        ([date(2026, 12, 28)], "2026-12-28 is not one"),
        ([SUNDAY, SUNDAY + timedelta(days=14)], "found 2027-01-10 after 2026-12-27, expected 2027-01-03"),
        ([SUNDAY, SUNDAY], "found 2026-12-27 after 2026-12-27"),
        ([SUNDAY, SUNDAY - timedelta(days=7)], "found 2026-12-20 after 2026-12-27"),
    ],
)
def test_a_window_of_other_days_is_refused(weeks, message):
    with pytest.raises(ValueError, match=message):
        require_window(weeks)


@pytest.mark.parametrize("n_weeks", [1, 2, 3, 26, 33, 62])
def test_every_week_has_its_own_bit_from_its_first_to_its_last_microsecond(programme, n_weeks):
    weeks = weeks_ending_with(SUNDAY, n_weeks)
    microsecond = timedelta(microseconds=1)
    edges = [
        at
        for k, week in enumerate(weeks)
        for at in (
            (start_of_day(week), k),
            (start_of_day(week + timedelta(days=7)) - microsecond, k),
        )
    ]
    table = ibis.memtable({"at": [at for at, _ in edges], "k": [k for _, k in edges]})
    found = programme.rows(
        table.select(
            "k", bit=word_of_week(table.at, weeks), inside=within(table.at, weeks), since=word_since(table.at, weeks)
        )
    )
    expected = [(k, 1 << k, True, bits(k + 1, n_weeks)) for _, k in edges]
    assert found == sorted(expected)


def test_the_microseconds_next_to_a_window_are_outside(programme):
    weeks = weeks_ending_with(SUNDAY, 2)
    table = ibis.memtable(
        {
            "at": [
                start_of_day(weeks[0]) - timedelta(microseconds=1),
                start_of_day(weeks[0]),
                start_of_day(weeks[-1] + timedelta(days=7)) - timedelta(microseconds=1),
                start_of_day(weeks[-1] + timedelta(days=7)),
            ],
            "n": [0, 1, 2, 3],
        }
    )
    assert programme.rows(table.select("n", inside=within(table.at, weeks))) == [
        (0, False),
        (1, True),
        (2, True),
        (3, False),
    ]


def test_words_of_part_of_a_window_start_at_their_bit(programme):
    weeks = weeks_ending_with(SUNDAY, 2)
    table = ibis.memtable({"at": [start_of_day(week) for week in weeks]})
    assert programme.rows(table.select(word=word_of_week(table.at, weeks, first_bit=60))) == [(1 << 60,), (1 << 61,)]
