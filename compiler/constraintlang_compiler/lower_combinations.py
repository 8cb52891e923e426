"""Comparisons of several statistics: sums of parts with a bound, which are verified and never trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import gcd, lcm

from constraintlang.source import Span
from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.decimals import decimal_text, is_finite_decimal
from constraintlang_compiler.expectation import PLAIN, Expectation
from constraintlang_compiler.ir import (
    AttributeRecord,
    Bound,
    ClauseKind,
    Combination,
    Part,
    Quantity,
    Share,
    Shown,
    Summary,
)
from constraintlang_compiler.lower_linear import LinearForm, Mean, Probability, Rows, Symbol, Tail
from constraintlang_compiler.lower_tails import range_of
from constraintlang_compiler.rejection import Rejection


def combination(
    form: LinearForm, upper: bool, strict: bool, attributes: Mapping[str, AttributeRecord], span: Span
) -> Expectation:
    """``form <= 0`` (``>=`` unless ``upper``) as a combination, shown on the side on which it was written."""
    found = bound_of(form, upper, strict, attributes, span)
    own = {symbol for symbol in form.coefficients if not symbol.on_base}
    first = next(iter(own))
    kind: ClauseKind = "difference"
    reason = "it compares several statistics with each other"
    if len(own) == 1 and isinstance(first, Tail) and same_quantity(found.parts):
        kind = first.function
        reason = f"a bound on a {first.function} from below has no target"
        if len(form.coefficients) > 1:
            reason = f"a {first.function} relative to the base model has no target"
    mirrored = all(part.factor.startswith("-") for part in found.parts if part.model == "self")
    return Expectation(
        kind=kind,
        statistic=Combination(parts=found.parts),
        bound=Fraction(found.bound),
        strict=strict,
        shown=Shown(offset="0", scale=-1) if mirrored else PLAIN,
        untrained=reason,
    )


def same_quantity(parts: Sequence[Part]) -> bool:
    """Whether the parts are one quantity, of the model and perhaps of the base model, over the same prompts."""
    return len({(sort_key(part.quantity), part.given) for part in parts}) == 1


def bound_of(
    form: LinearForm, upper: bool, strict: bool, attributes: Mapping[str, AttributeRecord], span: Span
) -> Bound:
    """``form <= 0`` (``>=`` unless ``upper``) as a bound on a sum of parts in canonical order and scale."""
    if any(isinstance(symbol, Rows) for symbol in form.coefficients) or not form.coefficients:
        raise Rejection(
            "PC120",
            "this comparison does not have statistics of responses only",
            help="write a statement of its own for each quantity of your rows",
            span=span,
        )
    sign = 1 if upper else -1
    parts = [(_part(symbol, attributes), sign * factor) for symbol, factor in form.coefficients.items()]
    parts.sort(key=lambda pair: (pair[0].model == "base", sort_key(pair[0])))
    # What is bounded from above gets the factor 1, where that leaves finite decimals.
    factors = sorted((factor for _, factor in parts), key=lambda factor: factor < 0)
    scale = abs(scale_of(factors, form.constant))
    return Bound(
        parts=tuple(
            Part(
                factor=decimal_text(factor / scale),
                quantity=part.quantity,
                given=part.given,
                model=part.model,
            )
            for part, factor in parts
        ),
        bound=decimal_text(-sign * form.constant / scale),
        strict=strict,
    )


def _part(symbol: Symbol, attributes: Mapping[str, AttributeRecord]) -> Part:
    """A part of factor 1."""
    assert not isinstance(symbol, Rows)
    quantity: Quantity
    if isinstance(symbol, Probability):
        quantity = Share(predicate=symbol.predicate)
    else:
        low, high = range_of(symbol.term, attributes)
        function = "mean" if isinstance(symbol, Mean) else symbol.function
        level = None if isinstance(symbol, Mean) else decimal_text(symbol.level)
        quantity = Summary(function=function, term=symbol.term, level=level, low=low, high=high)
    return Part(factor="1", quantity=quantity, given=symbol.given, model="base" if symbol.on_base else "self")


def scale_of(ordered: Sequence[Fraction], constant: Fraction) -> Fraction:
    """The divisor that makes every factor and the constant a finite decimal.

    It is the first factor in the order given when that works: this one then becomes 1. Else it is the number
    that leaves coprime integers, with the sign of that factor.
    """
    for factor in ordered:
        if all(is_finite_decimal(value / factor) for value in [*ordered, constant]):
            return factor if factor * ordered[0] > 0 else -factor
    values = [*ordered, constant]
    divisor = Fraction(
        gcd(*(value.numerator for value in values)), lcm(*(value.denominator for value in values))
    )
    return divisor if ordered[0] > 0 else -divisor
