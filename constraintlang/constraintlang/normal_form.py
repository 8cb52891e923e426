"""Formulas with every ``not`` pushed into the comparisons: the shape that margins and reasons are read from.

Law kept, unknown scores included (strong Kleene): the normal form is true, false or unknown exactly where the
formula is. Chains and intervals become the conjunction of their links. A formula that has no parts here (order
in time) stays whole, as an atom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from constraintlang import nodes as n
from constraintlang import trace_values
from constraintlang.semantics import (
    Law,
    Response,
    Scores,
    Truth,
    compare,
    evaluate,
    evaluate_distribution,
    kleene_and,
    kleene_not,
    kleene_or,
    number,
    statistic,
)
from constraintlang.source import Span

NEGATED: dict[str, n.Comparator] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
TURNED: dict[str, n.Comparator] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
"""The same with its sides exchanged."""


@dataclass(frozen=True)
class Link:
    """One comparison of two numbers."""

    left: n.Expr
    operator: n.Comparator
    right: n.Expr
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Whole:
    """A flag, or a formula that is not taken apart."""

    formula: n.Formula
    negated: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Junction:
    """``all`` or any of the parts; without parts it is true, or false."""

    all: bool
    parts: tuple[NormalForm, ...]


Atom = Link | Whole
NormalForm = Atom | Junction


@dataclass(frozen=True)
class Valuation:
    """What numbers and truth values are read from: the scores of one response, or a law of responses."""

    value: Callable[[n.Expr], Fraction | None]
    truth: Callable[[n.Formula], Truth]


def on_response(scores: Scores | Response) -> Valuation:
    """Numbers and truth values on one response; what `over` says of parts that are not given is unknown."""
    parts = scores.parts if isinstance(scores, Response) else {}

    def truth_of(formula: n.Formula) -> Truth:
        if isinstance(formula, n.Over):
            trace = parts.get(formula.level)
            if trace is None:
                return None
            return trace_values.holds(formula.operand, len(trace), lambda atom, i: evaluate(atom, trace[i]))
        if isinstance(formula, n.Not | n.And | n.Or | n.Implies):
            return truth(normal_form(formula), valuation)
        return evaluate(formula, scores)

    valuation = Valuation(lambda expr: number(expr, scores), truth_of)
    return valuation


def truth_on_response(formula: n.Formula, scores: Scores | Response) -> Truth:
    """``evaluate`` where something may be unknown of the parts of the response."""
    return truth(normal_form(formula), on_response(scores))


def on_law(law: Law) -> Valuation:
    """Statistics of a law, and truth values on the distribution."""
    return Valuation(lambda expr: statistic(expr, law), lambda formula: evaluate_distribution(formula, law))


def normal_form(formula: n.Formula, *, negated: bool = False) -> NormalForm:
    """The normal form of a formula, or of its negation; junctions of one kind are never nested."""
    if isinstance(formula, n.Truth):
        return Junction(formula.value != negated, ())
    if isinstance(formula, n.Not):
        return normal_form(formula.operand, negated=not negated)
    if isinstance(formula, n.And | n.Or):
        parts = [normal_form(operand, negated=negated) for operand in formula.operands]
        return _junction(isinstance(formula, n.And) != negated, parts)
    if isinstance(formula, n.Implies):
        parts = [normal_form(formula.left, negated=not negated), normal_form(formula.right, negated=negated)]
        return _junction(negated, parts)
    if isinstance(formula, n.Compare | n.InRange):
        return _junction(not negated, [_turned(link, negated) for link in links(formula)])
    return Whole(formula, negated, formula.span)


def links(formula: n.Compare | n.InRange) -> list[Link]:
    """The single comparisons whose conjunction a chain or an interval is."""
    if isinstance(formula, n.InRange):
        above = Link(formula.operand, ">=", formula.low, formula.operand.span.to(formula.low.span))
        return [above, Link(formula.operand, "<=", formula.high, formula.span)]
    pairs = zip(formula.operands, formula.operators, formula.operands[1:], strict=False)
    whole = formula.span if len(formula.operators) == 1 else None
    return [Link(left, op, right, whole or left.span.to(right.span)) for left, op, right in pairs]


def atoms(form: NormalForm) -> Iterator[Atom]:
    """The atoms of a normal form, in the order of the text."""
    if isinstance(form, Junction):
        for part in form.parts:
            yield from atoms(part)
    else:
        yield form


def truth(form: NormalForm, valuation: Valuation) -> Truth:
    """Whether a normal form is true, false or unknown (None)."""
    if isinstance(form, Link):
        return compare(valuation.value(form.left), form.operator, valuation.value(form.right))
    if isinstance(form, Whole):
        value = valuation.truth(form.formula)
        return kleene_not(value) if form.negated else value
    values = [truth(part, valuation) for part in form.parts]
    return kleene_and(values) if form.all else kleene_or(values)


def _junction(all: bool, parts: Sequence[NormalForm]) -> NormalForm:
    flat: list[NormalForm] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Junction) and part.all == all else [part])
    # A part that is constant decides, or says nothing.
    if any(isinstance(part, Junction) and not part.parts for part in flat):
        return Junction(not all, ())
    return flat[0] if len(flat) == 1 else Junction(all, tuple(flat))


def _turned(link: Link, negated: bool) -> Link:
    return Link(link.left, NEGATED[link.operator], link.right, link.span) if negated else link
