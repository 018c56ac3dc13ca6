"""The charts of rows, states, clusters, chances, indices and lists that stand in asset metadata.

Each function takes a small table and returns PNG bytes. How a picture looks is settled in `picture`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bandicoot_core.contracts import (
    ACTIVE,
    ASSIGNMENT_METHODS,
    PASSIVE,
    PASSIVE_TUPLE,
    RESPONSIVE,
    STATES,
    UNRESPONSIVE,
)
from bandicoot_core.evaluation.picture import (
    ACCENT_COLOUR,
    NEUTRAL_COLOUR,
    SERIES_COLOURS,
    STATE_COLOURS,
    STATE_NAMES,
    draw_picture,
)


def rows_over_days(rows: pa.Table) -> bytes:
    """Rows taken in by day, and above them those that were set aside.

    `rows` has columns period_date (day), n_accepted and n_set_aside.
    """
    days = rows["period_date"].to_pylist()
    accepted, set_aside = (rows[name].to_numpy() for name in ("n_accepted", "n_set_aside"))

    def draw(axes: Axes) -> None:
        axes.bar(days, accepted, color=ACCENT_COLOUR, label="Taken in")
        axes.bar(days, set_aside, bottom=accepted, color=STATE_COLOURS[UNRESPONSIVE], label="Set aside")
        axes.set_ylabel("Rows of the source")
        axes.set_xlabel("Day (Asia/Kolkata)")
        axes.tick_params(axis="x", rotation=30)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return draw_picture("Rows by day", draw)


def states_over_time(shares: pa.Table) -> bytes:
    """Share of responsive caregivers over time.

    `shares` has columns period_date (day, or Sunday of a week), n_observed and n_responsive, in caregivers.
    """
    shares = shares.sort_by("period_date")
    dates = shares["period_date"].to_pylist()
    observed = shares["n_observed"].to_numpy().astype(float)
    responsive = shares["n_responsive"].to_numpy().astype(float)
    share = np.divide(responsive, observed, out=np.full_like(observed, np.nan), where=observed > 0)

    def draw(axes: Axes) -> None:
        axes.plot(dates, share, color=STATE_COLOURS[RESPONSIVE], marker="o", markersize=3)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel("Responsive caregivers")
        axes.set_xlabel("Day (Asia/Kolkata)")
        axes.tick_params(axis="x", rotation=30)

    return draw_picture("Share of caregivers who are responsive", draw)


def passive_weeks(counts: pa.Table) -> bytes:
    """Caregivers by how many passive transitions were seen of them; `counts` follows passive_counts."""
    seen = np.sum([counts[name].to_numpy() for name in PASSIVE_TUPLE], axis=0, dtype=np.int64)
    n_caregivers = np.bincount(seen, weights=counts["n_caregivers"].to_numpy().astype(float))

    def draw(axes: Axes) -> None:
        axes.bar(np.arange(len(n_caregivers)), n_caregivers, color=ACCENT_COLOUR)
        axes.set_xlabel("Transitions without a call in the training window (weeks)")
        axes.set_ylabel("Caregivers")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return draw_picture("How much is known of caregivers when nobody calls them", draw)


def caregivers_of_clusters(counts: pa.Table) -> bytes:
    """Caregivers per cluster by how they were assigned; needs columns cluster_id, assigned_by and n_caregivers."""
    clusters = np.unique(counts["cluster_id"].to_numpy())

    def draw(axes: Axes) -> None:
        below = np.zeros(len(clusters))
        for method, colour in zip(ASSIGNMENT_METHODS, SERIES_COLOURS, strict=False):
            rows = counts.filter(pc.equal(counts["assigned_by"], method))
            n_of = dict(zip(rows["cluster_id"].to_pylist(), rows["n_caregivers"].to_pylist(), strict=True))
            heights = np.array([n_of.get(cluster, 0) for cluster in clusters.tolist()], dtype=float)
            axes.bar(clusters, heights, bottom=below, color=colour, label=f"By {method}")
            below += heights
        axes.set_xlabel("Cluster")
        axes.set_ylabel("Caregivers")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return draw_picture("Caregivers per cluster, by how they were assigned", draw)


def chances_by_cluster(transitions: pa.Table) -> bytes:
    """P(responsive next week) per cluster and state, with and without a call; `transitions` follows its contract."""

    def draw(axes: Axes) -> None:
        for state, middle in zip(STATES, (-0.2, 0.2), strict=True):
            for action, offset in ((PASSIVE, -0.08), (ACTIVE, 0.08)):
                is_shown = pc.and_(pc.equal(transitions["state"], state), pc.equal(transitions["action"], action))
                rows = transitions.filter(is_shown)
                p, low, high = (rows[name].to_numpy() for name in ("p_next_r", "p_low", "p_high"))
                axes.errorbar(
                    rows["cluster_id"].to_numpy() + middle + offset,
                    p,
                    yerr=np.vstack([np.maximum(p - low, 0), np.maximum(high - p, 0)]),
                    fmt="o" if state == RESPONSIVE else "s",
                    color=STATE_COLOURS[state],
                    markerfacecolor=STATE_COLOURS[state] if action == ACTIVE else "white",
                    capsize=2,
                    markersize=4,
                    label=f"{STATE_NAMES[state]}, {'called' if action == ACTIVE else 'not called'}",
                )
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("Cluster")
        axes.set_ylabel("Responsive next week")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=7, ncols=2)

    return draw_picture("Chance of a responsive next week, with intervals", draw)


def clusters_plane(clusters: pa.Table) -> bytes:
    """Clusters in the plane of their two passive probabilities, area proportional to caregivers.

    `clusters` follows the contract of the same name.
    """
    sizes = clusters["n_caregivers"].to_numpy().astype(float)
    areas = 30 + 900 * sizes / max(sizes.max(initial=0), 1.0)

    def draw(axes: Axes) -> None:
        across = clusters["p_passive_u"].to_numpy()
        up = clusters["p_passive_r"].to_numpy()
        axes.scatter(across, up, s=areas, color=STATE_COLOURS[RESPONSIVE], alpha=0.45, edgecolors="black")
        for x, y, cluster_id in zip(across, up, clusters["cluster_id"].to_pylist(), strict=True):
            axes.annotate(str(cluster_id), (x, y), ha="center", va="center", fontsize=7)
        axes.plot([0, 1], [0, 1], color=NEUTRAL_COLOUR, linewidth=0.8, linestyle=":")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("P(responsive next week | unresponsive, no call)")
        axes.set_ylabel("P(responsive next week | responsive, no call)")

    return draw_picture("Clusters of passive behaviour (area: caregivers; number: cluster)", draw, height=4.6)


def indices_by_cluster(indices: pa.Table) -> bytes:
    """Whittle index per cluster and state with its interval; `indices` follows whittle_indices."""

    def draw(axes: Axes) -> None:
        for offset, state in zip((-0.15, 0.15), STATES, strict=True):
            rows = indices.filter(pc.equal(indices["state"], state))
            index = rows["whittle_index"].to_numpy()
            below = np.maximum(index - rows["index_low"].to_numpy(), 0)
            above = np.maximum(rows["index_high"].to_numpy() - index, 0)
            axes.errorbar(
                rows["cluster_id"].to_numpy() + offset,
                index,
                yerr=np.vstack([below, above]),
                fmt="o" if state == RESPONSIVE else "s",
                color=STATE_COLOURS[state],
                capsize=2,
                markersize=4,
                label=STATE_NAMES[state],
            )
        axes.axhline(0, color=NEUTRAL_COLOUR, linewidth=0.8)
        axes.set_xlabel("Cluster")
        axes.set_ylabel("Whittle index (responsive weeks)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return draw_picture("What a call is worth, by cluster and state, with intervals", draw)


def list_by_district(call_list: pa.Table) -> bytes:
    """Listed caregivers per district, split by state; needs columns district and state."""
    districts = call_list["district"].fill_null("(unknown)").to_numpy(zero_copy_only=False).astype(str)
    states = call_list["state"].to_numpy(zero_copy_only=False).astype(str)
    names = np.unique(districts)

    def draw(axes: Axes) -> None:
        left = np.zeros(len(names))
        for state in STATES:
            counts = np.array([np.sum((districts == name) & (states == state)) for name in names], dtype=float)
            axes.barh(names, counts, left=left, color=STATE_COLOURS[state], label=STATE_NAMES[state])
            left += counts
        axes.invert_yaxis()
        axes.set_xlabel("Caregivers to call")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(names):
            axes.legend()

    return draw_picture("The list by district and state", draw, height=max(2.4, 1.2 + 0.3 * len(names)))


def eligibility_funnel(funnel: pa.Table) -> bytes:
    """How many caregivers remain after each criterion; `funnel` has columns step and n_caregivers, in order."""
    steps = funnel["step"].to_pylist()
    counts = funnel["n_caregivers"].to_numpy()

    def draw(axes: Axes) -> None:
        axes.barh(steps, counts, color=ACCENT_COLOUR)
        for position, count in enumerate(counts):
            axes.annotate(f" {count:,}", (float(count), position), va="center", fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, max(float(counts.max(initial=0)), 1.0) * 1.18)
        axes.set_xlabel("Caregivers remaining")

    return draw_picture("From the registry to who may be called", draw)
