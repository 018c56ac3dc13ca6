"""What an experiment shows, judged by its own randomization: p-values and intervals from redrawing the arms.

Only the inference for one outcome, as arrays. How outcomes are summed belongs to experiment_outcomes, whether the arms
were alike beforehand to balance, looking every week to always_valid.

The arms were drawn in permuted blocks, so that within a block every choice of as many treated caregivers was equally
likely: redrawing permutes the arms within blocks and nothing else. Under the hypothesis that treatment adds tau0 to
everybody's outcome, the outcomes without treatment are known, the statistic can be computed for every redraw, and its
rank among them is an exact test (Fisher 1935; Rosenbaum 2002, Statistical Science 17(3), section 2). The hypotheses
that are not rejected form the interval.

The statistic. With z the arms (1 treated), p the treated share of each caregiver's block and zt = z - p, and with
ry and rv the residuals of the outcome and of the observed arms after regression on block effects and covariates,

    r(tau0) = ry - tau0 rv,     S = sum zt r = sum z r,     theta = S / sum zt^2,
    V = sum zt^2 (r - theta zt)^2,     T = S / sqrt(V).

S divided by sum zt rv is tau_hat - tau0, with tau_hat the coefficient of the arm in the regression of the outcome on
arm, blocks and covariates. The covariates are known before treatment; adjusting for the outcome's own past is CUPED.
Dividing by the heteroskedasticity-robust V makes the test valid, in large samples, also for the mean effect when
effects differ between caregivers (Wu and Ding 2021, JASA 116, 1898-1913; with covariates: Zhao and Ding 2021, Journal
of Econometrics 225, 278-294).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_N_EXPANSIONS = 60
_N_HALVINGS = 40
_ROUNDING = 1e-10
"""Share of a sum of squares below which a difference of such sums is not told from 0."""
_TIE = 1 - 1e-9
"""Statistics that differ by rounding only are tied, and ties count against the hypothesis' rejection."""


@dataclass(frozen=True)
class Effect:
    """The mean effect of being in the treatment arm on one outcome, in units of the outcome."""

    estimate: float
    low: float
    high: float
    p_value: float
    """Of no effect on anybody, two-sided."""
    standard_error: float
    """Heteroskedasticity-robust (HC1 for the block effects and covariates taken out)."""
    treatment_mean: float
    """Mean outcome of the treated, not adjusted."""
    control_mean: float
    n_treatment: int
    n_control: int


@dataclass(frozen=True)
class _Residuals:
    """The parts of r(tau0) and what weighs them; arrays (n_caregivers,) of those in blocks that have both arms."""

    ry: FloatArray
    rv: FloatArray
    p: FloatArray
    z: FloatArray
    block: IntArray
    n_parameters: int


def effect_by_randomization(
    outcome: npt.ArrayLike,
    is_treatment: npt.ArrayLike,
    block: npt.ArrayLike,
    *,
    covariates: npt.ArrayLike | None = None,
    n_redraws: int = 999,
    level: float = 0.95,
    seed: int,
) -> Effect:
    """The effect of the arm on an outcome, with p-value and interval from n_redraws redraws of the arms.

    outcome, is_treatment, block: shape (n_caregivers,); blocks are numbered by any integers. covariates: shape
    (n_caregivers, n_covariates), known before treatment. Blocks with one arm only say nothing and drop out. The
    p-value is (1 + number of redraws at least as extreme) / (1 + n_redraws): Phipson and Smyth (2010), Statistical
    Applications in Genetics and Molecular Biology 9(1), article 39.
    An end of the interval is infinite where no hypothesis on that side is rejected.

    ValueError when shapes disagree, values are not finite, no block has both arms, or n_redraws is too small to reject
    anything at the level.
    """
    y, z, blocks, x = _checked(outcome, is_treatment, block, covariates)
    if not 0 < level < 1 or (1 + n_redraws) * (1 - level) < 1:
        raise ValueError(
            f"level is {level} with {n_redraws} redraws; expected a level in (0, 1) and at least "
            "1 / (1 - level) - 1 redraws"
        )
    parts = _residuals(y, z, blocks, x)
    statistic = _Statistic(parts)
    observed, redrawn = statistic.sums(parts.z), np.empty((n_redraws, 7))
    for row, arms in enumerate(redraws(parts.z > 0, parts.block, n_redraws=n_redraws, seed=seed)):
        redrawn[row] = statistic.sums(arms.astype(np.float64))

    def p_value(tau0: float) -> float:
        extreme = statistic(redrawn, tau0) >= _TIE * statistic(observed, tau0)
        return float((1 + np.count_nonzero(extreme)) / (1 + n_redraws))

    estimate, standard_error = _estimate(parts, observed, statistic)
    step = standard_error if standard_error > 0 else max(1e-9, 1e-9 * float(np.abs(y).max()))
    return Effect(
        estimate=estimate,
        low=_end_of_interval(p_value, estimate, -step, 1 - level),
        high=_end_of_interval(p_value, estimate, step, 1 - level),
        p_value=p_value(0.0),
        standard_error=standard_error,
        treatment_mean=float(y[z].mean()),
        control_mean=float(y[np.logical_not(z)].mean()),
        n_treatment=int(np.count_nonzero(z)),
        n_control=int(np.count_nonzero(np.logical_not(z))),
    )


