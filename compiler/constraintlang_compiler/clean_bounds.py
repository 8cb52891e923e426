"""What samples without a violation show, and the level that statements share.

Without numpy: `check`, `compile` and `explain` name the least number of prompts and do not wait for its import.
"""

from __future__ import annotations

import math
from collections.abc import Callable

# Bets are sized for this level whatever `alpha` is asked, so that the capital process does not depend on
# `alpha` and the bound is exactly monotone in it. The price is a factor (sqrt r + 1/sqrt r)/2, r = log alpha
# / log 0.01, in width: under 3% for alpha between 0.06 and 0.0003.
BET_LEVEL = 0.01
# A bet is at most this share of the largest that cannot lose everything. Waudby-Smith & Ramdas use 1/2 or
# 3/4; any value below 1 is valid, and violation rates are small, where a larger share is tighter.
BET_SHARE = 0.9
_BISECTION_STEPS = 40  # 2**-40 of the range


def clean_samples_needed(bound: float, alpha: float) -> int:
    """The smallest number of independent prompts, all without violation, that shows ``rate <= bound``.

    Equation: the smallest n with (1 - bound)^n <= alpha, the exact one-sided binomial bound at 0 failures.
    ``alpha`` is 1 less the confidence, shared by the statements: a small one is exact where 1 - alpha is 1.
    Raises: ValueError unless 0 < bound < 1 and 0 < alpha < 1.

    >>> clean_samples_needed(0.05, 0.05), clean_samples_needed(0.001, 0.05)
    (59, 2995)
    """
    if not (0.0 < bound < 1.0 and 0.0 < alpha < 1.0):
        raise ValueError(f"got bound {bound} and alpha {alpha}, expected numbers between 0 and 1")
    ratio = math.log(alpha) / math.log1p(-bound)
    # The quotient of two rounded logarithms may stand a few units in the last place above a whole number.
    return max(1, math.ceil(ratio - 1e-9 * ratio))


def clean_upper(n: int, alpha: float) -> float:
    """``betting_upper`` of ``n`` values of 0, the best possible outcome, at a fraction of its cost.

    Raises: ValueError for ``alpha`` outside (0, 1).
    """
    check_alpha(alpha)
    return 1.0 if n == 0 else 1.0 - largest_rejected(lambda m: clean_log_capital(n, m), alpha)


def clean_log_capital(n: int, m: float) -> float:
    """The logarithm of the capital that ``betting_lower`` has against the mean ``m`` after ``n`` values of 1.

    Equation: ``sum_i log(1 + min(l_i, c/m) (1 - m))``, with the variances of such values in the bets ``l_i``. The
    variance times i is at most ``V = pi^2/24``, so ``l_i >= sqrt(2 log(1/0.01) i / (n V))``: from
    ``i = n (c/m)^2 V / (2 log(1/0.01))`` on every bet is the largest that is allowed, ``c/m``. Cost: that i.
    """
    size, largest = 2.0 * math.log(1.0 / BET_LEVEL), BET_SHARE / m
    num_first = min(n, math.ceil(n * largest**2 * (math.pi**2 / 24.0) / size))
    capital, spread, variance = 0.0, 0.25, 0.25
    for i in range(1, num_first + 1):
        capital += math.log1p(min(math.sqrt(size / (n * variance)), largest) * (1.0 - m))
        spread += (0.5 / (i + 1)) ** 2  # of a value of 1 about the mean, which is shrunk to a half
        variance = spread / (i + 1)
    return capital + (n - num_first) * math.log1p(largest * (1.0 - m))


def largest_rejected(log_capital: Callable[[float], float], alpha: float) -> float:
    """The largest mean at which a capital, which falls in the mean, has grown to ``1/alpha``; by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTION_STEPS):
        middle = 0.5 * (low + high)
        if log_capital(middle) >= math.log(1.0 / alpha):
            low = middle
        else:
            high = middle
    return low  # the rejected side: rounding errs towards a weaker claim


def corrected_alpha(confidence: float, num_statements: int) -> float:
    """Bonferroni: ``(1 - confidence) / num_statements``, so that ``confidence`` is joint over all statements.

    Raises: ValueError when not ``0 < confidence < 1`` or ``num_statements < 1``.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"got confidence {confidence:g}; expected a number between 0 and 1, such as 0.95")
    if num_statements < 1:
        raise ValueError(
            f"got num_statements={num_statements}; expected the number of statements verified, at least 1"
        )
    return (1.0 - confidence) / num_statements


def check_alpha(alpha: float) -> None:
    """Raise ValueError for a level outside (0, 1)."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"got alpha={alpha:g}; expected an error probability between 0 and 1, such as 0.05")
