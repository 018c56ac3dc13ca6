"""The picture of the comparison of estimators; how it looks is settled in `picture`."""

import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from bandicoot_core.evaluation.estimation import RANDOM
from bandicoot_core.evaluation.picture import NEUTRAL_COLOUR, SERIES_COLOURS, draw_picture
from bandicoot_core.model.estimators import ESTIMATORS

_NAMES = {
    "joint": "all weeks at once",
    "common_lift": "common lift",
    "beta_likelihood": "Beta, by likelihood",
    "beta_moments": "Beta, by moments",
    "laplace": "Laplace",
}
_MARKERS = "osD^v"


def gain_by_active_weeks(estimation: pa.Table, *, programme: str = RANDOM) -> bytes:
    """Share of the achievable gain against active weeks per cluster and state, one line for each estimator.

    `estimation` follows ESTIMATION; the rows of one kind of programme are drawn, estimators that it lacks are not.
    """
    rows = estimation.filter(pc.equal(estimation["programme"], programme)).sort_by("n_active")

    def draw(axes: Axes) -> None:
        weeks: set[float] = set()
        for estimator, colour, marker in zip(ESTIMATORS, SERIES_COLOURS, _MARKERS, strict=False):
            of_estimator = rows.filter(pc.equal(rows["estimator"], estimator))
            if not of_estimator.num_rows:
                continue
            n_active = of_estimator["n_active"].to_pylist()
            weeks.update(n_active)
            axes.plot(
                n_active,
                of_estimator["cluster_share"].to_numpy(zero_copy_only=False),
                color=colour,
                marker=marker,
                markersize=4,
                label=_NAMES[estimator],
            )
        axes.axhline(1, color=NEUTRAL_COLOUR, linewidth=0.8, linestyle=":")
        if weeks:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(sorted(weeks)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.legend(fontsize=8)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("Weeks with a call per cluster and state (caregiver-weeks)")
        axes.set_ylabel("Share of achievable gain")

    return draw_picture("What a list is worth by how call effects are estimated", draw)
