"""Whether a candidate predicts worse than the champion: two models compared on the same caregivers and weeks.

Here: the paired comparison of losses, its standard error, and the two checks that promotion asks for. Not here: what a
model must be like in itself (model.soundness, model.versions), reading and deciding (pipeline), and the scores over
many origins (`backtest`).

`backtest_not_worse` compares recipes: both are trained up to the week before the last four and judged on those. Nothing
of what is predicted has been seen in training. `predicts_last_weeks` compares the tables that would rank the lists, and
finds those that were broken after they were trained. Which cluster a caregiver belongs to must not be taken from the
tables then: it knows the weeks that are predicted, the better the shorter the window. She goes to the nearest centroid
of each model by what was known of her four weeks ago. The chances themselves have seen those weeks, but a few numbers
per cluster can't remember who was responsive in them.

A candidate is refused when its loss is larger by more than N_ERRORS standard errors *and* by more than a share of the
champion's loss: the first forgives noise, the second differences too small to matter, however certain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from ibis.expr.types import Table

from bandicoot_core.checks import CheckOutcome, Fact, with_remedy
from bandicoot_core.contracts import CLUSTERS, PASSIVE_COUNTS, PASSIVE_TUPLE, conform
from bandicoot_core.engagement.counts import passive_counts, transition_counts
from bandicoot_core.engagement.history import history_until
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.evaluation.backtest import fewest_training_weeks
from bandicoot_core.evaluation.forecast import (
    IntArray,
    chances_with_population,
    cluster_rows,
    horizon_groups,
    log_losses,
    population_chances,
    roll_forward,
)
from bandicoot_core.model.bundle import ModelBundle
from bandicoot_core.model.empirical_bayes import joint_passive_means
from bandicoot_core.model.posterior import FloatArray
from bandicoot_core.model.recipe import options_behind_chances, train_recipe
from bandicoot_core.model.transitions import cell_arrays
from bandicoot_core.settings import ModelOptions, load_model_options

HELD_OUT_WEEKS = 4
N_ERRORS = 2.0

_CANDIDATE, _CHAMPION = "candidate_cluster", "champion_cluster"

GUARD_CHECKS = {
    "backtest_not_worse": "Trained without the last weeks, the candidate's recipe predicts them no worse than the "
    "champion's",
    "predicts_last_weeks": "The candidate's tables predict the last weeks no worse than the champion's",
}
"""Names of the checks, and what each of them demands."""


@dataclass(frozen=True)
class LossComparison:
    """Mean log losses of two models on the same caregiver-weeks, in nats, and the difference candidate - champion."""

    n_caregivers: int
    n_caregiver_weeks: int
    candidate_loss: float
    champion_loss: float
    difference: float
    standard_error: float


def backtest_not_worse(
    history: Table, n_weeks: int, options: ModelOptions, champion_recipe: Mapping[str, Any] | None
) -> CheckOutcome:
    """The candidate's recipe against the champion's, both trained without the last HELD_OUT_WEEKS weeks; blocking.

    Equal recipes are equal by construction and are not trained. Clusters come from histories alone: caregivers with too
    little of it are predicted by the population in both. A champion that was trained on fewer weeks gets fewer; one
    trained on more gets those the window has.

    Parameters
    ----------
    history : ENGAGEMENT_HISTORY
        An expression bound to an engine, over a window of `n_weeks` weeks.
    n_weeks : int
    options : ModelOptions
        The candidate's, with the largest increase of the loss that is allowed.
    champion_recipe : mapping or None
        The champion's options as its bundle keeps them; None without a champion. One that did not exist yet when the
        champion was trained takes today's value.
    """
    name = "backtest_not_worse"
    if champion_recipe is None:
        return CheckOutcome(name, True, True, "there is no champion yet to compare with")
    champion = load_model_options(**champion_recipe)
    changed = _changed_options(options, champion)
    if not changed:
        return CheckOutcome(name, True, True, "the champion was trained with the same options: equal by construction")
    n_known = n_weeks - HELD_OUT_WEEKS
    n_training = max(fewest_training_weeks(recipe) for recipe in (options, champion))
    if n_known < n_training:
        text = f"{changed}; the window of {n_weeks} weeks is too short to hold any out, so nothing was compared"
        return CheckOutcome(name, True, True, text)
    try:
        comparison = _compare_recipes(history, n_known, n_training, options, champion)
    except (InvalidInputError, ValueError) as error:
        return CheckOutcome(name, False, True, f"{changed}; the recipes cannot be compared: {error}")
    return _verdict(name, comparison, options.max_loss_increase, f"{changed}; ")


def predicts_last_weeks(
    history: Table,
    n_weeks: int,
    candidate: ModelBundle,
    champion: ModelBundle | None,
    *,
    assignments: Table,
    max_loss_increase: float,
) -> CheckOutcome:
    """The candidate's tables against the champion's on the last weeks of a history; blocking.

    The candidate is judged twice: with the caregivers at its nearest centroids, as the champion is, and with its own
    `assignments` (CLUSTER_ASSIGNMENTS), which have an advantage unless they are wrong. The worse verdict counts. Tables
    that cannot be used fail the check.
    """
    name = "predicts_last_weeks"
    if champion is None:
        return CheckOutcome(name, True, True, "there is no champion yet to compare with")
    n_horizons = min(HELD_OUT_WEEKS, n_weeks - 2)
    known = history_until(history, n_weeks=n_weeks - n_horizons)
    counts = conform(passive_counts(known).to_pyarrow(), PASSIVE_COUNTS)
    means = joint_passive_means(counts)
    nearest = counts.select(PASSIVE_TUPLE)
    for column, model in ((_CANDIDATE, candidate), (_CHAMPION, champion)):
        nearest = nearest.append_column(column, pa.array(_nearest_centroid(means, model.clusters)))
    labels = transition_counts(known).inner_join(ibis.memtable(nearest), list(PASSIVE_TUPLE))
    labels = labels.select("caregiver_key", _CANDIDATE, _CHAMPION).inner_join(
        assignments.select("caregiver_key", assigned_cluster=assignments.cluster_id.cast("int64")), "caregiver_key"
    )
    labels = labels.select("caregiver_key", _CANDIDATE, _CHAMPION, "assigned_cluster")
    rows = history.semi_join(labels, "caregiver_key")
    groups = horizon_groups(rows, labels, origin=n_weeks - 1 - n_horizons, n_horizons=n_horizons).to_pyarrow()
    try:
        candidate_chances = cell_arrays(candidate.transitions, "p_next_r")
        champion_chances = cell_arrays(champion.transitions, "p_next_r")
        verdicts = [
            _verdict(
                name,
                compare_losses(
                    groups, candidate_chances, champion_chances, n_horizons=n_horizons, candidate_column=column
                ),
                max_loss_increase,
                introduction,
            )
            for column, introduction in (
                (_CANDIDATE, "caregivers at the nearest centroid: "),
                ("assigned_cluster", "caregivers in the candidate's own clusters: "),
            )
        ]
    except ValueError as error:
        return CheckOutcome(name, False, True, f"the tables cannot be compared with the champion's: {error}")
    return next((verdict for verdict in verdicts if not verdict.is_passed), verdicts[0])


def compare_losses(
    groups: pa.Table,
    candidate: FloatArray,
    champion: FloatArray,
    *,
    n_horizons: int,
    candidate_column: str = _CANDIDATE,
) -> LossComparison:
    """Losses of two models over groups of caregivers, and the standard error of their paired difference.

    A caregiver's weeks are not independent, so she is the unit: with d_i the sum of her H differences in loss and
    D = sum d_i / (n H) their mean,

        SE(D)^2 = sum (d_i - H D)^2 / (n H)^2,

    the sandwich estimate clustered by caregiver. All caregivers of a group have the same d_i, so the sum over groups,
    weighted by their sizes, is exact. A shock that hits a whole week of everybody is not in it.

    Parameters
    ----------
    groups : table
        Output of `horizon_groups` with each model's cluster as a label (`candidate_column`, champion_cluster).
    candidate, champion : ndarray of shape (n_rows, 2, 2)
        P(next = R) as [row, state, action], each with its own clusters as rows. A group without a cluster is predicted
        by the last row, which then has to be the population's (`chances_with_population`).
    n_horizons : int
        H.
    candidate_column : str
        The label with the candidate's clusters.

    Raises
    ------
    ValueError
        Without any caregiver, or for a cluster that a model does not have.
    """
    # The engine returns groups in no fixed order, and sums of floats depend on it.
    groups = groups.sort_by([(name, "ascending") for name in groups.column_names])
    n = groups["n_caregivers"].to_numpy().astype(np.float64)
    if not n.sum():
        raise ValueError("no caregiver with a cluster was observed in all of the last weeks")
    state, called, opened = (groups[name].to_numpy() for name in ("is_responsive", "called", "opened"))
    outcomes = (opened[:, None] >> np.arange(n_horizons)) & 1
    losses = []
    for label, chances in ((candidate_column, candidate), (_CHAMPION, champion)):
        of_group = chances[cluster_rows(groups, label, len(chances))]
        ahead = roll_forward(of_group, state, called, n_horizons=n_horizons)
        losses.append(log_losses(ahead, outcomes).sum(axis=1))
    n_weeks = n.sum() * n_horizons
    own_difference = losses[0] - losses[1]
    difference = float(n @ own_difference / n_weeks)
    error = float(np.sqrt(n @ (own_difference - n_horizons * difference) ** 2) / n_weeks)
    return LossComparison(
        n_caregivers=int(n.sum()),
        n_caregiver_weeks=int(n_weeks),
        candidate_loss=float(n @ losses[0] / n_weeks),
        champion_loss=float(n @ losses[1] / n_weeks),
        difference=difference,
        standard_error=error,
    )


def _compare_recipes(
    history: Table, n_known: int, n_training: int, options: ModelOptions, champion: ModelOptions
) -> LossComparison:
    chances, labels = [], []
    for recipe, column in ((options, _CANDIDATE), (champion, _CHAMPION)):
        # Both recipes end at the same origin; the shorter of two windows starts later.
        first = max(0, n_known + HELD_OUT_WEEKS - recipe.training_weeks)
        known = history_until(history, first=min(first, n_known - n_training), n_weeks=n_known)
        trained = train_recipe(known, recipe, n_weeks=n_known)
        chances.append(chances_with_population(trained.transitions, population_chances(known).by_action))
        labels.append(trained.assignments.select("caregiver_key", **{column: trained.assignments.cluster_id}))
    both = labels[0].outer_join(labels[1], "caregiver_key")
    both = both.select(
        _CANDIDATE,
        _CHAMPION,
        caregiver_key=ibis.coalesce(both.caregiver_key, both.caregiver_key_right),
    )
    groups = horizon_groups(history, both, origin=n_known - 1, n_horizons=HELD_OUT_WEEKS).to_pyarrow()
    return compare_losses(groups, *chances, n_horizons=HELD_OUT_WEEKS)


def _nearest_centroid(means: FloatArray, clusters: pa.Table) -> IntArray:
    """Cluster whose centroid is nearest to each tuple's means, (n_tuples,); of equals the lowest id."""
    ordered = conform(clusters, CLUSTERS)
    centroids = np.stack([ordered[name].to_numpy() for name in ("p_passive_u", "p_passive_r")], axis=-1)
    distances = ((means[:, None, :] - centroids[None, :, :]) ** 2).sum(axis=-1)
    nearest: IntArray = ordered["cluster_id"].to_numpy()[distances.argmin(axis=1)].astype(np.int64)
    return nearest


