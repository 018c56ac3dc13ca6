"""The charts of the experiment report: effects, their course over the weeks, balance of the arms, other policies.

Each function takes a table of the report and returns PNG bytes. How a picture looks is settled in `picture`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from bandicoot_core.contracts import OFF_POLICY_ESTIMATORS
from bandicoot_core.evaluation.picture import (
    ACCENT_COLOUR,
    NEUTRAL_COLOUR,
    SERIES_COLOURS,
    draw_picture,
)

_OUTCOME_NAMES = {
    "responsive_weeks": "Responsive weeks\n(share of weeks)",
    "doses_on_time": "Doses on time\n(share of doses due)",
}
_ESTIMATOR_NAMES = {"ips": "IPS", "snips": "Self-normalised IPS", "doubly_robust": "Doubly robust"}
_POINTS = FuncFormatter(lambda share, _: f"{100 * share:+.4g}" if abs(share) > 1e-9 else "0")
_MANY_FACTS = 24
"""Rows of the balance chart: the largest differences are shown when there are more."""


def effects_with_intervals(effects: pa.Table) -> bytes:
    """The effect on each outcome with its interval; `effects` follows EXPERIMENT_EFFECTS."""
    rows = effects.to_pylist()

    def draw(axes: Axes) -> None:
        for position, row in enumerate(rows):
            ends = np.array([[row["estimate"] - row["low"]], [row["high"] - row["estimate"]]])
            ends = np.where(np.isfinite(ends), ends, np.nan)  # an open end has no bar
            axes.errorbar(row["estimate"], position, xerr=ends, fmt="o", color=ACCENT_COLOUR, capsize=4, markersize=6)
            label = f"{100 * row['estimate']:+.1f} points (p = {row['p_value']:.3f})"
            axes.annotate(
                label, (row["estimate"], position), (0, 9), textcoords="offset points", ha="center", fontsize=8
            )
        axes.axvline(0, color=NEUTRAL_COLOUR, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [_OUTCOME_NAMES[row["outcome"]] for row in rows])
        axes.set_ylim(-0.6, max(len(rows), 1) - 0.4)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(_POINTS)
        axes.set_xlabel("Treatment against control (percentage points, 95 % interval)")

    return draw_picture("What being in the treatment arm changes", draw)


def effect_over_weeks(weeks: pa.Table) -> bytes:
    """The effect up to each week with its always-valid interval; `weeks` follows EXPERIMENT_WEEKS."""
    dates = weeks["week_date"].to_pylist()
    estimate, low, high = (weeks[name].to_numpy() for name in ("estimate", "low", "high"))

    def draw(axes: Axes) -> None:
        axes.fill_between(dates, low, high, color=SERIES_COLOURS[0], alpha=0.2, label="Always-valid 95 % interval")
        axes.plot(dates, estimate, color=SERIES_COLOURS[0], marker="o", markersize=3, label="Effect so far")
        axes.axhline(0, color=NEUTRAL_COLOUR, linewidth=0.8)
        axes.yaxis.set_major_formatter(_POINTS)
        axes.set_ylabel("Responsive weeks (points)")
        axes.set_xlabel("Week (Sunday, Asia/Kolkata)")
        axes.tick_params(axis="x", rotation=30)
        axes.legend(fontsize=8)

    return draw_picture("The effect so far, which may be looked at every week", draw)


def balance_of_arms(balance: pa.Table) -> bytes:
    """Standardized differences between the arms, largest first; `balance` follows EXPERIMENT_BALANCE."""
    order = pc.sort_indices(pc.abs(balance["standardized_difference"]), sort_keys=[("", "descending")])
    shown = balance.take(order.slice(0, _MANY_FACTS))
    difference = shown["standardized_difference"].to_numpy()
    names = [
        row["fact"] if row["level"] is None else f"{row['fact']}: {row['level']}"
        for row in shown.select(["fact", "level"]).to_pylist()
    ]

    def draw(axes: Axes) -> None:
        axes.axvspan(-0.1, 0.1, color=NEUTRAL_COLOUR, alpha=0.12)
        axes.axvline(0, color=NEUTRAL_COLOUR, linewidth=0.8)
        axes.scatter(difference, names, color=SERIES_COLOURS[0], s=22)
        axes.invert_yaxis()
        axes.tick_params(axis="y", labelsize=8)
        reach = max(0.15, 1.1 * float(np.abs(difference).max(initial=0)))
        axes.set_xlim(-reach, reach)
        axes.set_xlabel("Treatment minus control (standard deviations; grey: below 0.1)")

    return draw_picture("Whether the arms were alike", draw, height=max(2.4, 1.2 + 0.2 * len(names)))


def values_of_policies(values: pa.Table) -> bytes:
    """What each policy would gain per call, by estimator; `values` follows OFF_POLICY_VALUES."""
    policies = sorted(set(values["policy"].to_pylist()))
    position = {policy: place for place, policy in enumerate(policies)}

    def draw(axes: Axes) -> None:
        for number, estimator in enumerate(OFF_POLICY_ESTIMATORS):
            rows = values.filter(pc.and_(pc.equal(values["estimator"], estimator), pc.is_valid(values["value"])))
            value = rows["value"].to_numpy()
            axes.errorbar(
                value,
                np.array([position[policy] for policy in rows["policy"].to_pylist()]) + 0.2 * (number - 1),
                xerr=np.vstack([value - rows["low"].to_numpy(), rows["high"].to_numpy() - value]),
                fmt="os^"[number],
                color=SERIES_COLOURS[number],
                capsize=2,
                markersize=4,
                label=_ESTIMATOR_NAMES[estimator],
            )
        axes.axvline(0, color=NEUTRAL_COLOUR, linewidth=0.8)
        axes.set_yticks(range(len(policies)), [policy.replace("_", " ") for policy in policies])
        axes.invert_yaxis()
        axes.set_xlabel("Responsive caregivers gained per call (95 % interval)")
        axes.legend(fontsize=8)

    return draw_picture("What other ways of choosing would have gained", draw)
