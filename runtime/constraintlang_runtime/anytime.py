"""Bounds that stay valid however often one looks and whenever one stops: mixtures of bets against every other mean.

Pure functions of numbers in [0, 1], one per prompt, in an order that does not depend on them. The capital K_t(m) of the
bets of ``mixture_bets`` after t values is a non-negative supermartingale from 1 where the mean is not as it is bet, so
the chance that it ever reaches ``1/alpha`` is at most alpha (Ville's inequality): a verdict may be looked for after
every prompt, and the run may end at any of them.

Source: Waudby-Smith & Ramdas 2024, JRSS-B 86(1) (arXiv 2010.09686), section 4.5; Howard, Ramdas, McAuliffe & Sekhon
2021, Annals of Statistics 49(2), "Time-uniform, nonparametric, nonasymptotic confidence sequences" (arXiv 1810.08240).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.mixture_bets import Side, bets_against, log_steps

Floats = NDArray[np.float64]

_BISECTION_STEPS = 24  # 2**-24 of the range
_CHUNK = 1_000_000  # factors held at a time


class Capital:
    """The largest log capital so far of the bets that a mean is ``below``, or ``above``, m.

    Shapes: values [..., n], independent runs along the leading axes; ``best`` [...]. Cost of n values: n bets.
    """

    def __init__(self, m: float, side: Side) -> None:
        self._m = m
        self._bets, self._log_weights = bets_against(m, side)
        # A mean outside [0, 1] is known to be wrong, or is never rejected, before the first value.
        sure = m > 1.0 if side == "below" else m < 0.0
        self.best: Floats = np.asarray(math.inf if sure else 0.0)
        self._idle = not 0.0 <= m <= 1.0
        self._logs: Floats = np.zeros(len(self._bets))

    def add(self, values: Floats) -> None:
        """Bet on further values, one after another."""
        x = np.asarray(values, dtype=np.float64)
        if self._idle or x.shape[-1] == 0:
            self.best = np.broadcast_to(self.best, x.shape[:-1])
            return
        size = max(1, _CHUNK // max(1, self._bets.size * math.prod(x.shape[:-1])))
        for start in range(0, x.shape[-1], size):
            part = x[..., start : start + size]
            path = self._logs[..., None, :] + np.cumsum(log_steps(part, self._m, self._bets), axis=-2)
            total = np.logaddexp.reduce(path + self._log_weights, axis=-1)
            self._logs = path[..., -1, :]
            self.best = np.maximum(self.best, total.max(axis=-1))

    def rejects(self, alpha: float) -> NDArray[np.bool_]:
        """Whether the capital has ever reached ``1/alpha``."""
        return np.asarray(self.best >= math.log(1.0 / alpha))


def anytime_upper(values: Floats, alpha: float, *, at: float | None = None) -> float:
    """Upper end at ``alpha`` of a confidence sequence of the mean of values [n] in [0, 1]; 1 without values.

    It lies below ``at`` exactly when the bets against means of at least ``at`` have won; otherwise to 2**-24.
    """
    return _first_rejected(lambda m: _rejects(values, m, "below", alpha), at)


def anytime_lower(values: Floats, alpha: float, *, at: float | None = None) -> float:
    """Lower end at ``alpha`` of a confidence sequence of the mean of values [n] in [0, 1]; 0 without values.

    It lies above ``at`` exactly when the bets against means of at most ``at`` have won; otherwise to 2**-24.
    """
    mirrored = None if at is None else 1.0 - at

    def rejected(m: float) -> bool:
        # 1 - (1 - at) may miss `at` by a rounding error, and the decision is about `at` itself
        return _rejects(values, at if at is not None and m == mirrored else 1.0 - m, "above", alpha)

    return 1.0 - _first_rejected(rejected, mirrored)


def _rejects(values: Floats, m: float, side: Side, alpha: float) -> bool:
    capital = Capital(m, side)
    capital.add(values)
    return bool(capital.rejects(alpha))


def _first_rejected(rejected: Callable[[float], bool], at: float | None) -> float:
    """Where a test that stays true once it is true becomes true in [0, 1], from the side of true."""
    low, high = 0.0, 1.0
    if not rejected(1.0):
        return 1.0
    if at is not None and 0.0 < at < 1.0:
        if rejected(at):
            high = math.nextafter(at, 0.0)  # means of at least `at` are out
        else:
            low = at
    for _ in range(_BISECTION_STEPS):
        middle = 0.5 * (low + high)
        if rejected(middle):
            high = middle
        else:
            low = middle
    return high


def anytime_quantile_bounds(values: Floats, share: float, alpha: float) -> tuple[float, float]:
    """Ends of a confidence sequence of the ``1 - share`` quantile of values [n, m]: m samples of each of n prompts.

    Equation: the upper end is the smallest sample t for which the bets that ``P(x > t)`` is below ``share`` have won,
    the lower end the largest t for which the bets that ``P(x >= t)`` is above ``share`` have won. Both indicators
    are monotone in t, and so is the capital on them: t is found by bisection, and choosing it costs nothing.
    nan values are unknown: beyond every t in the upper end, before every t in the lower one. Infinite where no
    sample serves.
    """
    points = np.unique(values[np.isfinite(values)])
    known = np.isfinite(values).all(axis=1)

    def won(side: Side, t: float) -> bool:
        with np.errstate(invalid="ignore"):
            beyond = (values > t if side == "below" else values >= t).mean(axis=1)
        return _rejects(np.where(known, beyond, float(side == "below")), share, side, alpha)

    first = bisect_left(range(len(points)), True, key=lambda k: won("below", float(points[k])))
    last = bisect_left(range(len(points)), True, key=lambda k: not won("above", float(points[k])))
    upper = float(points[first]) if first < len(points) else math.inf
    return (float(points[last - 1]) if last else -math.inf), upper
