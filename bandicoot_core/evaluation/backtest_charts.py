"""The charts of the backtest: calibration, losses against the baselines, and the newest week in its band.

Each function takes a small table and returns PNG bytes. How a picture looks is settled in `picture`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes

from bandicoot_core.contracts.backtest_tables import MODEL, PERSISTENCE, POPULATION_RATE, STAYS
from bandicoot_core.evaluation.drift import Band, OneStepLosses
from bandicoot_core.evaluation.picture import ACCENT_COLOUR, NEUTRAL_COLOUR, SERIES_COLOURS, draw_picture

_NAMES = {
    MODEL: "Model",
    PERSISTENCE: "P(R | state) of everybody",
    STAYS: "Stays as she is",
    POPULATION_RATE: "Share of everybody",
}
_MARKERS = dict(zip(_NAMES, "os^D", strict=True))
_COLOURS = dict(zip(_NAMES, SERIES_COLOURS, strict=False))


def calibration_chart(calibration: pa.Table, *, horizon: int = 1) -> bytes:
    """Observed share of responsive weeks against the model's prediction, with intervals; needs CALIBRATION."""
    rows = calibration.filter(
        pc.and_(pc.equal(calibration["predictor"], MODEL), pc.equal(calibration["horizon"], horizon))
    )
    predicted, observed = rows["mean_predicted"].to_numpy(), rows["observed_share"].to_numpy()
    below, above = observed - rows["share_low"].to_numpy(), rows["share_high"].to_numpy() - observed

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=NEUTRAL_COLOUR, linewidth=0.8, linestyle=":", label="As predicted")
        axes.errorbar(
            predicted,
            observed,
            yerr=np.vstack([below, above]),
            fmt="o",
            color=_COLOURS[MODEL],
            capsize=2,
            markersize=4,
            label="Bins of predictions, 90% interval",
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("Predicted chance to be responsive")
        axes.set_ylabel("Share that was responsive")
        axes.legend(loc="upper left")

    ahead = "next week" if horizon == 1 else f"{horizon} weeks ahead"
    return draw_picture(f"How often predicted chances come true, {ahead}", draw)


def losses_by_origin(scores: pa.Table, *, horizon: int = 1) -> bytes:
    """Log loss of the model and the baselines by origin, over everybody; `scores` follows MODEL_BACKTEST."""
    rows = scores.filter(pc.and_(pc.equal(scores["scope"], "all"), pc.equal(scores["horizon"], horizon)))

    def draw(axes: Axes) -> None:
        for predictor, name in _NAMES.items():
            of_one = rows.filter(pc.equal(rows["predictor"], predictor)).sort_by("origin_week")
            axes.plot(
                of_one["origin_week"].to_pylist(),
                of_one["log_loss"].to_numpy(),
                color=_COLOURS[predictor],
                marker=_MARKERS[predictor],
                markersize=4,
                label=name,
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("Last week trained on (Sunday)")
        axes.set_ylabel("Log loss (nats)")
        axes.set_xticks(sorted(set(rows["origin_week"].to_pylist())))
        axes.tick_params(axis="x", rotation=30)
        axes.legend(loc="lower left", ncols=2, fontsize=8)

    ahead = "the next week" if horizon == 1 else f"{horizon} weeks ahead"
    return draw_picture(f"Loss of predictions for {ahead} (lower is better)", draw, height=3.9)


def loss_in_band(found: OneStepLosses, band: Band | None) -> bytes:
    """One-step loss of each week with the noise of its caregivers, and the band of the newest one."""

    def draw(axes: Axes) -> None:
        weeks = np.array(found.weeks, dtype="datetime64[D]")
        if band is not None:
            axes.axhspan(band.low, band.high, color=ACCENT_COLOUR, alpha=0.15, label="Expected of the newest week")
            axes.axhline(band.centre, color=ACCENT_COLOUR, linewidth=0.8)
        axes.errorbar(
            weeks,
            found.losses,
            yerr=2 * found.errors,
            fmt="o-",
            color=_COLOURS[MODEL],
            capsize=2,
            markersize=4,
            label="Predicted from the week before, ± 2 standard errors",
        )
        if len(weeks):
            axes.plot(
                weeks[-1:], found.losses[-1:], "o", color=SERIES_COLOURS[1], markersize=8, zorder=5, label="Newest week"
            )
        axes.set_xticks(weeks)
        axes.tick_params(axis="x", rotation=30)
        axes.set_xlabel("Week (Sunday)")
        axes.set_ylabel("Log loss (nats)")
        axes.margins(y=0.4)
        axes.legend(loc="lower left", fontsize=8)

    return draw_picture("How well each week was predicted", draw)
