"""Bounds on quantiles and on the conditional value at risk as expectations.

Laws kept, for every law on finitely many values, with Q the inverse of the distribution function:
``Q <= t`` iff ``P(a > t) <= 1 - level``; ``Q < t`` iff ``P(a >= t) <= 1 - level``;
``Q >= t`` iff ``P(a < t) < level``; ``Q > t`` iff ``P(a <= t) < level``.
A quantile is thus a chance, from either side. An upper bound on the cvar is one on a hinge, with an eta that the
runtime chooses; a lower bound has no such form (it needs every eta at once) and is a combination.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from constraintlang_compiler.decimals import decimal_text, round_outwards
from constraintlang_compiler.expectation import Expectation
from constraintlang_compiler.intervals import term_interval
from constraintlang_compiler.ir import AttributeRecord, Hinge, Indicator, Op, Term
from constraintlang_compiler.lower_linear import Tail
from constraintlang_compiler.lower_terms import comparison, const


def lower_quantile(tail: Tail, threshold: Fraction, *, at_most: bool, strict: bool) -> Expectation:
    """``quantile(term, level) <= threshold`` (or ``<``, ``>=``, ``>``) as a bound on the chance to be beyond it."""
    op: Op
    if at_most:
        op, bound, is_strict = "ge" if strict else "gt", 1 - tail.level, False
    else:
        op, bound, is_strict = "le" if strict else "lt", tail.level, True
    predicate = comparison(op, tail.term, const(threshold))
    return Expectation("quantile", Indicator(predicate=predicate), bound, is_strict, given=tail.given)


def lower_cvar(
    tail: Tail, threshold: Fraction, *, strict: bool, attributes: Mapping[str, AttributeRecord]
) -> Expectation:
    """``cvar(term, level) <= threshold`` (or ``<``) as a bound on a hinge."""
    low, high = range_of(tail.term, attributes)
    hinge = Hinge(term=tail.term, level=decimal_text(tail.level), low=low, high=high)
    return Expectation("cvar", hinge, threshold, strict, given=tail.given)


def range_of(term: Term, attributes: Mapping[str, AttributeRecord]) -> tuple[str | None, str | None]:
    """The ends of the range of a term as decimals, rounded outwards."""
    interval = term_interval(term, attributes)
    low = None if interval.low is None else decimal_text(round_outwards(interval.low, up=False))
    high = None if interval.high is None else decimal_text(round_outwards(interval.high, up=True))
    return low, high