def adjusted_effect(
    outcome: npt.ArrayLike,
    is_treatment: npt.ArrayLike,
    block: npt.ArrayLike,
    *,
    covariates: npt.ArrayLike | None = None,
) -> tuple[float, float]:
    """The estimate and standard error of effect_by_randomization alone, without redraws; parameters as there."""
    y, z, blocks, x = _checked(outcome, is_treatment, block, covariates)
    parts = _residuals(y, z, blocks, x)
    statistic = _Statistic(parts)
    return _estimate(parts, statistic.sums(parts.z), statistic)


def redraws(is_treatment: npt.ArrayLike, block: npt.ArrayLike, *, n_redraws: int, seed: int) -> Iterator[BoolArray]:
    """Arms as they might have been drawn: bool ndarrays of shape (n_caregivers,), the treated of each block shuffled.

    The array is the iterator's own and changes with the next step.
    """
    z, blocks = np.asarray(is_treatment, dtype=np.bool_), np.asarray(block)
    rng = np.random.default_rng(seed)
    order = np.argsort(blocks, kind="stable")
    _, first, size = np.unique(blocks[order], return_index=True, return_counts=True)
    n_treated = np.add.reduceat(z[order].astype(np.int64), first) if len(first) else np.zeros(0, dtype=np.int64)
    # Blocks of one size make a matrix whose rows are shuffled at once; shuffling on from the last redraw is as good.
    groups = []
    for m in np.unique(size):
        rows = np.flatnonzero(size == m)
        members = order[first[rows, None] + np.arange(m)]
        groups.append((members, np.arange(m) < n_treated[rows, None]))
    arms = np.zeros(len(z), dtype=np.bool_)
    for _ in range(n_redraws):
        for members, is_first in groups:
            rng.permuted(members, axis=1, out=members)
            arms[members] = is_first
        yield arms


class _Statistic:
    """|T| as a function of tau0 and of sums over the treated.

    zt^2 = z (1 - 2p) + p^2 and zt^3 = z (1 - 3p + 3p^2) - p^3, so that S and V need only sums that are linear in z of a
    draw of arms; what does not change with the arms is computed once.
    """

    def __init__(self, parts: _Residuals) -> None:
        ry, rv, p = parts.ry, parts.rv, parts.p
        second, third = 1 - 2 * p, 1 - 3 * p + 3 * p**2
        self._rows = np.array([ry, rv, second * ry**2, second * ry * rv, second * rv**2, third * ry, third * rv])
        self._square = float(np.sum(p * (1 - p)))
        self._fourth = float(np.sum(p * (1 - p) ** 4 + (1 - p) * p**4))
        self._fixed_2 = np.array([np.sum(p**2 * ry**2), np.sum(p**2 * ry * rv), np.sum(p**2 * rv**2)])
        self._fixed_3 = np.array([np.sum(p**3 * ry), np.sum(p**3 * rv)])

    def sums(self, z: FloatArray) -> FloatArray:
        """What T needs of a draw of arms: shape (7,)."""
        return np.asarray(self._rows @ z)

    def score(self, sums: FloatArray, tau0: float) -> FloatArray:
        """S: shape of `sums` without its last axis."""
        return np.asarray(sums[..., 0] - tau0 * sums[..., 1])

    def variance(self, sums: FloatArray, tau0: float) -> FloatArray:
        """V: shape of `sums` without its last axis; 0 where it is nothing but rounding."""
        theta = self.score(sums, tau0) / self._square
        yy, yv, vv = np.moveaxis(sums[..., 2:5] + self._fixed_2, -1, 0)
        y, v = np.moveaxis(sums[..., 5:7] - self._fixed_3, -1, 0)
        # Term by term: equal draws must give equal statistics to the last bit, alone or among others.
        second, third = yy - 2 * tau0 * yv + tau0**2 * vv, y - tau0 * v
        variance = second - 2 * theta * third + theta**2 * self._fourth
        return np.asarray(np.where(variance > _ROUNDING * second, variance, 0.0))

    def __call__(self, sums: FloatArray, tau0: float) -> FloatArray:
        score, scale = self.score(sums, tau0), np.sqrt(self.variance(sums, tau0))
        without_noise = np.where(score == 0, 0.0, np.inf)
        return np.asarray(np.divide(np.abs(score), scale, out=without_noise, where=scale > 0))