def _changed_options(options: ModelOptions, champion: ModelOptions) -> str:
    """The options in which the recipes differ, as text; empty when they agree."""
    now, before = options_behind_chances(options), options_behind_chances(champion)
    return ", ".join(f"{name} is {now[name]}, not {before[name]}" for name in now if now[name] != before[name])


def _verdict(name: str, found: LossComparison, max_loss_increase: float, introduction: str) -> CheckOutcome:
    # Every comparison with nan is false, so a candidate whose loss is no number has to be refused for itself.
    is_finite = bool(np.isfinite(found.candidate_loss))
    is_certain = found.difference > N_ERRORS * found.standard_error
    is_large = found.difference > max_loss_increase * found.champion_loss
    is_passed = is_finite and not (is_certain and is_large)
    text = (
        f"{introduction}log loss {found.candidate_loss:.4f} against {found.champion_loss:.4f} of the champion on "
        f"{found.n_caregiver_weeks} caregiver-weeks: {found.difference:+.4f} nats, standard error "
        f"{found.standard_error:.4f}; expected at most {max_loss_increase:.1%} more, or no more than {N_ERRORS:g} "
        "standard errors"
    )
    if not is_finite:
        text = (
            f"{introduction}the log loss of the candidate is {found.candidate_loss}, that of the champion "
            f"{found.champion_loss:.4f}; expected a number: some chance of the candidate is none"
        )
    remedy = "compare the clusters and chances of both models; keep the champion until the difference is explained"
    numbers = {
        "candidate_loss": found.candidate_loss,
        "champion_loss": found.champion_loss,
        "difference": found.difference,
        "standard_error": found.standard_error,
    }
    facts: dict[str, Fact] = {"n_caregiver_weeks": found.n_caregiver_weeks}
    # What is kept as JSON holds finite numbers only.
    facts |= {key: value for key, value in numbers.items() if np.isfinite(value)}
    return CheckOutcome(name, is_passed, True, with_remedy(text, is_passed, remedy), facts)
