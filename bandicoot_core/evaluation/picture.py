"""How every chart looks: size, colours, and the PNG bytes it becomes. What a chart shows belongs to the chart modules.

Pictures carry one message each, with labelled axes and units. Colours are colour-blind safe (Okabe and Ito's set), and
the same drawing gives the same bytes.
"""

import io
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bandicoot_core.contracts import RESPONSIVE, UNRESPONSIVE

STATE_COLOURS = {RESPONSIVE: "#0072B2", UNRESPONSIVE: "#D55E00"}
STATE_NAMES = {RESPONSIVE: "Responsive", UNRESPONSIVE: "Unresponsive"}
NEUTRAL_COLOUR = "#666666"
ACCENT_COLOUR = "#009E73"
SERIES_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""For several series in one chart, in the order in which they are to be taken."""


def draw_picture(title: str, draw: Callable[[Axes], None], *, height: float = 3.4) -> bytes:
    """A PNG of one set of axes, 612 pixels wide and 90 pixels per inch of `height`; `draw` fills the axes."""
    figure = Figure(figsize=(6.8, height), dpi=90, layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
