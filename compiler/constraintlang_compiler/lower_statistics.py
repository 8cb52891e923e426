"""One distribution-level comparison becomes one canonical expectation ``E[f] <= bound`` with ``f >= 0``.

Law kept: over every law of the responses on which each attribute stays in its declared range, the comparison
is true exactly when the expectation meets its bound. All arithmetic is exact; factors and offsets move to the
constant side: ``2 * mean(x) + 1 <= 3`` is ``mean(x) <= 1``. When the quotient is no finite decimal (``3 *
mean(x) <= 1``) a mean keeps its factor (``E[3 x] <= 1``); a probability cannot and is rejected (PC223).
Several means of one scope are one mean, because expectation is linear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Literal

from constraintlang import nodes
from constraintlang.source import Span
from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.decimals import decimal_text, is_finite_decimal, round_outwards
from constraintlang_compiler.intervals import term_interval
from constraintlang_compiler.ir import (
    AttributeRecord,
    DomainPredicate,
    Indicator,
    Op,
    RowsLoss,
    Shown,
    Statistic,
    Value,
)
from constraintlang_compiler.lower_linear import LinearForm, Mean, Probability, Rows, linear_form
from constraintlang_compiler.lower_terms import add, const, multiply, negate_term
from constraintlang_compiler.rejection import Rejection

PLAIN = Shown()


@dataclass(frozen=True)
class Expectation:
    """``E[statistic] <= bound`` (``<`` when strict) over ``given``, and how to show it."""

    kind: Literal["mean", "probability", "utility"]
    statistic: Statistic
    bound: Fraction
    strict: bool
    shown: Shown = PLAIN
    given: DomainPredicate | None = None
    base_factor: Fraction | None = None
    at_least: bool = False


def lower_comparison(
    left: nodes.Expr,
    op: Op,
    right: nodes.Expr,
    *,
    rows: bool,
    attributes: Mapping[str, AttributeRecord],
    span: Span,
) -> Expectation:
    """``left op right`` between distribution-level numbers as an expectation with a bound.

    Raises: Rejection PC210 (the side that the bound needs is open), PC120 (not one statistic, or samples of
    the reference model), PC202 (``==``, ``!=``), PC223 (the bound is no finite decimal).
    """
    if op in ("eq", "ne"):
        raise Rejection(
            "PC202",
            "an expectation cannot be compared with `==` or `!=`: no number of samples decides equality",
            help="give a range, as in `mean(toxicity) in [0.05, 0.15]`",
            span=span,
        )
    form = linear_form(left, rows=rows).plus(linear_form(right, rows=rows, base_of=left), Fraction(-1))
    upper, strict = op in ("lt", "le"), op in ("lt", "gt")  # form op 0
    symbols = tuple(form.coefficients)
    if rows and symbols and all(isinstance(symbol, Rows) for symbol in symbols):
        return _utility(form, upper, strict, span)
    if symbols and all(isinstance(symbol, Mean) for symbol in symbols):
        return _mean(form, upper, strict, attributes, span)
    if len(symbols) == 1 and isinstance(symbols[0], Probability):
        return _probability(symbols[0], form, upper, strict, span)
    raise Rejection(
        "PC120",
        "this comparison does not have exactly one statistic",
        help="compare one statistic with a number; probabilities of different events need a statement each",
        span=span,
    )


def _utility(form: LinearForm, upper: bool, strict: bool, span: Span) -> Expectation:
    own = [symbol for symbol in form.coefficients if isinstance(symbol, Rows) and not symbol.on_base]
    quantities = {symbol.quantity for symbol in form.coefficients if isinstance(symbol, Rows)}
    if len(own) != 1 or len(quantities) != 1:
        raise Rejection(
            "PC120",
            "a utility clause compares one quantity with the same quantity of the reference model",
            help="write `preserve mean(perplexity) <= 1.02 * base`",
            span=span,
        )
    factor = form.coefficients[own[0]]
    base = form.coefficients.get(Rows(own[0].quantity, True))
    quantity: Literal["perplexity", "accuracy"] = (
        "perplexity" if own[0].quantity == "perplexity" else "accuracy"
    )
    return Expectation(
        kind="utility",
        statistic=RowsLoss(quantity=quantity),
        bound=_decimal(-form.constant / factor, span),
        strict=strict,
        base_factor=None if base is None else _decimal(-base / factor, span),
        at_least=upper != (factor > 0),
    )


def _probability(symbol: Probability, form: LinearForm, upper: bool, strict: bool, span: Span) -> Expectation:
    factor = form.coefficients[symbol]
    bound = _decimal(-form.constant / factor, span)
    if upper == (factor > 0):
        return Expectation(
            "probability", Indicator(predicate=symbol.predicate), bound, strict, given=symbol.given
        )
    # P(phi) >= c  iff  P(not phi) <= 1 - c
    shown = Shown(offset="1", scale=-1)
    return Expectation(
        "probability", Indicator(predicate=symbol.negation), 1 - bound, strict, shown, symbol.given
    )


def _mean(
    form: LinearForm, upper: bool, strict: bool, attributes: Mapping[str, AttributeRecord], span: Span
) -> Expectation:
    means = {symbol: factor for symbol, factor in form.coefficients.items() if isinstance(symbol, Mean)}
    scopes = {symbol.given for symbol in means}
    if len(scopes) != 1:
        raise Rejection(
            "PC120",
            "these means are taken over different prompts",
            help="bound each mean in a statement of its own",
            span=span,
        )
    scale = _scale(means, form.constant)
    if scale < 0:
        upper = not upper
    target = -form.constant / scale
    term = add(multiply([const(factor / scale), symbol.term]) for symbol, factor in means.items())
    interval = term_interval(term, attributes)
    end = interval.low if upper else interval.high
    if end is None:
        side, needed = ("above", "lower") if upper else ("below", "upper")
        raise Rejection(
            "PC210",
            f"a mean bounded from {side} needs a declared {needed} end of the range",
            help="declare the attribute with a range, as in `attribute grade: real in [0, 20]`, or bound a "
            "probability instead, as in `P(words < 20) <= 5%`",
            span=span,
        )
    decimal_text(target)  # what people are shown must be short enough to be written, too
    end = round_outwards(end, up=not upper)
    other = interval.high if upper else interval.low
    width = None if other is None else round_outwards(abs(other - end), up=True)
    return Expectation(
        kind="mean",
        statistic=Value(
            term=add([term, const(-end)]) if upper else add([const(end), negate_term(term)]),
            high=None if width is None else decimal_text(width),
        ),
        bound=target - end if upper else end - target,
        strict=strict,
        shown=Shown(offset=decimal_text(end), scale=1 if upper else -1),
        given=next(iter(scopes)),
    )


def _scale(means: Mapping[Mean, Fraction], constant: Fraction) -> Fraction:
    """The divisor that makes every factor and the constant a finite decimal.

    It is the factor of the first mean in canonical order when that works: this mean then stands alone. Else
    it is the number that leaves coprime integers, with the sign of that factor.
    """
    ordered = [means[mean] for mean in sorted(means, key=lambda mean: sort_key(mean.term))]
    for factor in ordered:
        if all(is_finite_decimal(value / factor) for value in [*ordered, constant]):
            return factor if factor * ordered[0] > 0 else -factor
    values = [*ordered, constant]
    divisor = Fraction(
        gcd(*(value.numerator for value in values)), lcm(*(value.denominator for value in values))
    )
    return divisor if ordered[0] > 0 else -divisor


def _decimal(value: Fraction, span: Span) -> Fraction:
    if not is_finite_decimal(value):
        raise Rejection(
            "PC223",
            f"the bound of this statement is {value}, which has no finite decimal form",
            help="divide both sides yourself and write the bound as a decimal",
            span=span,
        )
    return value
