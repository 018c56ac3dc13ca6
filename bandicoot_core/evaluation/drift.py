"""Whether the newest week still behaves as the model expects: its one-step loss against that of the weeks before.

Here: the loss of each week predicted from the week before it, the band in which the newest one is expected, and the
outcome. Not here: how the losses come about (`backtest`) and what they look like (`backtest_charts`).

Behaviour that changes, a message channel that breaks or logs that go missing make the newest week harder, or suddenly
easier, to predict than the weeks before it; either way someone should look before trusting the next list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import t as student_t

from bandicoot_core.checks import CheckOutcome, with_remedy
from bandicoot_core.contracts.backtest_tables import MODEL
from bandicoot_core.model.posterior import FloatArray

BAND = 0.99
"""Probability that a week without drift lies inside its band."""

FEWEST_EARLIER_WEEKS = 3

DRIFT_CHECKS = {
    "loss_within_band": "The newest week is predicted about as well from the week before it as the weeks before were "
    "(a warning)"
}
"""Name of the check, and what it demands."""


@dataclass(frozen=True)
class OneStepLosses:
    """Log loss of each week predicted from the week before it, oldest first, with its standard error, in nats."""

    weeks: tuple[date, ...]
    losses: FloatArray
    errors: FloatArray


@dataclass(frozen=True)
class Band:
    """Where the newest week's loss is expected: centre and half-width, in nats."""

    centre: float
    half_width: float

    @property
    def low(self) -> float:
        """Lower end."""
        return self.centre - self.half_width

    @property
    def high(self) -> float:
        """Upper end."""
        return self.centre + self.half_width


def one_step_losses(scores: pa.Table) -> OneStepLosses:
    """The model's losses at horizon 1 over everybody, from MODEL_BACKTEST; each week is the origin's next."""
    conditions: Mapping[str, object] = {"scope": "all", "predictor": MODEL, "horizon": 1}
    for name, value in conditions.items():
        scores = scores.filter(pc.equal(scores[name], pa.scalar(value, scores.schema.field(name).type)))
    rows = scores.sort_by("origin_week")
    return OneStepLosses(
        weeks=tuple(week + timedelta(days=7) for week in rows["origin_week"].to_pylist()),
        losses=rows["log_loss"].to_numpy(),
        errors=rows["log_loss_error"].to_numpy(),
    )


def loss_band(found: OneStepLosses) -> Band | None:
    """The band of the newest week, None with fewer than FEWEST_EARLIER_WEEKS weeks before it.

    With m earlier losses of mean L and standard deviation s, and e the root mean square of all weeks' standard errors
    (the noise of so many caregivers),

        L +- t(m - 1) max(s, e) sqrt(1 + 1/m),

    the prediction interval of one more draw from the normal distribution the earlier weeks come from. s already holds
    the sampling noise of a week; the maximum keeps a few weeks that happen to agree from making a band of no width.
    """
    earlier = found.losses[:-1]
    m = len(earlier)
    if m < FEWEST_EARLIER_WEEKS:
        return None
    noise = float(np.sqrt(np.mean(found.errors**2)))
    spread = max(float(earlier.std(ddof=1)), noise)
    quantile = float(student_t.ppf((1 + BAND) / 2, m - 1))
    return Band(centre=float(earlier.mean()), half_width=quantile * spread * float(np.sqrt(1 + 1 / m)))


def loss_within_band(found: OneStepLosses) -> CheckOutcome:
    """Whether the newest week's loss lies in its band; a warning, never blocking. Too few weeks pass."""
    name, band = "loss_within_band", loss_band(found)
    if band is None:
        text = f"only {len(found.weeks)} weeks were predicted; a band needs {FEWEST_EARLIER_WEEKS + 1}"
        return CheckOutcome(name, True, False, text)
    loss = float(found.losses[-1])
    is_passed = band.low <= loss <= band.high
    text = (
        f"the week of {found.weeks[-1]} was predicted with a log loss of {loss:.4f} nats; expected {band.low:.4f} to "
        f"{band.high:.4f} by the {len(found.weeks) - 1} weeks before it"
    )
    remedy = (
        "look at the logs and the share of responsive caregivers of that week; if behaviour has changed, a shorter "
        "training window forgets sooner"
    )
    facts = {"log_loss": loss, "band_low": band.low, "band_high": band.high}
    return CheckOutcome(name, is_passed, False, with_remedy(text, is_passed, remedy), facts)
