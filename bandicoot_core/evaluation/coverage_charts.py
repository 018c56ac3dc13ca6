"""The charts of coverage: whom the calls reached."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from bandicoot_core.contracts import COVERAGE_DIMENSIONS
from bandicoot_core.evaluation.picture import NEUTRAL_COLOUR, SERIES_COLOURS, draw_picture

_EVERYONE, *_DIMENSIONS = COVERAGE_DIMENSIONS


def share_called_by_group(coverage: pa.Table, *, window_days: int) -> bytes:
    """Share of each group that was called in the window, against everyone's; `coverage` follows COVERAGE."""
    everyone = coverage.filter(pc.equal(coverage["dimension"], _EVERYONE))
    overall = everyone["share_called"][0].as_py() if everyone.num_rows else 0.0
    groups = pa.concat_tables(
        [coverage.filter(pc.equal(coverage["dimension"], dimension)).sort_by("group") for dimension in _DIMENSIONS]
    )
    names = [
        f"{dimension}: {group}" if dimension != "district" else group
        for dimension, group in zip(groups["dimension"].to_pylist(), groups["group"].to_pylist(), strict=True)
    ]
    colour_of = dict(zip(_DIMENSIONS, SERIES_COLOURS, strict=False))

    def draw(axes: Axes) -> None:
        at = np.arange(len(names))
        shares = groups["share_called"].to_numpy()
        axes.hlines(at, overall, shares, color=NEUTRAL_COLOUR, linewidth=0.8)
        axes.scatter(shares, at, color=[colour_of[name] for name in groups["dimension"].to_pylist()], zorder=3, s=22)
        axes.axvline(overall, color=NEUTRAL_COLOUR, linestyle=":", linewidth=1)
        axes.annotate(f" everyone {overall:.1%}", (overall, -0.8), fontsize=8, color=NEUTRAL_COLOUR)
        axes.set_yticks(at, names, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -1.4)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        axes.set_xlabel(f"Caregivers called in the last {window_days} days")

    return draw_picture("Whom the calls reached", draw, height=max(2.6, 1.4 + 0.19 * len(names)))
