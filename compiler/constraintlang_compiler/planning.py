"""What verification has to show of a clause, and the least number of prompts that can show it.

Every clause that is planned is a bound on the mean of values in [0, 1] of which 0 is the best; ``explain``, ``plan``
and ``check --num_prompts`` take it from here, so that they name one number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from constraintlang_compiler.clean_bounds import (
    clean_log_capital,
    clean_samples_needed,
    clean_upper,
    corrected_alpha,
)
from constraintlang_compiler.hinges import NUM_ETAS
from constraintlang_compiler.ir import Clause, Hinge, Indicator, Value
from constraintlang_compiler.measurements import reads_base_model

MAX_CLEAN = 10**6  # values of 0 that are tried for a mean: each try costs time that grows with them

Unplanned = Literal["hard", "utility", "base", "several", "open", "always", "best", "beyond"]
"""Why no number of prompts can be named.

``several``: statistics in one comparison; ``open``: the range; ``always``: no response can break the bound; ``best``:
the bound is the best possible value; ``beyond``: it is better than that.
"""
Method = Literal["clopper-pearson", "chernoff", "betting"]


@dataclass(frozen=True)
class UnitBound:
    """The mean of values in [0, 1], one for each prompt, is to be shown to be at most ``bound``.

    Equation: the number that the clause bounds is ``low + width * mean``. ``alpha`` is the level at which the bound of
    verification (``method``) is taken.
    """

    bound: float
    low: float
    width: float
    alpha: float
    method: Method

    def value(self, mean: float) -> float:
        """The number that the clause bounds, for a mean of the values in [0, 1]."""
        return self.low + self.width * mean

    @property
    def least(self) -> int | None:
        """The number of prompts with which the best possible outcome is called ``holds``; None beyond ``MAX_CLEAN``."""
        if self.method != "betting":  # without a failure the bound of Chernoff is that of Clopper and Pearson
            return clean_samples_needed(self.bound, self.alpha)
        enough = math.log(1.0 / self.alpha)
        return least_that(lambda n: clean_log_capital(n, 1.0 - self.bound) >= enough, MAX_CLEAN)

    def clean_upper(self, n: int) -> float:
        """What the best possible outcome of ``n`` prompts shows the mean to be below."""
        if self.method == "betting":
            return clean_upper(n, self.alpha)
        return 1.0 - self.alpha ** (1.0 / n)


def unit_bound(clause: Clause, num_clauses: int) -> UnitBound | Unplanned:
    """What verification has to show of a clause, as one of so many; or why no number of prompts shows it."""
    statistic, bound = clause.statistic, Fraction(clause.bound)
    alpha = corrected_alpha(float(clause.confidence), num_clauses)
    low, width = Fraction(0), Fraction(1)
    method: Method = "betting"
    if clause.hard:
        return "hard"
    if clause.kind == "utility":
        return "utility"
    if reads_base_model(clause):
        return "base"
    match statistic:
        case Indicator():
            if num_samples(clause) == 1:
                method = "clopper-pearson"
            elif clause.kind == "quantile":
                method = "chernoff"
                alpha /= 2  # the other half is that of bets, which serve responses that differ
        case Value(high=None) | Hinge(low=None) | Hinge(high=None):
            return "open"
        case Value(high=high):
            width = Fraction(str(high))
        case Hinge(low=bottom, high=high):
            low, width = Fraction(str(bottom)), Fraction(str(high)) - Fraction(str(bottom))
        case _:
            return "several"
    top = low + width
    if bound > top or (bound == top and not clause.strict):
        return "always"
    if bound <= low:
        return "best" if bound == low and not clause.strict else "beyond"
    if isinstance(statistic, Hinge):
        # All responses at the low end but a share p at the high one: cvar = low + (high - low) p / (1 - level).
        width /= 1 - Fraction(statistic.level)
        alpha /= NUM_ETAS
    # What is below 1 is shown by every bound that is not 1.
    share = min(float((bound - low) / width), math.nextafter(1.0, 0.0))
    return UnitBound(share, float(low), float(width), alpha, method)


def least_prompts(clause: Clause, num_clauses: int) -> int | None:
    """The number of prompts with which the best possible outcome is called ``holds``; None when none is."""
    found = unit_bound(clause, num_clauses)
    return found.least if isinstance(found, UnitBound) else None


def num_samples(clause: Clause) -> int:
    """How many responses of each prompt a clause asks for."""
    return int(float(clause.sampling.get("samples", "1")))


def least_that(holds: Callable[[int], bool], most: int) -> int | None:
    """The least positive number for which a condition holds that stays true; None beyond ``most``."""
    high = 1
    while not holds(high):
        high *= 2
        if high > most:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
