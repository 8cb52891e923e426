"""What one comparison on the distribution becomes, before it is a clause."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from constraintlang.source import Span
from constraintlang_compiler.decimals import is_finite_decimal
from constraintlang_compiler.ir import ClauseKind, DomainPredicate, Shown, Statistic
from constraintlang_compiler.rejection import Rejection

PLAIN = Shown()


@dataclass(frozen=True)
class Expectation:
    """``E[statistic] <= bound`` (``<`` when strict) over ``given``, and how to show it.

    ``untrained`` says why no training target exists, where none does.
    """

    kind: ClauseKind
    statistic: Statistic
    bound: Fraction
    strict: bool
    shown: Shown = PLAIN
    given: DomainPredicate | None = None
    base_factor: Fraction | None = None
    at_least: bool = False
    untrained: str | None = None


def finite(value: Fraction, span: Span) -> Fraction:
    """The value itself.

    Raises: Rejection PC223 when it is no finite decimal.
    """
    if not is_finite_decimal(value):
        raise Rejection(
            "PC223",
            f"the bound of this statement is {value}, which has no finite decimal form",
            help="divide both sides yourself and write the bound, or the level, as a decimal",
            span=span,
        )
    return value