def _estimate(parts: _Residuals, observed: FloatArray, statistic: _Statistic) -> tuple[float, float]:
    """tau_hat and its robust standard error."""
    slope = float(observed[1])
    estimate = float(observed[0]) / slope
    n = len(parts.z)
    spare = max(n - parts.n_parameters, 1)
    return estimate, float(np.sqrt(statistic.variance(observed, estimate) * n / spare)) / slope


def _residuals(y: FloatArray, z: BoolArray, block: IntArray, x: FloatArray) -> _Residuals:
    codes, share = _block_shares(z, block)
    is_mixed = (share > 0) & (share < 1)
    if not is_mixed.any():
        raise ValueError(
            "no block has caregivers of both arms, so nothing can be compared; check the rollout share and that "
            "outcomes are known for both arms"
        )
    _, codes = np.unique(codes[is_mixed], return_inverse=True)
    arms = z[is_mixed].astype(np.float64)
    ry, rv = _within_blocks(y[is_mixed], codes), _within_blocks(arms, codes)
    rx = np.empty((len(arms), x.shape[1]))
    for number, column in enumerate(x[is_mixed].T):
        rx[:, number] = _within_blocks(column, codes)
    gram = rx.T @ rx
    # Covariates may say the same twice, or nothing within blocks.
    coefficients = np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ (rx.T @ np.column_stack([ry, rv]))
    ry, rv = (np.column_stack([ry, rv]) - rx @ coefficients).T
    if np.abs(ry).max() <= _ROUNDING * np.abs(y).max():
        ry = np.zeros_like(ry)
    return _Residuals(ry, rv, share[is_mixed], arms, codes, n_parameters=int(codes.max()) + 2 + x.shape[1])


def _block_shares(z: BoolArray, block: IntArray) -> tuple[IntArray, FloatArray]:
    """Dense numbers of the blocks, and of each caregiver's block the treated share."""
    _, codes = np.unique(block, return_inverse=True)
    size = np.bincount(codes)
    return codes, (np.bincount(codes, weights=z) / size)[codes]


def _within_blocks(values: FloatArray, codes: IntArray) -> FloatArray:
    """Deviations from the block's mean."""
    return np.asarray(values - (np.bincount(codes, weights=values) / np.bincount(codes))[codes])


def _end_of_interval(p_value: Callable[[float], float], estimate: float, step: float, alpha: float) -> float:
    """The farthest tau0 on the side of `step` that is not rejected, found by doubling and then halving the distance."""
    inside, distance = 0.0, 2.0
    for _ in range(_N_EXPANSIONS):
        if p_value(estimate + distance * step) <= alpha:
            break
        inside, distance = distance, 2 * distance
    else:
        return float(np.copysign(np.inf, step))
    for _ in range(_N_HALVINGS):
        middle = (inside + distance) / 2
        if p_value(estimate + middle * step) <= alpha:
            distance = middle
        else:
            inside = middle
    return estimate + inside * step


def _checked(
    outcome: npt.ArrayLike, is_treatment: npt.ArrayLike, block: npt.ArrayLike, covariates: npt.ArrayLike | None
) -> tuple[FloatArray, BoolArray, IntArray, FloatArray]:
    y = np.asarray(outcome, dtype=np.float64)
    z, blocks = np.asarray(is_treatment, dtype=np.bool_), np.asarray(block, dtype=np.int64)
    x = np.empty((len(y), 0)) if covariates is None else np.asarray(covariates, dtype=np.float64)
    if y.ndim != 1 or z.shape != y.shape or blocks.shape != y.shape or x.ndim != 2 or len(x) != len(y):
        raise ValueError(
            f"shapes disagree: outcome {y.shape}, is_treatment {z.shape}, block {blocks.shape}, covariates {x.shape}; "
            "expected (n,), (n,), (n,) and (n, n_covariates)"
        )
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        raise ValueError("outcome and covariates must be finite; leave out caregivers whose outcome is not known")
    return y, z, blocks, x
