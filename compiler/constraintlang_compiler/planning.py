"""How many samples a clause needs before anything can be said about it."""

from __future__ import annotations

from math import ceil, log, log1p

from constraintlang_compiler.ir import Choice, Clause, Combination, Hinge, Indicator, RowsLoss, Value


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
    ratio = log(alpha) / log1p(-bound)
    # The quotient of two rounded logarithms may stand a few units in the last place above a whole number.
    return max(1, ceil(ratio - 1e-9 * ratio))


def samples_needed(clause: Clause, num_statements: int = 1) -> int | None:
    """The least number of prompts after which the clause can be said to hold, every response being the best
    possible; as one of so many statements, which share the error.

    ``None`` when no number is enough (hard clauses, bound 0 or below, open range) or none is needed in this
    sense (utility clauses, bounds that no response can break).
    """
    bound = float(clause.bound)
    match clause.statistic:
        case RowsLoss() | Combination() | Choice():
            return None
        case Indicator():
            share = bound
        case Hinge(level=level, low=low, high=high):
            # All responses at the low end but a share p at the high one: cvar = low + (high - low) p / (1 - level).
            ends = None if low is None or high is None or low == high else (float(low), float(high))
            share = 0.0 if ends is None else (1 - float(level)) * (bound - ends[0]) / (ends[1] - ends[0])
        case Value(high=high):
            # E[f] > bound with f <= high needs P(f > 0) > bound / high.
            share = bound / float(high) if high is not None and float(high) > 0 else 0.0
    if clause.base_factor is not None or not 0.0 < share < 1.0:
        return None
    return clean_samples_needed(share, (1.0 - float(clause.confidence)) / num_statements)
