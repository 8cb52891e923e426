"""Quantiles and conditional values at risk of a finite law of numbers, by their definitions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Weighted = Sequence[tuple[Fraction, Fraction]]  # (probability, value); probabilities add up to 1


def quantile(law: Weighted, level: Fraction) -> Fraction:
    """The smallest t with P(a <= t) >= level: the inverse of the distribution function, never interpolated.

    >>> half = Fraction(1, 2)
    >>> quantile([(half, Fraction(0)), (half, Fraction(1))], Fraction(4, 5))
    Fraction(1, 1)
    """
    mass = Fraction(0)
    for probability, value in sorted(law, key=lambda entry: entry[1]):
        mass += probability
        if mass >= level:
            return value
    raise ValueError(f"got probabilities that add up to {mass}, less than the level {level}")


def cvar(law: Weighted, level: Fraction) -> Fraction:
    """The smallest eta + E[(a - eta)+] / (1 - level) over all eta: the mean of the worst share 1 - level.

    The objective is linear in eta between neighbouring values of a, so its smallest value is at one of them.

    >>> half = Fraction(1, 2)
    >>> cvar([(half, Fraction(0)), (half, Fraction(1))], Fraction(1, 5))
    Fraction(5, 8)
    """
    values = {value for probability, value in law if probability}
    return min(eta + excess(law, eta) / (1 - level) for eta in values)


def excess(law: Weighted, eta: Fraction) -> Fraction:
    """E[(a - eta)+]."""
    return sum((p * (value - eta) for p, value in law if value > eta), Fraction(0))
