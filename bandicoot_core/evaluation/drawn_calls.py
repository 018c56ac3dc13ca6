"""Whether calls do what the model says, judged by the calls that chance chose.

Here: the comparison as a table [DRAWN_CALLS]. Not here: which lists and weeks count, and the fitted chance of each
(pipeline.evaluation_estimation); what other policies would have gained (`listed_policies`).

The model learns from all weeks with calls. In most of them somebody was called because of something: her weeks, which
the model knows, or what a health worker knows of her and no log does. The second would make fitted chances wrong, and
nothing in the weeks themselves would show it. But everybody eligible could be drawn for the random share of a list, and
within ties chance decides who is the last to be listed; the list records her propensity mu. With r_i in {0, 1} whether
a caregiver listed with mu_i < 1, and called, was responsive a week later, and q_i the fitted chance given her weeks up
to the call,

    difference = sum_i (r_i - q_i) / mu_i  /  sum_i 1 / mu_i      (Hajek 1971, the ratio form of inverse propensities)
    Var = sum_i ((r_i - q_i - difference) / mu_i)^2 / (sum_i 1 / mu_i)^2

is near 0 when the model is right about all who could have been drawn. Beside it stand the calls listed for certain
(mu = 1, all of one weight): there a difference may also be the winner's curse of ranking by an estimate.
"""

import numpy as np
import pyarrow as pa
from scipy.stats import norm

from bandicoot_core.contracts import DRAWN_CALLS, STATES, conform

ANY_STATE = "any"
BY_DRAW, BY_ORDER = "draw", "order"
_LEVEL = 0.95


def drawn_calls_table(calls: pa.Table) -> pa.Table:
    """Observed and fitted chances of listed and called caregivers, by how they were chosen and state [DRAWN_CALLS].

    calls: one row per call with state (R or U), propensity in (0, 1], is_responsive_next (bool) and p_fitted. Rows
    without a call are left out; ValueError for a propensity out of bounds.
    """
    state = calls["state"].to_numpy(zero_copy_only=False)
    mu = np.asarray(calls["propensity"].to_numpy(), dtype=np.float64)
    if not ((mu > 0) & (mu <= 1)).all():
        raise ValueError("a propensity lies outside (0, 1]; check the recorded propensities of the lists")
    r = calls["is_responsive_next"].to_numpy(zero_copy_only=False).astype(np.float64)
    q = np.asarray(calls["p_fitted"].to_numpy(), dtype=np.float64)
    z = float(norm.ppf((1 + _LEVEL) / 2))
    rows: list[dict[str, object]] = []
    for chosen_by, is_chosen in ((BY_DRAW, mu < 1), (BY_ORDER, mu == 1)):
        for of_state in (ANY_STATE, *STATES):
            chosen = is_chosen if of_state == ANY_STATE else is_chosen & (state == of_state)
            if not chosen.any():
                continue
            w = 1 / mu[chosen]
            residual = (r - q)[chosen]
            difference = float(w @ residual / w.sum())
            error = float(np.sqrt(((w * (residual - difference)) ** 2).sum()) / w.sum())
            rows.append(
                {
                    "chosen_by": chosen_by,
                    "state": of_state,
                    "n_calls": int(chosen.sum()),
                    "p_responsive": float(w @ r[chosen] / w.sum()),
                    "p_fitted": float(w @ q[chosen] / w.sum()),
                    "difference": difference,
                    "low": difference - z * error,
                    "high": difference + z * error,
                }
            )
    return conform(pa.Table.from_pylist(rows, schema=DRAWN_CALLS.arrow_schema()), DRAWN_CALLS)


def drawn_calls_sentence(table: pa.Table) -> str:
    """What a DRAWN_CALLS table says, for a reader in a hurry."""
    drawn = [row for row in table.to_pylist() if (row["chosen_by"], row["state"]) == (BY_DRAW, ANY_STATE)]
    if not drawn:
        return "No call that chance chose has a known next week yet: whether calls were confounded can't be checked."
    row = drawn[0]
    found = (
        f"Of {row['n_calls']} calls that chance chose, {row['p_responsive']:.1%} led to a responsive week where the "
        f"model says {row['p_fitted']:.1%} (difference {row['difference']:+.3f}, 95% interval {row['low']:.3f} to "
        f"{row['high']:.3f})"
    )
    if row["low"] <= 0 <= row["high"]:
        return f"{found}: nothing speaks against the model."
    return (
        f"{found}: the model is off for those who could have been drawn. Calls were chosen for reasons that her weeks "
        "do not show, or behaviour has changed; raise `exploration_share` and judge by the experiment meanwhile."
    )
