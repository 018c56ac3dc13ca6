"""Why a caregiver is on the list, in one sentence a health worker can read.

Only wording belongs here: which facts lead to which words. The facts are decided by ranking and the model.
"""

import math

import numpy as np
import pyarrow as pa

from bandicoot_core.contracts import RESPONSIVE

_NEVER = -1


def reasons(rows: pa.Table, *, lookback_days: int) -> pa.StringArray:
    """The reason of each row, in the order of the rows.

    rows: columns state, days_since_last_open (null when she opened nothing in the lookback), p_passive, p_active
    (chances to be responsive next week without and with a call) and is_drawn (a slot of the random draw).
    lookback_days: how far back opens are known, in days.

    A sentence is written once for each distinct set of facts, of which there are few however long the list.
    """
    if rows.num_rows == 0:
        return pa.array([], pa.string())
    facts = np.column_stack(
        [
            rows["state"].to_numpy(zero_copy_only=False) == RESPONSIVE,
            rows["days_since_last_open"].fill_null(_NEVER).to_numpy(),
            rows["p_passive"].to_numpy(),
            rows["p_active"].to_numpy(),
            rows["is_drawn"].to_numpy(zero_copy_only=False),
        ]
    ).astype(np.float64)
    distinct, which = np.unique(facts, axis=0, return_inverse=True)
    sentences = pa.array(
        [
            _sentence(
                bool(is_responsive),
                int(days),
                p_passive,
                p_active,
                is_drawn=bool(is_drawn),
                lookback_days=lookback_days,
            )
            for is_responsive, days, p_passive, p_active, is_drawn in distinct.tolist()
        ],
        pa.string(),
    )
    return sentences.take(pa.array(which.reshape(-1)))


def reason(
    state: str, days_since_last_open: int | None, p_passive: float, p_active: float, *, lookback_days: int
) -> str:
    """The reason of one caregiver whom nothing but her index put forward; arguments as the columns of `reasons`."""
    days = _NEVER if days_since_last_open is None else days_since_last_open
    return _sentence(state == RESPONSIVE, days, p_passive, p_active, is_drawn=False, lookback_days=lookback_days)


def percent(p: float) -> str:
    """A chance in whole percent, halves up; 'under 1%' and 'over 99%' for what is not quite never or always."""
    if 0 < p < 0.01:
        return "under 1%"
    if 0.99 < p < 1:
        return "over 99%"
    return f"{_whole_percent(p)}%"


def _whole_percent(p: float) -> int:
    # Nine decimals first: 0.285 is held as 28.499999999999996 percent and still means 28.5.
    return math.floor(round(100 * p, 9) + 0.5)


def _sentence(
    is_responsive: bool, days: int, p_passive: float, p_active: float, *, is_drawn: bool, lookback_days: int
) -> str:
    if is_responsive:
        sentence = f"{_responsive(days)}; {_call_keeps(p_passive, p_active)}"
    else:
        sentence = f"{_unresponsive(days, lookback_days)}; {_call_wins_back(p_passive, p_active)}"
    if is_drawn:
        return f"Chosen at random to learn what calls do; {sentence[0].lower()}{sentence[1:]}"
    return sentence


def _responsive(days: int) -> str:
    if days == 0:
        return "Responsive (opened today)"
    return "Responsive" if days == _NEVER else f"Responsive (opened {_days(days)} ago)"


def _unresponsive(days: int, lookback_days: int) -> str:
    return f"No open in the last {_days(lookback_days)}" if days == _NEVER else f"Unresponsive for {_days(days)}"


def _call_keeps(p_passive: float, p_active: float) -> str:
    without, with_call = percent(p_passive), percent(p_active)
    stopping = f"without a call {percent(1 - p_passive)} of families like this stop opening within a week"
    if without == with_call:
        return f"{stopping}, and a call hardly changes that"
    if p_active > p_passive:
        return f"{stopping}; a call raises the chance to stay responsive next week from {without} to {with_call}"
    return f"{stopping}; a call does not help them stay: {with_call} stay with a call, {without} without"


def _call_wins_back(p_passive: float, p_active: float) -> str:
    without, with_call = percent(p_passive), percent(p_active)
    if without == with_call:
        return f"a call hardly changes the chance of an open next week for families like this ({without})"
    if p_active > p_passive:
        return f"a call lifts the chance of an open next week from {without} to {with_call} for families like this"
    return (
        "a call does not lift the chance of an open next week for families like this: "
        f"{with_call} with a call, {without} without"
    )


def _days(n_days: int) -> str:
    return "1 day" if n_days == 1 else f"{n_days} days"
