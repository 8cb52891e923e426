"""One-sided confidence bounds of rates, means and paired per-token losses.

Pure functions of numbers: nothing here knows clauses or verdicts (``verification.py`` does). Every bound is
one-sided at level ``alpha``: it is on the wrong side of the truth with probability at most ``alpha``. Exact,
at any n: Clopper-Pearson (rates), betting (means of bounded values). Asymptotic in the number of rows, and
called so wherever printed: Student-t and the paired ratio estimator.

INVARIANT: for fixed data every bound widens as ``alpha`` falls, so raising the confidence never turns
``inconclusive`` into a decided verdict.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constraintlang_compiler.clean_bounds import BET_LEVEL, BET_SHARE, check_alpha, largest_rejected


class Bounds(NamedTuple):
    """A point estimate with a lower and an upper bound, each one-sided at the level asked for."""

    estimate: float
    lower: float
    upper: float


# ------------------------------------------------------------ rates
def clopper_pearson_lower(failures: int, n: int, alpha: float) -> float:
    """Exact lower bound of a probability from ``failures`` in ``n`` independent trials.

    Equation: the p with ``P(Binomial(n, p) >= failures) = alpha``; 0 when there is no failure or no trial.
    Raises: ValueError when not ``0 <= failures <= n`` or not ``0 < alpha < 1``.
    Source: Clopper & Pearson 1934, Biometrika 26.
    """
    from scipy.special import betaincinv

    _check_counts(failures, n)
    check_alpha(alpha)
    return 0.0 if failures == 0 else float(betaincinv(failures, n - failures + 1, alpha))


def clopper_pearson_upper(failures: int, n: int, alpha: float) -> float:
    """Exact upper bound of a probability from ``failures`` in ``n`` independent trials.

    Equation: the p with ``P(Binomial(n, p) <= failures) = alpha``; 1 when all trials fail or there is none;
    ``1 - alpha**(1/n)``, about ``3/n`` at 95%, when none fails.
    Raises: ValueError when not ``0 <= failures <= n`` or not ``0 < alpha < 1``.
    Source: Clopper & Pearson 1934, Biometrika 26.

    >>> round(clopper_pearson_upper(0, 300, 0.05), 4)
    0.0099
    """
    from scipy.special import betainccinv

    _check_counts(failures, n)
    check_alpha(alpha)
    return 1.0 if failures == n else float(betainccinv(failures + 1, n - failures, alpha))


# ------------------------------------------------------------ means of values in [0, 1]
def chernoff_upper(mean: float, n: int, alpha: float) -> float:
    """Upper bound of the mean of ``n`` independent values in [0, 1] from their average alone.

    Equation: the largest p with ``n kl(mean, p) <= log(1/alpha)``, by bisection to 2**-50, rounded up;
    ``1 - alpha**(1/n)`` for an average of 0, which is the bound of Clopper and Pearson.
    Source: Hoeffding 1963, JASA 58, theorem 1.

    >>> round(chernoff_upper(0.0, 300, 0.05), 4)
    0.0099
    """
    limit = math.log(1.0 / alpha) / n
    low, high = mean, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _kl(mean, middle) <= limit else (low, middle)
    return high


def _kl(p: float, q: float) -> float:
    if q <= 0.0 or q >= 1.0:
        return 0.0 if p == q else math.inf
    first = 0.0 if p <= 0.0 else p * math.log(p / q)
    return first + (0.0 if p >= 1.0 else (1.0 - p) * math.log((1.0 - p) / (1.0 - q)))


def betting_lower(values: ArrayLike, alpha: float) -> float:
    """Lower bound of the mean of independent values in [0, 1], by betting against every smaller mean.

    Equation: ``K_t(m) = prod_{i<=t} (1 + min(l_i, c/m) (x_i - m))`` with the predictable bet
    ``l_i = sqrt(2 log(1/0.01) / (n s_{i-1}))``, ``s`` the running variance shrunk to 1/4; at the true mean K
    is a non-negative martingale from 1, so ``P(max_t K_t >= 1/alpha) <= alpha`` (Ville). K falls in m; the
    result is the m where ``max_t K_t(m) = 1/alpha``, or 0, and the average of all values where that is less: what
    the first values win on must not contradict all of them.
    Shapes: values [n], in an order that does not depend on the values. Cost: O(n) times 40 bisection steps.
    Raises: ValueError for values outside [0, 1] or not finite, or ``alpha`` outside (0, 1).
    Source: Waudby-Smith & Ramdas 2024, JRSS-B 86(1), "Estimating means of bounded random variables by
    betting" (arXiv 2010.09686), predictable plug-in, one-sided, fixed sample.
    """
    x = _unit_interval(values)
    check_alpha(alpha)
    if x.size == 0:
        return 0.0
    bets = predictable_bets(x)
    if best_log_capital(x, bets, 1e-12) < math.log(1.0 / alpha):
        return 0.0
    return min(float(x.mean()), largest_rejected(lambda m: float(best_log_capital(x, bets, m)), alpha))


def betting_upper(values: ArrayLike, alpha: float) -> float:
    """Upper bound of the mean of independent values in [0, 1]: ``1 - betting_lower(1 - values)``.

    Shapes, errors and source as in ``betting_lower``; 1 when there is no value.
    """
    return 1.0 - betting_lower(1.0 - np.asarray(values, dtype=np.float64), alpha)


def predictable_bets(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Untruncated bets ``l_i`` [..., n], each a function of ``x_1 .. x_{i-1}`` only."""
    n = x.shape[-1]
    counts = np.arange(1, n + 1) + 1.0
    means = (0.5 + np.cumsum(x, axis=-1)) / counts
    variances = (0.25 + np.cumsum((x - means) ** 2, axis=-1)) / counts
    previous = np.concatenate((np.full((*x.shape[:-1], 1), 0.25), variances[..., :-1]), axis=-1)
    return np.sqrt(2.0 * math.log(1.0 / BET_LEVEL) / (n * previous))


