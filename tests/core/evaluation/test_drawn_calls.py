"""The check of fitted chances against calls that chance chose: by hand, its size, and its power against confounding."""

import numpy as np
import pyarrow as pa
import pytest

from bandicoot_core.contracts import DRAWN_CALLS
from bandicoot_core.evaluation.drawn_calls import drawn_calls_sentence, drawn_calls_table


def calls_of(*rows: tuple[str, float, bool, float]) -> pa.Table:
    names = ("state", "propensity", "is_responsive_next", "p_fitted")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def test_drawn_calls_are_weighted_by_their_chances_and_certain_ones_stand_apart() -> None:
    table = drawn_calls_table(
        calls_of(
            ("U", 0.5, True, 0.25),
            ("U", 0.25, False, 0.50),
            ("R", 0.1, True, 0.75),
            ("R", 1.0, False, 0.75),
        )
    )
    rows = {(row["chosen_by"], row["state"]): row for row in table.to_pylist()}
    assert set(rows) == {("draw", "any"), ("draw", "U"), ("draw", "R"), ("order", "any"), ("order", "R")}
    # Weights 2, 4 and 10.
    assert rows["draw", "any"]["p_responsive"] == pytest.approx(12 / 16)
    assert rows["draw", "any"]["p_fitted"] == pytest.approx((0.5 + 2 + 7.5) / 16)
    assert rows["draw", "any"]["difference"] == pytest.approx((2 * 0.75 - 4 * 0.5 + 10 * 0.25) / 16)
    assert rows["draw", "U"]["difference"] == pytest.approx((2 * 0.75 - 4 * 0.5) / 6)
    residuals = np.array([0.75, -0.5]) - (2 * 0.75 - 4 * 0.5) / 6
    error = np.sqrt((2 * residuals[0]) ** 2 + (4 * residuals[1]) ** 2) / 6
    assert rows["draw", "U"]["high"] - rows["draw", "U"]["low"] == pytest.approx(2 * 1.959964 * error)
    assert (rows["order", "R"]["n_calls"], rows["order", "R"]["difference"]) == (1, -0.75)


def test_a_propensity_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"outside \(0, 1\]"):
        drawn_calls_table(calls_of(("U", 0.0, True, 0.5)))


def lists(random: np.random.Generator, *, confounding: float) -> pa.Table:
    """Calls of lists whose certain places go to those whom an unseen fact makes likelier to answer.

    The model fits what it sees: the share among all who were called. Caregivers differ in propensity.
    """
    n, p = 8000, 0.4
    unseen = random.normal(size=n)
    truth = np.clip(p + confounding * unseen, 0, 1)
    propensity = np.where(random.random(n) < 0.5, 0.05, 0.15)
    propensity[np.argsort(-unseen)[:400]] = 1.0
    is_called = random.random(n) < propensity
    is_responsive = random.random(n) < truth
    fitted = is_responsive[is_called].mean() if confounding else p
    return pa.table(
        {
            "state": ["U"] * int(is_called.sum()),
            "propensity": propensity[is_called],
            "is_responsive_next": is_responsive[is_called],
            "p_fitted": np.full(int(is_called.sum()), fitted),
        }
    )


def test_a_right_model_is_called_wrong_once_in_twenty_times() -> None:
    random = np.random.default_rng(4)
    n_wrong = 0
    for _ in range(400):
        table = drawn_calls_table(lists(random, confounding=0)).to_pylist()
        row = next(row for row in table if (row["chosen_by"], row["state"]) == ("draw", "any"))
        n_wrong += not row["low"] <= 0 <= row["high"]
    # 20 expected, with a standard deviation of 4.4.
    assert 8 <= n_wrong <= 34


def test_calls_chosen_for_reasons_no_log_shows_are_found() -> None:
    table = drawn_calls_table(lists(np.random.default_rng(5), confounding=0.1))
    drawn = next(row for row in table.to_pylist() if (row["chosen_by"], row["state"]) == ("draw", "any"))
    assert drawn["high"] < 0
    assert "reasons that her weeks do not show" in drawn_calls_sentence(table)


def test_without_a_drawn_call_the_sentence_says_so() -> None:
    assert "can't be checked" in drawn_calls_sentence(DRAWN_CALLS.empty())
