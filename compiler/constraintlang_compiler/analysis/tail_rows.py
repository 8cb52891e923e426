"""Comparisons of a quantile or a conditional value at risk with a number, as rows.

A quantile is a bound on a mass, exactly: ``quantile(a, v) <= t`` is ``P(a <= t) >= v``. For the conditional
value at risk, ``cvar(a, v) <= t`` holds exactly when ``eta + E[(a - eta)+] / (1 - v) <= t`` for some eta
between the low end of a and t. Proofs use intervals of eta (weaker on each, complete together), trials use
the ends of the intervals (enough, not needed).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from constraintlang import nodes as n
from constraintlang.constants import fold
from constraintlang_compiler.analysis.forms import ONE, Form, Variables
from constraintlang_compiler.analysis.rows import (
    Alternatives,
    Excess,
    Mass,
    NotAnalysed,
    Row,
    TailBound,
    TruthOf,
    compared,
    scaled,
)
from constraintlang_compiler.decimals import decimal_text, is_finite_decimal
from constraintlang_compiler.ir import DomainPredicate

LEVELS = {"median": Fraction(1, 2)}
INTERVALS = 8  # of eta


@dataclass(frozen=True)
class Tail:
    """``factor`` times a quantile or a conditional value at risk; it stands alone in a comparison."""

    factor: Fraction
    is_cvar: bool
    argument: n.Expr
    form: Form
    level: Fraction


def tail_of(node: n.Apply, variables: Variables) -> Tail | None:
    """The tail statistic of a call; None for another statistic.

    Raises: NotAnalysed when its argument is not linear.
    """
    if node.function not in ("quantile", "median", "cvar"):
        return None
    argument: n.Expr = node.arguments[0]  # type: ignore[assignment]
    form = variables.form(argument)
    level = LEVELS.get(node.function)
    if level is None:
        level = fold(node.arguments[1], {})  # type: ignore[arg-type]
    if form is None or level is None or not form.coefficients:
        raise NotAnalysed(f"`{node.function}` of this expression is not analysed")
    return Tail(ONE, node.function == "cvar", argument, form, level)


def tail_rows(
    tail: Tail,
    op: str,
    bound: Fraction,
    domain: DomainPredicate | None,
    variables: Variables,
    *,
    for_proof: bool,
) -> Alternatives:
    """The alternatives of ``tail op bound``; ``for_proof`` no law is left out, else none is let in wrongly.

    Raises: NotAnalysed for equality, and for a conditional value at risk without a low end.
    """
    if tail.is_cvar:
        return _cvar(tail, op, bound, domain, variables, for_proof=for_proof)
    return _quantile(tail, op, bound, domain)


def _quantile(tail: Tail, op: str, bound: Fraction, domain: DomainPredicate | None) -> Alternatives:
    # quantile <= t: P(a <= t) >= v; quantile < t: P(a < t) >= v, since a law here is finite.
    inside = "<=" if op in ("<=", ">") else "<"
    if op not in ("<", "<=", ">", ">="):
        raise NotAnalysed("a quantile that equals a number is not analysed")
    parts = (TruthOf(-ONE, _event(tail, inside, bound), True), Mass(tail.level))
    return compared(parts, "<=" if op in ("<", "<=") else ">", domain)


def _cvar(
    tail: Tail,
    op: str,
    bound: Fraction,
    domain: DomainPredicate | None,
    variables: Variables,
    *,
    for_proof: bool,
) -> Alternatives:
    if op not in ("<", "<=", ">", ">="):
        raise NotAnalysed("a cvar that equals a number is not analysed")
    interval = variables.interval(tail.form)
    if interval.low is None:
        raise NotAnalysed("`cvar` without a low end of the range is not analysed")
    top = bound if interval.high is None else min(bound, interval.high)
    if top < interval.low:
        # The least possible value is the low end of the range.
        return () if op in ("<", "<=") else ((),)
    step = (top - interval.low) / INTERVALS
    etas = list(dict.fromkeys(interval.low + k * step for k in range(INTERVALS + 1)))
    strict = op in ("<", ">")
    itself = TailBound((tail.form, tail.level, domain), op, bound)

    def row(eta: Fraction, above: Fraction, sign: Fraction) -> Row:
        parts = (Mass((eta - bound) * (1 - tail.level)), Excess(ONE, tail.form, above))
        return Row(scaled(parts, sign), strict, domain)

    if op in (">", ">="):
        # Some response must reach the bound: finitely many etas alone do not say so.
        reached = Row((TruthOf(-ONE, _event(tail, op, bound), True),), True, domain)
        return ((itself, reached, *(row(eta, eta, -ONE) for eta in etas)),)
    if for_proof and len(etas) > 1:
        # The quantile of the same level is never larger.
        within = compared((TruthOf(-ONE, _event(tail, op, bound), True), Mass(tail.level)), "<=", domain)
        return tuple((itself, row(low, high, ONE), *within[0]) for low, high in pairwise(etas))
    return tuple((itself, row(eta, eta, ONE)) for eta in etas)


def _event(tail: Tail, op: str, bound: Fraction) -> n.Formula:
    return n.Compare(operands=(tail.argument, _number(bound)), operators=(op,))  # type: ignore[arg-type]


def _number(value: Fraction) -> n.Expr:
    if is_finite_decimal(value):
        return n.Number(value=Decimal(decimal_text(value)))
    top, bottom = (n.Number(value=Decimal(part)) for part in value.as_integer_ratio())
    return n.Arithmetic(op="/", left=top, right=bottom)
