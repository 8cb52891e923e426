"""One distribution-level comparison becomes one canonical demand, an expectation ``E[f] <= bound`` where it can.

Law kept: over every law of the responses on finitely many scores, each attribute in its declared range, the
comparison is true exactly when the demand is met. All arithmetic is exact; factors and offsets move to the
constant side: ``2 * mean(x) + 1 <= 3`` is ``mean(x) <= 1``. When the quotient is no finite decimal (``3 *
mean(x) <= 1``) a mean keeps its factor (``E[3 x] <= 1``); a probability cannot and is rejected (PC223).
Several means of one scope are one mean, because expectation is linear. What has several different statistics
is a combination (``lower_combinations``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from constraintlang import nodes
from constraintlang.source import Span
from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.decimals import decimal_text, round_outwards
from constraintlang_compiler.expectation import Expectation, finite
from constraintlang_compiler.intervals import term_interval
from constraintlang_compiler.ir import AttributeRecord, Bound, Indicator, Op, RowsLoss, Shown, Value
from constraintlang_compiler.lower_combinations import bound_of, combination, scale_of
from constraintlang_compiler.lower_linear import (
    LinearForm,
    Mean,
    Probability,
    Rows,
    Symbol,
    Tail,
    linear_form,
)
from constraintlang_compiler.lower_tails import lower_cvar, lower_quantile
from constraintlang_compiler.lower_terms import add, const, multiply, negate_term
from constraintlang_compiler.rejection import Rejection


def lower_comparison(
    left: nodes.Expr,
    op: Op,
    right: nodes.Expr,
    *,
    rows: bool,
    attributes: Mapping[str, AttributeRecord],
    span: Span,
) -> Expectation:
    """``left op right`` between distribution-level numbers as a demand.

    Raises: Rejection PC210 (the side that the bound needs is open), PC120 (no statistic), PC202 (``==``,
    ``!=``), PC223 (the bound is no finite decimal), PC226 (nothing is said about the model).
    """
    form = _difference(left, op, right, rows, span)
    upper, strict = op in ("lt", "le"), op in ("lt", "gt")  # form op 0
    if rows and form.coefficients and all(isinstance(symbol, Rows) for symbol in form.coefficients):
        return _utility(form, upper, strict, span)
    own = {symbol: factor for symbol, factor in form.coefficients.items() if not symbol.on_base}
    relative = _multiple_of_base(form)
    if relative is not None:
        alone = LinearForm(own, form.constant)
        if all(isinstance(symbol, Mean) for symbol in own) and len({symbol.given for symbol in own}) == 1:  # type: ignore[union-attr]
            return _mean(alone, upper, strict, attributes, span, relative)
        ((symbol, _), *others) = own.items()
        if isinstance(symbol, Probability) and not others:
            return _probability(symbol, alone, upper, strict, span, relative)
        if isinstance(symbol, Tail) and not others and relative == 0:
            return _tail(symbol, alone, upper, strict, attributes, span)
    return combination(form, upper, strict, attributes, span)


def lower_bound(
    left: nodes.Expr,
    op: Op,
    right: nodes.Expr,
    *,
    rows: bool,
    attributes: Mapping[str, AttributeRecord],
    span: Span,
) -> Bound:
    """``left op right`` as one alternative of a choice.

    Raises: Rejection PC120 (quantities of the user's rows), PC202, PC226, as ``lower_comparison``.
    """
    form = _difference(left, op, right, rows, span)
    return bound_of(form, op in ("lt", "le"), op in ("lt", "gt"), attributes, span)


def _difference(left: nodes.Expr, op: Op, right: nodes.Expr, rows: bool, span: Span) -> LinearForm:
    """``left - right`` as a linear form; it says something about the model."""
    if op in ("eq", "ne"):
        raise Rejection(
            "PC202",
            "an expectation cannot be compared with `==` or `!=`: no number of samples decides equality",
            help="give a range, as in `mean(toxicity) in [0.05, 0.15]`",
            span=span,
        )
    form = linear_form(left, rows=rows)
    form = form.plus(linear_form(right, rows=rows, base_of=left if rows else None), Fraction(-1))
    if all(symbol.on_base for symbol in form.coefficients):
        raise Rejection(
            "PC226",
            "this comparison says nothing about the model: no statistic of it is left",
            help="compare a statistic of the model with a number or with `base`",
            span=span,
        )
    return form


def _multiple_of_base(form: LinearForm) -> Fraction | None:
    """The c >= 0 with which the form is ``own part - c * the same on the base model + constant``; else None."""
    own: dict[Symbol, Fraction] = {}
    base: dict[Symbol, Fraction] = {}
    for symbol, factor in form.coefficients.items():
        if symbol.on_base:
            base[replace(symbol, on_base=False)] = -factor
        else:
            own[symbol] = factor
    if not base:
        return Fraction(0)
    if set(base) != set(own):
        return None
    ratios = {base[symbol] / own[symbol] for symbol in own}
    ratio = next(iter(ratios))
    return ratio if len(ratios) == 1 and ratio > 0 else None


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
        bound=finite(-form.constant / factor, span),
        strict=strict,
        base_factor=None if base is None else finite(-base / factor, span),
        at_least=upper != (factor > 0),
    )


def _probability(
    symbol: Probability, form: LinearForm, upper: bool, strict: bool, span: Span, relative: Fraction
) -> Expectation:
    factor = form.coefficients[symbol]
    bound = finite(-form.constant / factor, span)
    base_factor = finite(relative, span) if relative else None
    if upper == (factor > 0):
        statistic = Indicator(predicate=symbol.predicate)
        return Expectation(
            "probability", statistic, bound, strict, given=symbol.given, base_factor=base_factor
        )
    # P(phi) >= c  iff  P(not phi) <= 1 - c
    shown = Shown(offset="1", scale=-1)
    statistic = Indicator(predicate=symbol.negation)
    return Expectation("probability", statistic, 1 - bound, strict, shown, symbol.given, base_factor)


def _tail(
    symbol: Tail,
    form: LinearForm,
    upper: bool,
    strict: bool,
    attributes: Mapping[str, AttributeRecord],
    span: Span,
) -> Expectation:
    factor = form.coefficients[symbol]
    threshold = finite(-form.constant / factor, span)
    at_most = upper == (factor > 0)
    if symbol.function == "quantile":
        return lower_quantile(symbol, threshold, at_most=at_most, strict=strict)
    if at_most:
        return lower_cvar(symbol, threshold, strict=strict, attributes=attributes)
    return combination(form, upper, strict, attributes, span)


def _mean(
    form: LinearForm,
    upper: bool,
    strict: bool,
    attributes: Mapping[str, AttributeRecord],
    span: Span,
    relative: Fraction,
) -> Expectation:
    means = {symbol: factor for symbol, factor in form.coefficients.items() if isinstance(symbol, Mean)}
    given = next(iter(means)).given
    ordered = [means[mean] for mean in sorted(means, key=lambda mean: sort_key(mean.term))]
    scale = scale_of(ordered, form.constant)
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
        given=given,
        base_factor=finite(relative, span) if relative else None,
    )
