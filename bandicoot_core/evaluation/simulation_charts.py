"""The charts of the policy simulation: what each policy reaches at each budget, and where one more call is worth most.

Each function takes a table of `policy_comparison` for one kind of cohort and returns PNG bytes. How a picture looks is
settled in `picture`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bandicoot_core.contracts import CALL_WORTH, POLICY_SIMULATION, TableContract, conform
from bandicoot_core.evaluation.picture import ACCENT_COLOUR, NEUTRAL_COLOUR, SERIES_COLOURS, draw_picture
from bandicoot_core.evaluation.policies import NO_CALLS
from bandicoot_core.evaluation.policy_comparison import AT_BEST

POLICY_LABELS = {
    "fluid_lp": "Fluid program's index",
    "whittle_caregiver": "Whittle, own chances",
    "whittle_cluster": "Whittle, cluster's chances",
    "myopic": "Myopic",
    "never_versus_always": "Wrong index: never/always",
    "separate_subsidy": "Wrong index: own subsidies",
    "worst_first": "Worst first",
    "round_robin": "Round robin",
    "random": "Random",
}
"""Policies in the order of the legend; further ones follow under their own names."""

_WRONG_INDICES = ("never_versus_always", "separate_subsidy")
_MARKERS = "osD^vPX*<>"


def share_of_gain_by_budget(simulation: pa.Table) -> bytes:
    """Share of the achievable gain of every policy against the budget, with intervals.

    `simulation` follows POLICY_SIMULATION and holds one kind of cohort (ValueError otherwise). Markers of policies at
    the same budget stand side by side, so that intervals don't hide one another. No calls are 0% and the bound 100%.
    """
    kind = _only_kind(simulation, POLICY_SIMULATION)
    simulation = conform(simulation, POLICY_SIMULATION)
    present = set(simulation["policy"].to_pylist()) - {NO_CALLS, AT_BEST}
    ordered = [name for name in POLICY_LABELS if name in present] + sorted(present - set(POLICY_LABELS))
    budgets = np.unique(simulation["budget"].to_numpy())
    # Wrong indices are grey, all others have a colour each; the last of the set, yellow, is too pale for a line.
    coloured = [name for name in ordered if name not in _WRONG_INDICES]
    colour_of = {name: SERIES_COLOURS[place % (len(SERIES_COLOURS) - 1)] for place, name in enumerate(coloured)}
    gap = float(np.diff(budgets).min()) if len(budgets) > 1 else 1.0

    def draw(axes: Axes) -> None:
        for number, name in enumerate(ordered):
            rows = simulation.filter(pc.equal(simulation["policy"], name))
            share, low, high = (
                pc.fill_null(rows[column], np.nan).to_numpy()
                for column in ("share_of_gain", "share_of_gain_low", "share_of_gain_high")
            )
            aside = 0.4 * gap * ((number + 0.5) / len(ordered) - 0.5)
            axes.errorbar(
                rows["budget"].to_numpy() + aside,
                share,
                yerr=np.nan_to_num(np.vstack([share - low, high - share])).clip(min=0.0),
                color=colour_of.get(name, NEUTRAL_COLOUR),
                linestyle="-" if name in colour_of else "--",
                linewidth=1.0,
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=4,
                capsize=2,
                label=POLICY_LABELS.get(name, name),
            )
        axes.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel("Share of the achievable gain")
        axes.set_xticks(budgets)
        axes.set_xlabel("Calls a week")
        if ordered:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=7.5, frameon=False)

    return draw_picture(f"How near each policy comes to the best possible (cohort: {kind})", draw)


def worth_of_one_more_call(call_worth: pa.Table) -> bytes:
    """What one more call would add: by week when calls are shared, by district when districts have their own.

    `call_worth` follows CALL_WORTH and holds one kind of cohort (ValueError otherwise). By district the mean over the
    weeks is shown, the largest first: calls should move from the bottom to the top.
    """
    kind = _only_kind(call_worth, CALL_WORTH)
    call_worth = conform(call_worth, CALL_WORTH)
    worth = call_worth["worth_of_one_more_call"].to_numpy()
    pools, of_pool = np.unique(np.array(call_worth["pool"].to_pylist(), dtype=np.str_), return_inverse=True)
    by_pool = np.bincount(of_pool, weights=worth) / np.bincount(of_pool) if len(worth) else worth
    order = np.argsort(by_pool, kind="stable")

    def draw_weeks(axes: Axes) -> None:
        axes.plot(call_worth["week"].to_numpy(), worth, color=ACCENT_COLOUR, marker="o", markersize=4)
        axes.set_ylim(0, max(float(worth.max(initial=0.0)), 0.1) * 1.15)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("Week of the call")
        axes.set_ylabel("Responsive weeks per call")

    def draw_pools(axes: Axes) -> None:
        names = [str(pools[position]) or "(shared calls)" for position in order]
        axes.barh(names, by_pool[order], color=ACCENT_COLOUR)
        for position, value in enumerate(by_pool[order]):
            axes.annotate(f" {value:.2f}", (float(value), position), va="center", fontsize=8)
        axes.set_xlim(0, max(float(by_pool.max(initial=0.0)), 0.1) * 1.12)
        axes.set_xlabel("Responsive weeks per call, mean over the weeks")

    title = f"What one more call would add at best (cohort: {kind})"
    if len(pools) <= 1:
        return draw_picture(title, draw_weeks)
    return draw_picture(title, draw_pools, height=max(2.4, 1.2 + 0.3 * len(pools)))


def _only_kind(table: pa.Table, contract: TableContract) -> str:
    kinds = pc.unique(table["cohort"]).to_pylist()
    if len(kinds) != 1:
        raise ValueError(
            f"{contract.name}: {len(kinds)} kinds of cohort ({kinds}); a chart shows one, filter by cohort"
        )
    return str(kinds[0])
