"""One-sided confidence bounds of quantiles and of the conditional value at risk (cvar) from samples.

Pure functions of numbers, as in ``bounds.py``. The unit of evidence is the prompt: ``values`` [n, m] holds m samples
of each of n independent prompts, and the law in question is that of one sample of a random prompt. A prompt whose
values are nan is unknown; it counts as the largest possible value in an upper bound, the smallest in a lower one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.bounds import (
    Bounds,
    betting_lower,
    betting_upper,
    chernoff_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
    student_t_bounds,
)
from constraintlang_compiler.hinges import GRID, NUM_ETAS
from constraintlang_compiler.mixture_bets import log_capital

Floats = NDArray[np.float64]


def quantile_bounds(
    values: Floats,
    level: float,
    alpha: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Bounds:
    """Bounds of ``inf {t: F(t) >= level}``, each one-sided at ``alpha``; ``low`` and ``high`` end the range.

    Equation: the upper bound is the smallest sample t whose share of values <= t has a lower confidence bound of at
    least ``level``; the lower bound is the largest sample t whose share of values < t has an upper confidence bound
    below ``level``. Both confidence bounds grow with the share, so choosing t costs nothing. With one sample per
    prompt they are Clopper-Pearson's, which gives the order statistics of the binomial law (exact at any n);
    with several the better of two at ``alpha / 2``: the Chernoff bound of a mean of values in [0, 1],
    ``n kl(share, p) = log(2/alpha)``, and ``mixture_bets`` on each prompt's share, which see how little prompts differ.
    Shapes: values [n, m].
    Source: order statistics: David & Nagaraja 2003, Order Statistics, section 7.1; Chernoff bound of bounded means:
    Hoeffding 1963, JASA 58, theorem 1.
    """
    known = np.isfinite(values).all(axis=1)
    kept, n, unknown = values[known], len(values), int((~known).sum())
    if len(kept) == 0:
        return Bounds(math.nan, low, high)
    points, at_most, below = _masses(kept)  # in prompts
    down, under = points[::-1], below[::-1] + unknown
    if values.shape[1] == 1:
        first = _first(points, lambda k: clopper_pearson_lower(round(at_most[k]), n, alpha) >= level)
        last = _first(points, lambda k: clopper_pearson_upper(round(under[k]), n, alpha) < level)
    else:
        half = alpha / 2.0
        first = _first(points, lambda k: (
            chernoff_upper(1.0 - at_most[k] / n, n, half) <= 1.0 - level
            or _is_below(kept > points[k], unknown, 1.0 - level, half)
        ))  # fmt: skip
        last = _first(points, lambda k: (
            chernoff_upper(under[k] / n, n, half) < level or _is_below(kept < down[k], unknown, level, half)
        ))  # fmt: skip
    return Bounds(
        quantile_estimate(kept, level),
        low if last is None else max(low, float(down[last])),
        high if first is None else min(high, float(points[first])),
    )


def _first(points: Floats, test: Callable[[int], bool]) -> int | None:
    """The first index for which a test that stays true once it is true is true; None when it never is."""
    low, high = 0, len(points)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if test(middle) else (middle + 1, high)
    return low if low < len(points) else None


def quantile_method(samples: int) -> str:
    """The name of the bound of a quantile for so many samples of each prompt."""
    return "order statistics" if samples == 1 else "chernoff or betting on shares"


def _is_below(hits: NDArray[np.bool_], unknown: int, m: float, alpha: float) -> bool:
    """Whether the mixture shows at ``alpha`` that the share of hits [n, samples] is below m; unknown ones are hits."""
    shares = np.concatenate([hits.mean(axis=1), np.ones(unknown)])
    won = log_capital(shares, m, "below") if m <= 0.5 else log_capital(1.0 - shares, 1.0 - m, "above")
    return won >= math.log(1.0 / alpha)


def cvar_bounds(
    values: Floats,
    level: float,
    alpha: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    threshold: float | None = None,
) -> Bounds:
    """Bounds of ``min_eta eta + E[(a - eta)+] / (1 - level)``, each one-sided at ``alpha``.

    Equation, for values in [low, high]: with h(eta) = E[(a - eta)+] bounded by betting at ``alpha / G`` for each of G
    etas that do not depend on the sample, the upper bound is ``min_j eta_j + upper(h(eta_j)) / (1 - level)``. For
    the lower bound h is bounded between the etas too: it falls, and by at most the distance, so on
    [eta_j, eta_j+1] it is at least max(lower_j+1, lower_j - (eta - eta_j)). The etas are denser about ``threshold``.
    With an open range: the plug-in estimate with the Student-t bounds of its influence values
    ``eta + (a - eta)+ / (1 - level)``, asymptotic in the number of prompts.
    Shapes: values [n, m], in an order that does not depend on them. Cost: G betting bounds.
    Source: Rockafellar & Uryasev 2000, J. Risk 2 (the variational form); union bound over the etas;
    influence values: Trindade et al. 2007, Biometrics 63.
    """
    known = np.isfinite(values).all(axis=1)
    kept = values[known]
    if len(kept) == 0:
        return Bounds(math.nan, low, high)
    eta = quantile_estimate(kept, level)
    influence = (eta + np.maximum(kept - eta, 0.0) / (1.0 - level)).mean(axis=1)
    estimate = float(influence.mean())
    if not (math.isfinite(low) and math.isfinite(high)):
        bounds = student_t_bounds(influence, alpha)
        if len(kept) < len(values):
            return Bounds(estimate, low, high)
        return Bounds(estimate, max(low, bounds.lower), min(high, bounds.upper))
    if high <= low:
        return Bounds(estimate, low, high)
    etas = _etas(low, high, threshold)
    share = alpha / len(etas)
    lowers, uppers = [], []
    for eta in etas[:-1]:
        hinge = np.maximum(values - eta, 0.0).mean(axis=1) / (high - eta)
        clean, worst = (np.where(known, hinge, end) for end in (0.0, 1.0))
        lowers.append((high - eta) * betting_lower(clean, share))
        uppers.append(eta + (high - eta) * betting_upper(worst, share) / (1.0 - level))
    return Bounds(estimate, max(low, _lower_envelope(etas, [*lowers, 0.0], level)), min(high, min(uppers)))


def quantile_estimate(values: Floats, level: float) -> float:
    """The smallest sample t with at least ``level`` of the prompts' mass at or below it."""
    points, at_most, _ = _masses(values)
    # The masses of several samples per prompt are rounded sums of 1/m.
    return float(points[int(np.searchsorted(at_most, (level - 1e-12) * len(values)))])


