"""The chart of two models side by side: whom the second one values otherwise."""

import pyarrow as pa
from matplotlib.axes import Axes

from bandicoot_core.evaluation.picture import ACCENT_COLOUR, NEUTRAL_COLOUR, draw_picture


def change_of_index(bins: pa.Table) -> bytes:
    """How far caregivers' own index moves: `bins` has change (middle), width (responsive weeks) and n_caregivers."""

    def draw(axes: Axes) -> None:
        axes.bar(
            bins["change"].to_numpy(),
            bins["n_caregivers"].to_numpy(),
            width=bins["width"].to_numpy(),
            color=ACCENT_COLOUR,
        )
        axes.axvline(0, color=NEUTRAL_COLOUR, linestyle=":", linewidth=1)
        axes.set_xlabel("Change of her own index, second model less first (responsive weeks)")
        axes.set_ylabel("Caregivers")

    return draw_picture("What a call is worth to each caregiver by the second model, against the first", draw)
