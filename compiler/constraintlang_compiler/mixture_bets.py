"""Constant bets in a mixture against a mean m of values in [0, 1]: their capital does not depend on the values' order.

Let ``x_i`` have conditional mean mu given the past. For a mean m and bets ``b_j >= 0`` whose factors are never
negative,

    below: K(m) = sum_j w_j prod_i (1 + b_j (m - x_i)),   above: the same with (x_i - m),

is a non-negative supermartingale from 1 whenever ``mu >= m`` (below) or ``mu <= m`` (above). The bets are ``f/(1-m)``
for f in ``SHARES`` (below) and ``min(c/m, r/(1-m))`` for r in ``RATIOS`` and c in ``CAPS`` (above): against 0 and 1
these are the likelihood ratios of the rates ``(1-f) m`` and ``(1+r) m`` to m, and most of the weight lies on half and
on twice the bound; against a large m, where twice is too much, they are those of the rates ``(1-c) (1-m)`` of zeros to
``1-m``. Every factor is monotone in m, so the means that are not rejected form an interval.

Source: Waudby-Smith & Ramdas 2024, JRSS-B 86(1), "Estimating means of bounded random variables by betting"
(arXiv 2010.09686), section 4.5 (constant bets in a mixture).

INVARIANT: the bets do not depend on alpha, so every bound widens as alpha falls.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Side = Literal["below", "above"]

SHARES = np.array([1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0])
_SHARE_WEIGHTS = np.array([0.5, 0.5, 1.0, 2.0, 16.0, 3.0, 2.0])
RATIOS = np.array([1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0, 1e9])
CAPS = np.array([1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1 / 2, 3 / 4, 3 / 4, 7 / 8, 1.0])
_RATIO_WEIGHTS = np.array([0.5, 0.5, 0.5, 0.5, 2.0, 16.0, 3.0, 1.0, 0.5, 0.5])
_TINY = 1e-12


def bets_against(m: float, side: Side) -> tuple[Floats, Floats]:
    """The bets against a mean in [0, 1], with their signs, and the logarithms of their weights."""
    if side == "below":
        return -SHARES / max(1.0 - m, _TINY), np.log(_SHARE_WEIGHTS / _SHARE_WEIGHTS.sum())
    bets = np.minimum(CAPS / max(m, _TINY), RATIOS / max(1.0 - m, _TINY))
    return bets, np.log(_RATIO_WEIGHTS / _RATIO_WEIGHTS.sum())


def log_steps(values: Floats, m: float, bets: Floats) -> Floats:
    """Logarithms of the factors [..., n, J] by which values [..., n] multiply what each bet holds."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log1p(np.maximum(bets * (values[..., None] - m), -1.0)))


def log_capital(values: Floats, m: float, side: Side) -> float:
    """log K(m) of values [n] in [0, 1]: a mean ``below``, or ``above``, is shown at alpha when it is log(1/alpha)."""
    bets, log_weights = bets_against(m, side)
    return float(np.logaddexp.reduce(log_weights + log_steps(values, m, bets).sum(axis=0)))
