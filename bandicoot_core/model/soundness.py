"""Whether a trained model is sound in itself: complete, finite, the right way round, and backed by data.

Pure: a bundle in, outcomes out; a broken bundle fails checks instead of raising. The comparison with the champion
and with the caregivers belongs to `versions`; whether a model predicts well is measured by evaluation.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.checks import CheckOutcome, first_at_fault, with_remedy
from bandicoot_core.contracts import ACTIONS, ACTIVE, PASSIVE, RESPONSIVE, STATES, UNRESPONSIVE
from bandicoot_core.model.bundle import ModelBundle
from bandicoot_core.model.posterior import FloatArray

FEW_ACTIVE_TRANSITIONS = 40
"""Below this many active transitions a chance is mostly prior: a warning, not a refusal."""

SOUNDNESS_CHECKS = {
    "clusters_exist": "There is at least one cluster, and none without caregivers",
    "cluster_ids_contiguous": "Cluster ids run from 0 without gaps, and tuples refer to no others",
    "cells_complete": "Every cluster has both states and both actions, and an index in both states",
    "probabilities_valid": "Every chance is a number between 0 and 1 inside its interval",
    "indices_valid": "Every index is finite, inside its interval, and of an indexable arm",
    "states_not_swapped": "Without calls, responsive weeks are followed by responsive ones more often than others are",
    "clusters_have_active_data": "Every cluster was called at least once in the training window",
    "active_data_suffices": f"Every active chance rests on {FEW_ACTIVE_TRANSITIONS} transitions or more (a warning)",
}
"""Names of the checks, and what each of them demands."""


def soundness_checks(bundle: ModelBundle) -> tuple[CheckOutcome, ...]:
    """The outcomes of SOUNDNESS_CHECKS, in that order; all block but the last."""
    return (
        _clusters_exist(bundle),
        _ids_are_contiguous(bundle),
        _cells_are_complete(bundle),
        _probabilities_are_valid(bundle),
        _indices_are_valid(bundle),
        _states_are_not_swapped(bundle),
        _clusters_have_active_data(bundle),
        _active_data_suffices(bundle),
    )


def _clusters_exist(bundle: ModelBundle) -> CheckOutcome:
    n_clusters = bundle.clusters.num_rows
    n_empty = n_clusters - int(np.count_nonzero(bundle.clusters["n_caregivers"].to_numpy()))
    is_passed = n_clusters > 0 and n_empty == 0
    text = f"{n_clusters} clusters, {n_empty} of them without caregivers; expected at least one cluster and none empty"
    return CheckOutcome(
        "clusters_exist",
        is_passed,
        True,
        with_remedy(text, is_passed, "look at passive_counts of the training week: its window may have no events"),
        {"n_clusters": n_clusters, "n_empty_clusters": n_empty},
        _at_fault(bundle.clusters, bundle.clusters["n_caregivers"].to_numpy() == 0, "n_caregivers"),
    )


def _ids_are_contiguous(bundle: ModelBundle) -> CheckOutcome:
    ids = _cluster_ids(bundle)
    expected = list(range(len(ids)))
    strays = sorted(set(bundle.tuple_clusters["cluster_id"].to_pylist()) - set(ids))
    is_passed = ids == expected and not strays
    text = f"cluster ids are {_some(ids)}; tuples refer to {_some(strays)} beyond them; expected 0 to {len(ids) - 1}"
    return CheckOutcome(
        "cluster_ids_contiguous",
        is_passed,
        True,
        with_remedy(text, is_passed, "materialize clusters and everything after it again, in one run"),
        {"n_clusters": len(ids), "n_stray_ids": len(strays)},
    )


def _cells_are_complete(bundle: ModelBundle) -> CheckOutcome:
    ids = _cluster_ids(bundle)
    cells = _rows(bundle.transitions, "cluster_id", "state", "action")
    index_cells = _rows(bundle.indices, "cluster_id", "state")
    is_complete = sorted(cells) == sorted((k, s, a) for k in ids for s in STATES for a in ACTIONS)
    is_index_complete = sorted(index_cells) == sorted((k, s) for k in ids for s in STATES)
    is_passed = is_complete and is_index_complete
    text = (
        f"{len(cells)} transition models and {len(index_cells)} indices for {len(ids)} clusters; expected every "
        f"cluster once with each state and action ({4 * len(ids)}) and once with each state ({2 * len(ids)})"
    )
    return CheckOutcome(
        "cells_complete",
        is_passed,
        True,
        with_remedy(text, is_passed, "materialize transition_models and whittle_indices again for this week"),
        {"n_transition_models": len(cells), "n_indices": len(index_cells)},
    )


def _probabilities_are_valid(bundle: ModelBundle) -> CheckOutcome:
    p, low, high = (_floats(bundle.transitions, name) for name in ("p_next_r", "p_low", "p_high"))
    # Comparisons with nan are false, so this also finds what is not a number.
    is_valid = (low >= 0) & (low <= p) & (p <= high) & (high <= 1)
    centroids = np.concatenate([_floats(bundle.clusters, name) for name in ("p_passive_u", "p_passive_r")])
    n_invalid = int((~is_valid).sum() + (~((centroids >= 0) & (centroids <= 1))).sum())
    text = f"{n_invalid} chances are not numbers between 0 and 1, or lie outside their interval; expected none"
    return CheckOutcome(
        "probabilities_valid",
        n_invalid == 0,
        True,
        with_remedy(text, n_invalid == 0, "this is a fault of the software: keep the champion and report it"),
        {"n_invalid": n_invalid},
        _at_fault(bundle.transitions, ~is_valid, "state", "action", "p_next_r", "p_low", "p_high"),
    )


def _indices_are_valid(bundle: ModelBundle) -> CheckOutcome:
    index, low, high = (_floats(bundle.indices, name) for name in ("whittle_index", "index_low", "index_high"))
    is_valid = np.isfinite(low) & np.isfinite(high) & (low <= index) & (index <= high)
    n_invalid = int((~is_valid).sum() + (~np.isfinite(_floats(bundle.tuple_indices, "own_index"))).sum())
    is_indexable = bundle.indices["is_indexable"].to_numpy(zero_copy_only=False).astype(bool)
    n_not_indexable = int((~is_indexable).sum())
    is_passed = n_invalid == 0 and n_not_indexable == 0
    text = (
        f"{n_invalid} indices are not finite or lie outside their interval, {n_not_indexable} arms are not indexable; "
        "expected none"
    )
    return CheckOutcome(
        "indices_valid",
        is_passed,
        True,
        with_remedy(text, is_passed, "look at the rewards and the discount; keep the champion until it is explained"),
        {"n_invalid": n_invalid, "n_not_indexable": n_not_indexable},
        _at_fault(
            bundle.indices,
            ~(is_valid & is_indexable),
            "state",
            "whittle_index",
            "index_low",
            "index_high",
            "is_indexable",
        ),
    )


def _states_are_not_swapped(bundle: ModelBundle) -> CheckOutcome:
    stay, n_stay = _pooled(bundle, RESPONSIVE)
    come_back, n_come_back = _pooled(bundle, UNRESPONSIVE)
    is_passed = n_stay > 0 and n_come_back > 0 and stay >= come_back
    text = (
        f"without calls {stay:.1%} of {n_stay} responsive weeks and {come_back:.1%} of {n_come_back} unresponsive "
        "ones were followed by a responsive week; expected weeks of both kinds and the first share to be the larger"
    )
    return CheckOutcome(
        "states_not_swapped",
        is_passed,
        True,
        with_remedy(text, is_passed, "check that opened and clicked events arrive and are dated by when they happened"),
        {"p_next_r_from_r": stay, "p_next_r_from_u": come_back},
    )


def _clusters_have_active_data(bundle: ModelBundle) -> CheckOutcome:
    n_active = _active_transitions(bundle)
    without = sorted(k for k, n in n_active.items() if n == 0)
    text = f"{len(without)} clusters were never called in the training window ({_some(without)}); expected none"
    remedy = "what a call does there would be pure guess: choose fewer clusters, a longer window or more exploration"
    return CheckOutcome(
        "clusters_have_active_data",
        not without,
        True,
        with_remedy(text, not without, remedy),
        {"n_clusters_without_calls": len(without), "fewest_active_transitions": min(n_active.values(), default=0)},
        _at_fault(bundle.clusters, np.isin(bundle.clusters["cluster_id"].to_numpy(), without), "n_caregivers"),
    )


def _active_data_suffices(bundle: ModelBundle) -> CheckOutcome:
    active = bundle.transitions.filter(pc.equal(bundle.transitions["action"], ACTIVE))
    n_transitions = _floats(active, "n_to_r") + _floats(active, "n_to_u")
    n_thin = int((n_transitions < FEW_ACTIVE_TRANSITIONS).sum())
    text = (
        f"{n_thin} of {len(n_transitions)} active chances rest on fewer than {FEW_ACTIVE_TRANSITIONS} transitions; "
        "expected none"
    )
    remedy = "their indices are uncertain (see the intervals): consider fewer clusters or a longer window"
    return CheckOutcome(
        "active_data_suffices",
        n_thin == 0,
        False,
        with_remedy(text, n_thin == 0, remedy),
        {"n_thin_cells": n_thin, "n_active_cells": len(n_transitions)},
        _at_fault(active, n_transitions < FEW_ACTIVE_TRANSITIONS, "state", "n_to_r", "n_to_u", "p_next_r"),
    )


def _pooled(bundle: ModelBundle, state: str) -> tuple[float, int]:
    table = bundle.transitions
    rows = table.filter(pc.and_(pc.equal(table["state"], state), pc.equal(table["action"], PASSIVE)))
    n_to_r, n_to_u = (pc.sum(rows[name]).as_py() or 0 for name in ("n_to_r", "n_to_u"))
    n = n_to_r + n_to_u
    return (n_to_r / n if n else 0.0), n


def _active_transitions(bundle: ModelBundle) -> dict[int, int]:
    totals = dict.fromkeys(_cluster_ids(bundle), 0)
    for cluster_id, action, n_to_r, n_to_u in _rows(bundle.transitions, "cluster_id", "action", "n_to_r", "n_to_u"):
        if action == ACTIVE:
            totals[cluster_id] = totals.get(cluster_id, 0) + n_to_r + n_to_u
    return totals


def _at_fault(table: pa.Table, is_at_fault: npt.NDArray[np.bool_], *columns: str) -> pa.Table | None:
    return first_at_fault(table.filter(pa.array(is_at_fault, pa.bool_())), ("cluster_id", *columns))


def _cluster_ids(bundle: ModelBundle) -> list[int]:
    return sorted(bundle.clusters["cluster_id"].to_pylist())


def _rows(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def _floats(table: pa.Table, name: str) -> FloatArray:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _some(ids: list[int]) -> str:
    shown = ", ".join(str(k) for k in ids[:5])
    return f"{shown} and {len(ids) - 5} more" if len(ids) > 5 else shown or "none"
