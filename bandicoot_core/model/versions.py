"""Versions of the model: their names, and whether a candidate may become the champion.

Pure: two bundles and a summary of the caregivers in, outcomes out; a broken bundle fails checks instead of raising.
What a bundle holds belongs to `bundle`, the checks of a bundle alone to `soundness`; promotion, alerts and where the
champion's name is kept belong to orchestration and stores.
"""

import re
from collections.abc import Mapping
from datetime import date

import numpy as np
import pyarrow.compute as pc

from bandicoot_core.calendar import require_sunday
from bandicoot_core.checks import CheckOutcome, with_remedy
from bandicoot_core.contracts import RESPONSIVE, STATES, UNRESPONSIVE
from bandicoot_core.model.bundle import ModelBundle, bundle_digest
from bandicoot_core.model.posterior import FloatArray
from bandicoot_core.model.soundness import SOUNDNESS_CHECKS, soundness_checks

__all__ = ["CANDIDATE_CHECKS", "ModelBundle", "bundle_digest", "candidate_checks", "index_shifts", "model_version"]

_DIGEST = re.compile(r"[0-9a-f]{8,}")
_N_DIGITS = 8

CANDIDATE_CHECKS = {
    **SOUNDNESS_CHECKS,
    "engagement_plausible": "The share of responsive caregivers lies within its bounds",
    "caregivers_have_clusters": "Every caregiver of the snapshot has a cluster",
    "index_shift_bounded": "The index of caregivers moved no further from the champion's than allowed",
}
"""Names of the checks, and what each of them demands."""


def model_version(week: date, digest: str) -> str:
    """The name of a model: its last training week and the start of its digest, for example 2026-11-15-3f9a1c2b.

    The same content of the same week has the same name, so a repeated training run changes nothing. ValueError when
    the week is not a Sunday or the digest is not hexadecimal.
    """
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"digest is {digest!r}; expected at least {_N_DIGITS} lower-case hexadecimal digits")
    return f"{require_sunday(week)}-{digest[:_N_DIGITS]}"


def candidate_checks(
    bundle: ModelBundle,
    champion: ModelBundle | None,
    *,
    engagement_share: float,
    n_caregivers: int,
    n_assigned: int,
    max_index_shift: float,
    min_engagement: float = 0.05,
    max_engagement: float = 0.95,
) -> tuple[CheckOutcome, ...]:
    """The outcomes of CANDIDATE_CHECKS, in that order: the candidate in itself, its caregivers, and the champion.

    Parameters
    ----------
    bundle : ModelBundle
        The candidate.
    champion : ModelBundle or None
        The model in use; None before the first promotion.
    engagement_share : float
        Share of caregivers responsive at the end of the training window.
    n_caregivers, n_assigned : int
        Caregivers of the snapshot, and distinct ones among them that have a cluster.
    max_index_shift : float
        Largest mean change of the index against the champion, in responsive weeks.
    min_engagement, max_engagement : float
        Bounds of engagement_share.
    """
    return (
        *soundness_checks(bundle),
        _engagement_is_plausible(engagement_share, min_engagement, max_engagement),
        _caregivers_have_clusters(n_caregivers, n_assigned),
        _index_shift_is_bounded(bundle, champion, engagement_share, max_index_shift),
    )


def index_shifts(bundle: ModelBundle, champion: ModelBundle) -> Mapping[str, float]:
    """By state, how far the index of caregivers moved from the champion to the candidate, in responsive weeks.

    Cluster ids mean nothing across models, so distributions are compared: in each model every caregiver with history
    contributes the index of her cluster, and the shift is the area between the two cumulative distributions (the
    Wasserstein-1 distance), the smallest mean absolute change that turns one into the other. ValueError when a bundle
    has no caregivers, or a cluster has no finite index.
    """
    return {
        state: _distance(*_index_distribution(bundle, state), *_index_distribution(champion, state)) for state in STATES
    }


def _engagement_is_plausible(share: float, minimum: float, maximum: float) -> CheckOutcome:
    is_passed = minimum <= share <= maximum
    text = f"{share:.1%} of the caregivers are responsive; expected {minimum:.1%} to {maximum:.1%}"
    return CheckOutcome(
        "engagement_plausible",
        is_passed,
        True,
        with_remedy(text, is_passed, "check that the SMS events of the last weeks arrived completely"),
        {"engagement_share": share},
    )


def _caregivers_have_clusters(n_caregivers: int, n_assigned: int) -> CheckOutcome:
    is_passed = 0 < n_caregivers == n_assigned
    text = f"{n_assigned} of {n_caregivers} caregivers have a cluster; expected all, and at least one"
    return CheckOutcome(
        "caregivers_have_clusters",
        is_passed,
        True,
        with_remedy(text, is_passed, "materialize features_only_mapper and cluster_assignments again"),
        {"n_caregivers": n_caregivers, "n_assigned": n_assigned},
    )


def _index_shift_is_bounded(
    bundle: ModelBundle, champion: ModelBundle | None, engagement_share: float, maximum: float
) -> CheckOutcome:
    name = "index_shift_bounded"
    if champion is None:
        return CheckOutcome(name, True, True, "there is no champion yet to compare the indices with")
    try:
        shifts = index_shifts(bundle, champion)
    except ValueError as error:
        return CheckOutcome(name, False, True, f"the indices cannot be compared with the champion's: {error}")
    shift = engagement_share * shifts[RESPONSIVE] + (1 - engagement_share) * shifts[UNRESPONSIVE]
    is_passed = bool(shift <= maximum)
    text = (
        f"the index of a caregiver moved by {shift:.3f} responsive weeks on average against the champion; expected at "
        f"most {maximum:g}"
    )
    remedy = "compare the clusters and chances of both; if the change is real, raise BANDICOOT_MAX_INDEX_SHIFT once"
    return CheckOutcome(
        name,
        is_passed,
        True,
        with_remedy(text, is_passed, remedy),
        {"mean_index_shift": shift, "shift_in_r": shifts[RESPONSIVE], "shift_in_u": shifts[UNRESPONSIVE]},
    )


def _index_distribution(bundle: ModelBundle, state: str) -> tuple[FloatArray, FloatArray]:
    of_state = bundle.indices.filter(pc.equal(bundle.indices["state"], state))
    index_of = dict(zip(of_state["cluster_id"].to_pylist(), of_state["whittle_index"].to_pylist(), strict=True))
    index = np.array([index_of.get(cluster_id, np.nan) for cluster_id in bundle.clusters["cluster_id"].to_pylist()])
    n_caregivers = np.asarray(bundle.clusters["n_caregivers"].to_numpy(), dtype=np.float64)
    if not (np.isfinite(index).all() and n_caregivers.sum() > 0):
        raise ValueError(f"the model trained to {bundle.last_week} lacks caregivers or a finite index in {state}")
    return index, n_caregivers / n_caregivers.sum()


def _distance(x: FloatArray, x_shares: FloatArray, y: FloatArray, y_shares: FloatArray) -> float:
    values = np.concatenate([x, y])
    order = np.argsort(values)
    difference = np.cumsum(np.concatenate([x_shares, -y_shares])[order])
    return float(np.abs(difference[:-1]) @ np.diff(values[order]))
