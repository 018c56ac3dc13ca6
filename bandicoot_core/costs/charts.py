"""The chart of spending: each day of the month, against the limit."""

from collections.abc import Sequence
from datetime import date

from matplotlib.axes import Axes

from bandicoot_core.contracts import SPENDING_LEVELS
from bandicoot_core.evaluation.picture import NEUTRAL_COLOUR, SERIES_COLOURS, draw_picture


def spending_against_limit(
    days: Sequence[date], spent_usd: Sequence[float], *, n_days_of_month: int, projected_usd: float, limit_usd: float
) -> bytes:
    """A PNG of what was spent by each day of a month that was reported, and where the month is going."""

    def draw(axes: Axes) -> None:
        at = [day.day for day in days]
        axes.plot(at, spent_usd, marker="o", markersize=3, color=SERIES_COLOURS[0], label="spent")
        if at[-1] < n_days_of_month:
            axes.plot(
                [at[-1], n_days_of_month],
                [spent_usd[-1], projected_usd],
                linestyle="--",
                color=SERIES_COLOURS[0],
                label=f"projected: {projected_usd:,.0f} US dollars",
            )
        for level in SPENDING_LEVELS:
            axes.axhline(level / 100 * limit_usd, color=NEUTRAL_COLOUR, linestyle=":", linewidth=1)
            axes.annotate(f"{level} % of the limit", (1, level / 100 * limit_usd), fontsize=7, va="bottom")
        axes.set_xlim(1, n_days_of_month)
        axes.set_ylim(0, 1.1 * max(limit_usd, projected_usd, *spent_usd))
        axes.set_xlabel(f"Day of {days[-1]:%B %Y}")
        axes.set_ylabel("US dollars since the month began")
        axes.legend(fontsize=8, frameon=False, loc="best")

    return draw_picture("What the month costs", draw)