def _masses(values: Floats) -> tuple[Floats, Floats, Floats]:
    """The distinct samples, ascending, with the mass at or below and below each; every prompt has mass 1."""
    points, index = np.unique(values, return_inverse=True)
    mass = np.bincount(index.ravel(), minlength=len(points)) / values.shape[1]
    at_most = np.cumsum(mass)
    return points, at_most, at_most - mass


def _etas(low: float, high: float, threshold: float | None) -> Floats:
    if threshold is None or not low < threshold < high:
        return np.linspace(low, high, NUM_ETAS)
    return np.concatenate(
        [np.linspace(low, threshold, GRID, endpoint=False), np.linspace(threshold, high, GRID + 1)]
    )


def _lower_envelope(etas: Floats, lowers: list[float], level: float) -> float:
    """``min_eta eta + h(eta) / (1 - level)`` over the smallest h that the lower bounds allow."""
    h = np.maximum.accumulate(np.array(lowers)[::-1])[
        ::-1
    ]  # h falls, so a bound further right serves here too
    found = []
    for j in range(len(etas) - 1):
        width = etas[j + 1] - etas[j]
        best = etas[j] + float(np.clip(h[j] - h[j + 1], 0.0, width))
        found.append(best + max(h[j + 1], h[j] - (best - etas[j])) / (1.0 - level))
    return float(min(found))