def best_log_capital(x: NDArray[np.float64], bets: NDArray[np.float64], m: float) -> NDArray[np.float64]:
    """``max_t log K_t(m)`` [...]; non-increasing in m because every factor is."""
    return np.asarray(np.cumsum(np.log1p(np.minimum(bets, BET_SHARE / m) * (x - m)), axis=-1).max(axis=-1))


# ------------------------------------------------------------ asymptotic bounds
def student_t_bounds(values: ArrayLike, alpha: float) -> Bounds:
    """Asymptotic bounds of the mean of values of unknown range: ``mean -+ t_{n-1, 1-alpha} s / sqrt(n)``.

    Shapes: values [n]; the bounds are infinite with n < 2 and when all values are equal (such a sample says
    nothing about the spread: a count that is 0 in 500 replies need not have mean 0); for n = 0 the estimate
    is nan.
    Raises: ValueError for values that are not finite, or ``alpha`` outside (0, 1).
    Not exact: a heavy tail that the sample has not met is not covered.
    """
    x = np.asarray(values, dtype=np.float64)
    bounds = ratio_bounds(x, np.ones_like(x), alpha)
    if x.size and x.min() == x.max():
        return Bounds(bounds.estimate, -math.inf, math.inf)
    return bounds


def ratio_bounds(
    sums: ArrayLike,
    counts: ArrayLike,
    alpha: float,
    *,
    base_sums: ArrayLike | None = None,
    base_weight: float = 1.0,
) -> Bounds:
    """Asymptotic bounds of the difference of two ratios of sums, paired on rows.

    Equation: of ``sum(sums)/sum(counts) - base_weight * sum(base_sums)/sum(counts)``. With ratios ``A =
    sum(a)/sum(c)``, ``B = sum(b)/sum(c)`` and residuals ``e_i = (a_i - A c_i) - w (b_i - B c_i)``, the
    standard error is ``sqrt(n/(n-1) sum e_i^2) / sum(c)`` (Taylor linearisation; robust to dependence between
    the tokens of one row) and the bounds are ``A - w B -+ t_{n-1, 1-alpha} se``. Pairing on rows removes what
    is common to both models.
    Shapes: sums, counts, base_sums [n], one entry per row; with n < 2 the bounds are infinite.
    Units: those of ``sums`` per unit of ``counts``: sums of NLL and token counts give nats per token, and exp
    of the difference is a ratio of perplexities.
    Raises: ValueError for unequal shapes, entries that are not finite, a negative count or only zero counts.
    Source: Cochran, Sampling Techniques, 3rd ed., ch. 6 (ratio estimators).
    """
    from scipy.stats import t as student_t

    check_alpha(alpha)
    a, c = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    b = np.zeros_like(a) if base_sums is None else np.asarray(base_sums, dtype=np.float64)
    if not a.shape == b.shape == c.shape or a.ndim != 1:
        raise ValueError(f"got shapes {a.shape}, {b.shape} and {c.shape}; expected three equal shapes [rows]")
    if not (np.isfinite(a).all() and np.isfinite(b).all() and np.isfinite(c).all()):
        raise ValueError(
            "got a sum or a count that is not finite; leave out the rows that could not be scored"
        )
    if a.size == 0:
        return Bounds(math.nan, -math.inf, math.inf)
    total = float(c.sum())
    if (c < 0).any() or total <= 0:
        raise ValueError(
            f"got counts with minimum {c.min():g} and sum {total:g}; expected counts >= 0, not all 0"
        )
    mean_a, mean_b = float(a.sum()) / total, float(b.sum()) / total
    estimate = mean_a - base_weight * mean_b
    n = a.size
    if n < 2:
        return Bounds(estimate, -math.inf, math.inf)
    residuals = (a - mean_a * c) - base_weight * (b - mean_b * c)
    half_width = (
        float(student_t.isf(alpha, n - 1)) * math.sqrt(n / (n - 1) * float(residuals @ residuals)) / total
    )
    # at alpha > 1/2 the quantile is negative; a bound must not cross the estimate of the other side
    half_width = max(half_width, 0.0)
    return Bounds(estimate, estimate - half_width, estimate + half_width)


# ------------------------------------------------------------ several clauses
# ------------------------------------------------------------ argument checks
def _check_counts(failures: int, n: int) -> None:
    if not 0 <= failures <= n:
        raise ValueError(f"got {failures} failures in {n} trials; expected 0 <= failures <= n")


def _unit_interval(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"got values of shape {x.shape}; expected one dimension, one value per prompt")
    if x.size and not (np.isfinite(x).all() and x.min() >= 0.0 and x.max() <= 1.0):
        raise ValueError(
            f"got values between {x.min():g} and {x.max():g}; expected [0, 1]: divide by the range first"
        )
    return x
