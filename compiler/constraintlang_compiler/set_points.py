"""The set-points that the bounds of verification imply: the largest true values that are likely to be certified."""

from __future__ import annotations

import math
from collections.abc import Callable

from constraintlang_compiler.bounds import clopper_pearson_upper
from constraintlang_compiler.clean_bounds import BET_LEVEL, BET_SHARE, clean_samples_needed, corrected_alpha


def prompts_needed(bound: float, *, confidence: float = 0.95, num_statements: int = 1) -> int:
    """Fewest prompts with which a rate can be certified at all, that is, with no failure among them.

    Equation: ``n >= log(alpha) / log(1 - bound)``, ``alpha = (1 - confidence) / num_statements``.
    Raises: ValueError when ``bound`` is outside (0, 1).

    >>> prompts_needed(0.001)
    2995
    """
    _check_bound(bound)
    return clean_samples_needed(bound, corrected_alpha(confidence, num_statements))


def set_point(
    bound: float,
    n: int,
    *,
    confidence: float = 0.95,
    power: float = 0.9,
    num_statements: int = 1,
    upper: Callable[[int, int, float], float] = clopper_pearson_upper,
) -> float:
    """Largest true rate at which verifying ``n`` prompts still says ``holds`` with probability ``power``.

    Equation: with c the largest number of failures whose one-sided Clopper-Pearson upper bound at
    ``alpha = (1 - confidence)/num_statements`` is at most ``bound``, the p with ``P(Binomial(n, p) <= c) =
    power``.
    Units: a rate, below ``bound``. Training to the bound itself would be certified with probability about
    alpha. ``upper`` is another bound of a rate after so many failures in n prompts, no lower than this one.
    Raises: ValueError when no outcome of ``n`` prompts could certify ``bound``, with the n that could.
    Source: docs/method.md, "Control".

    >>> f"{set_point(0.05, 500):.3f} {set_point(0.05, 2000):.3f} {set_point(0.01, 2000):.4f}"
    '0.024 0.036 0.0043'
    """
    from scipy.special import betaincinv
    from scipy.stats import binom

    _check_bound(bound)
    _check_power(power)
    alpha = corrected_alpha(confidence, num_statements)
    # P(X <= c | bound) <= alpha  <=>  upper(c) <= bound; ppf is the first c that is too large, up to rounding
    failures = int(binom.ppf(alpha, n, bound)) if n > 0 else 0
    while failures >= 0 and upper(failures, n, alpha) > bound:
        failures -= 1
    if failures < 0:
        needed = prompts_needed(bound, confidence=confidence, num_statements=num_statements)
        raise ValueError(
            f"got n={n} prompts for bound {bound:g} at confidence {confidence:g} over "
            f"{num_statements} statement(s), which even no failure would not certify: "
            f"verify at least {needed} prompts, or weaken the bound"
        )
    return float(betaincinv(failures + 1, n - failures, 1.0 - power))


def set_point_mean(
    bound: float,
    n: int,
    std: float,
    *,
    high: float = 1.0,
    confidence: float = 0.95,
    power: float = 0.9,
    num_statements: int = 1,
) -> float:
    """Largest true mean that the betting bound certifies with probability about ``power``: an approximation.

    Equation: ``bound - log(1/alpha)/(n l) - l s^2/2 - z_power s/sqrt(n)`` with the bet
    ``l = min(sqrt(2 log(1/0.01)/n)/s, 0.9/(1 - bound))``: the second-order width of the betting bound plus
    the fluctuation of the mean (all in units of ``high``).
    Units: ``bound``, ``std``, ``high`` and the result in units of the value; values lie in [0, high] and have
    standard deviation ``std`` per prompt.
    Raises: ValueError when the result would not be above 0 (too few prompts), or for arguments out of range.
    Source: the width limit in Waudby-Smith & Ramdas 2024, section 4.4.
    """
    from scipy.special import ndtri

    if not (high > 0 and 0 < bound < high):
        raise ValueError(f"got bound {bound:g} and high {high:g}; expected 0 < bound < high")
    if not (n >= 1 and std >= 0):
        raise ValueError(f"got n={n} and std={std:g}; expected n >= 1 and std >= 0")
    _check_power(power)
    alpha = corrected_alpha(confidence, num_statements)
    s, b = std / high, bound / high
    largest = BET_SHARE / (1.0 - b)
    bet = min(math.sqrt(2.0 * math.log(1.0 / BET_LEVEL) / n) / s, largest) if s > 0 else largest
    width = math.log(1.0 / alpha) / (n * bet) + 0.5 * bet * s * s + float(ndtri(power)) * s / math.sqrt(n)
    if width >= b:
        raise ValueError(
            f"got n={n} prompts with std {std:g}; the upper bound lies about {width * high:.3g} above "
            f"the mean, more than the allowed {bound:g}: verify more prompts, or weaken the bound"
        )
    return (b - width) * high


def _check_bound(bound: float) -> None:
    if not 0.0 < bound < 1.0:
        raise ValueError(
            f"got bound {bound:g}; expected a rate between 0 and 1 (0 cannot be shown from samples)"
        )


def _check_power(power: float) -> None:
    if not 0.0 < power < 1.0:
        raise ValueError(f"got power {power:g}; expected a probability between 0 and 1, such as 0.9")
