"""Ways of choosing whom to call, compared by what the lists that were made tell about them.

Which policies there are, whom each would have listed from the eligible of a day, and what their calls change. The
estimators are those of off_policy; who was eligible, listed or in control is read elsewhere.

A policy ranks the eligible of a day by a score that depends on cluster and state alone. With b calls, n_ahead eligible
of higher score and n_tied of the same, it lists each of the tied with the chance

    pi = (b - n_ahead) / n_tied, at least 0 and at most 1,

so that all lists have as many calls as the one that was made, and ties are broken by lot.

What a call changes. A list tells how responsive caregivers are in the week after, when listed; how responsive they
would have been otherwise is told by caregivers of the same cluster and state in the control arm, whom chance alone kept
from the lists. With m_g their responsive share in cluster and state g, and Pi_g the calls of the policy there, the
value of a policy is

    V - C,   C = sum_g Pi_g m_g / Pi,   Var(C) = sum_g (Pi_g / Pi)^2 m_g (1 - m_g) / n_g,

with n_g the controls of g on an average list: the same controls stand beside every list, and so more lists count as no
more controls. Where no control is in g, the model's chance without a call stands for m_g.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
from scipy.stats import norm

from bandicoot_core.contracts import OFF_POLICY_VALUES, UNRESPONSIVE, conform
from bandicoot_core.evaluation.off_policy import FloatArray, overlap, policy_values

POLICIES: Mapping[str, Callable[[pa.Table], FloatArray]] = {
    "random": lambda arms: np.zeros(arms.num_rows),
    "worst_first": lambda arms: (arms["state"].to_numpy(zero_copy_only=False) == UNRESPONSIVE).astype(np.float64),
    "myopic": lambda arms: np.asarray(arms["p_active"].to_numpy() - arms["p_passive"].to_numpy()),
    "whittle": lambda arms: arms["whittle_index"].to_numpy().astype(np.float64),
}
"""Policy -> its score of each row, from state, whittle_index, p_passive and p_active."""

_LEVEL = 0.95
_ARM = ["call_date", "cluster_id", "state"]


def off_policy_table(listed: pa.Table, eligible: pa.Table) -> pa.Table:
    """The value of each of POLICIES by each estimator [OFF_POLICY_VALUES].

    listed: one row per caregiver on a list whose next week is known: call_date, cluster_id, state, propensity and
    is_responsive_next (bool). eligible: one row per list, cluster and state: call_date, cluster_id, state, n_eligible,
    n_listed (calls on that day's list), n_control (caregivers of the control arm whom nothing else excluded) and
    n_control_responsive (those of them who were responsive in the next week), and of the model that made the list
    whittle_index, p_passive and p_active, the prediction. No listed caregiver makes an empty table.
    """
    if listed.num_rows == 0:
        return OFF_POLICY_VALUES.empty()
    targets = {name: policy_targets(eligible, score(eligible)) for name, score in POLICIES.items()}
    arms = eligible.select([*_ARM, "p_active"])
    for name, target in targets.items():
        arms = arms.append_column(name, pa.array(target))
    rows = listed.join(arms, _ARM, join_type="inner").sort_by(
        [(name, "ascending") for name in (*_ARM, "propensity", "is_responsive_next")]
    )
    reward = rows["is_responsive_next"].to_numpy(zero_copy_only=False).astype(np.float64)
    propensity, prediction = rows["propensity"].to_numpy(), rows["p_active"].to_numpy()
    n_eligible = eligible["n_eligible"].to_numpy().astype(np.float64)
    table: list[dict[str, object]] = []
    for name, target in targets.items():
        calls = n_eligible * target
        told = overlap(propensity, rows[name].to_numpy(), total_target=float(calls.sum()))
        control, control_error = _control_share(eligible, calls)
        for value in policy_values(
            reward,
            propensity,
            rows[name].to_numpy(),
            prediction=prediction,
            total_target=float(calls.sum()),
            total_prediction=float(calls @ eligible["p_active"].to_numpy()),
        ):
            half = float(norm.ppf((1 + _LEVEL) / 2)) * float(np.hypot(value.standard_error, control_error))
            gain = value.estimate - control
            numbers = {"value": gain, "low": gain - half, "high": gain + half, "p_responsive_called": value.estimate}
            table.append(
                {
                    "policy": name,
                    "estimator": value.estimator,
                    **{column: number if np.isfinite(number) else None for column, number in numbers.items()},
                    "p_responsive_control": control,
                    "overlap": told.overlap,
                    "n_effective": told.n_effective,
                    "n_listed": len(reward),
                }
            )
    return conform(pa.Table.from_pylist(table, schema=OFF_POLICY_VALUES.arrow_schema()), OFF_POLICY_VALUES)


def policy_targets(eligible: pa.Table, score: FloatArray) -> FloatArray:
    """The chance with which a policy of that score lists each eligible caregiver of a row: shape (n_rows,)."""
    day = np.unique(eligible["call_date"].to_numpy(), return_inverse=True)[1]
    order = np.lexsort((-score, day))
    n_eligible = eligible["n_eligible"].to_numpy().astype(np.float64)[order]
    n_listed = eligible["n_listed"].to_numpy().astype(np.float64)[order]
    n_before = np.cumsum(n_eligible) - n_eligible
    n_before_day = n_before[np.searchsorted(day[order], day[order])]
    tied = np.unique(np.column_stack([day, -score])[order], axis=0, return_inverse=True)[1].reshape(-1)
    n_tied = np.bincount(tied, weights=n_eligible)[tied]
    n_ahead = n_before[np.searchsorted(tied, tied)] - n_before_day
    targets = np.empty(len(order))
    targets[order] = np.clip((n_listed - n_ahead) / np.maximum(n_tied, 1), 0, 1)
    return targets


def _control_share(eligible: pa.Table, calls: FloatArray) -> tuple[float, float]:
    """C and its standard error for a policy with so many calls in each row."""
    arm = np.column_stack(
        [eligible["cluster_id"].to_numpy(), eligible["state"].to_numpy(zero_copy_only=False) == UNRESPONSIVE]
    )
    group = np.unique(arm, axis=0, return_inverse=True)[1].reshape(-1)
    n_control, n_responsive, calls_of_group = (
        np.bincount(group, weights=column)
        for column in (eligible["n_control"].to_numpy(), eligible["n_control_responsive"].to_numpy(), calls)
    )
    n_rows = np.bincount(group)
    model = np.bincount(group, weights=eligible["p_passive"].to_numpy()) / n_rows
    share = np.divide(n_responsive, n_control, out=model, where=n_control > 0)
    weight = calls_of_group / calls.sum()
    n_lists = len(np.unique(eligible["call_date"].to_numpy()))
    variance = share * (1 - share) * n_lists / np.maximum(n_control, 1)
    return float(weight @ share), float(np.sqrt(weight**2 @ variance))
