"""Expressions and formulas over one response become canonical terms and predicates in negation normal form.

Laws kept, for every assignment of scores, unknown scores included (strong Kleene):
``not`` moves to the atoms by De Morgan and by turning the comparator (``not a < b`` is ``a >= b``; an unknown
side leaves both unknown); ``p implies q`` is ``not p or q``; a chain is the conjunction of its links; nested
sums, products, conjunctions and disjunctions are flattened, constants folded, operands that commute sorted by
their canonical JSON. What is *not* folded, because an unknown score must stay unknown: ``0 * x``, ``x - x``,
``x < x``, ``p or not p``.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from constraintlang import nodes
from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.decimals import decimal_text, is_finite_decimal
from constraintlang_compiler.ir import (
    All,
    Any,
    AttributeRef,
    Comparison,
    Const,
    FlagRef,
    Literally,
    Op,
    Predicate,
    Product,
    Quotient,
    Sum,
    Term,
)
from constraintlang_compiler.operators import HOLDS, MIRRORED, NEGATED, OP_OF
from constraintlang_compiler.rejection import Rejection


# ------------------------------------------------------------------ terms
def const(value: Decimal | Fraction | int) -> Const:
    """A constant in canonical notation."""
    return Const(value=decimal_text(value))


def add(terms: Iterable[Term]) -> Term:
    """The canonical sum: flattened, constants gathered into one, sorted; a single operand is itself."""
    constant = Fraction(0)
    rest: list[Term] = []
    for term in terms:
        for part in term.terms if isinstance(term, Sum) else (term,):
            if isinstance(part, Const):
                constant += Fraction(part.value)
            else:
                rest.append(part)
    if constant != 0 or not rest:
        rest.append(const(constant))
    return rest[0] if len(rest) == 1 else Sum(terms=tuple(sorted(rest, key=sort_key)))


def multiply(terms: Iterable[Term]) -> Term:
    """The canonical product: flattened, constants gathered into one, sorted; a single operand is itself."""
    constant = Fraction(1)
    rest: list[Term] = []
    for term in terms:
        for part in term.terms if isinstance(term, Product) else (term,):
            if isinstance(part, Const):
                constant *= Fraction(part.value)
            else:
                rest.append(part)
    if constant != 1 or not rest:
        rest.append(const(constant))
    return rest[0] if len(rest) == 1 else Product(terms=tuple(sorted(rest, key=sort_key)))


def divide(numerator: Term, denominator: Term) -> Term:
    """``numerator / denominator``; a constant denominator with a finite reciprocal becomes a factor."""
    if isinstance(denominator, Const) and Fraction(denominator.value) != 0:
        divisor = Fraction(denominator.value)
        if isinstance(numerator, Const) and is_finite_decimal(Fraction(numerator.value) / divisor):
            return const(Fraction(numerator.value) / divisor)
        if is_finite_decimal(1 / divisor):
            return multiply([numerator, const(1 / divisor)])
    return Quotient(numerator=numerator, denominator=denominator)


def negate_term(term: Term) -> Term:
    """``-term``; the sign goes to the summands, so that ``-(a - b)`` is ``b - a``."""
    if isinstance(term, Sum):
        return add(negate_term(part) for part in term.terms)
    return multiply([const(-1), term])


def lower_term(expr: nodes.Expr) -> Term:
    """An expression over one response as a canonical term.

    Raises: Rejection for a bare ``base``, which the checker writes out, and for a statistic inside a term.
    """
    match expr:
        case nodes.Number(value=value):
            return const(value)
        case nodes.Name(parts=("base",), model=None):
            raise Rejection(
                "PC120",
                "`base` has no left side to repeat",
                help="write the attribute with its model, as in `1.5 * reference_perplexity@base`",
                span=expr.span,
            )
        case nodes.Name(parts=parts, model=model):
            return AttributeRef(name=".".join(parts), model="base" if model == "base" else "self")
        case nodes.Negate(operand=operand):
            return negate_term(lower_term(operand))
        case nodes.Arithmetic(op=op, left=left_expr, right=right_expr):
            left = lower_term(left_expr)
            right = lower_term(right_expr)
            if op == "+":
                return add([left, right])
            if op == "-":
                return add([left, negate_term(right)])
            return multiply([left, right]) if op == "*" else divide(left, right)
        case nodes.Apply(function=function):
            raise Rejection(
                "PC120",
                f"`{function}` cannot stand inside an expression over one response",
                help="compare the statistic with a number in a statement of its own",
                span=expr.span,
            )


# ------------------------------------------------------------------ predicates
def conjunction(operands: Iterable[Predicate]) -> Predicate:
    """The canonical strong Kleene ``and``; empty is true."""
    return _junction(operands, neutral=True)


def disjunction(operands: Iterable[Predicate]) -> Predicate:
    """The canonical strong Kleene ``or``; empty is false."""
    return _junction(operands, neutral=False)


def _junction(operands: Iterable[Predicate], *, neutral: bool) -> Predicate:
    parts: dict[bytes, Predicate] = {}
    for operand in operands:
        flat: tuple[Predicate, ...] = (operand,)
        if isinstance(operand, All if neutral else Any):
            flat = operand.operands
        for part in flat:
            if isinstance(part, Literally):
                if part.value != neutral:  # `p and false` is false also when p is unknown
                    return part
            else:
                parts[sort_key(part)] = part
    ordered = tuple(parts[key] for key in sorted(parts))
    if len(ordered) == 1:
        return ordered[0]
    if not ordered:
        return Literally(value=neutral)
    return All(operands=ordered) if neutral else Any(operands=ordered)


def comparison(op: Op, left: Term, right: Term) -> Predicate:
    """A canonical comparison: folded when both sides are constant, else constant right or sides sorted."""
    if isinstance(left, Const) and isinstance(right, Const):
        return Literally(value=HOLDS[op](Fraction(left.value), Fraction(right.value)))
    left_key, right_key = sort_key(left), sort_key(right)
    swap = isinstance(left, Const) or (not isinstance(right, Const) and right_key < left_key)
    # `x < x` and `x > x` are the same comparison of two equal sides, and no order of sides tells them apart.
    if swap or (left_key == right_key and op in ("gt", "ge")):
        return Comparison(op=MIRRORED[op], left=right, right=left)
    return Comparison(op=op, left=left, right=right)


def lower_predicate(formula: nodes.Formula, *, negated: bool = False) -> Predicate:
    """The formula, or its negation, as a canonical predicate in negation normal form.

    Raises: Rejection (PC120) for temporal operators, which this compiler does not lower.
    """
    match formula:
        case nodes.Truth(value=value):
            return Literally(value=value != negated)
        case nodes.Flag(name=name):
            return _flag(name, negated)
        case nodes.Compare(operands=operands, operators=operators):
            links = []
            for left, operator, right in zip(operands, operators, operands[1:], strict=False):
                op = NEGATED[OP_OF[operator]] if negated else OP_OF[operator]
                links.append(comparison(op, lower_term(left), lower_term(right)))
            return disjunction(links) if negated else conjunction(links)
        case nodes.InRange(operand=operand, low=low, high=high):
            chain = nodes.Compare(operands=(low, operand, high), operators=("<=", "<="), span=formula.span)
            return lower_predicate(chain, negated=negated)
        case nodes.Not(operand=inner):
            return lower_predicate(inner, negated=not negated)
        case nodes.And(operands=parts) | nodes.Or(operands=parts):
            lowered = [lower_predicate(part, negated=negated) for part in parts]
            return conjunction(lowered) if isinstance(formula, nodes.And) != negated else disjunction(lowered)
        case nodes.Implies(left=premise, right=conclusion):
            sides = [
                lower_predicate(premise, negated=not negated),
                lower_predicate(conclusion, negated=negated),
            ]
            return conjunction(sides) if negated else disjunction(sides)
        case nodes.Temporal() | nodes.TemporalBinary() | nodes.Over() | nodes.Last():
            raise Rejection(
                "PC120",
                "order and time inside a response are not compiled in this version",
                help="state the property of the whole response as an attribute, for example by a regex",
                span=formula.span,
            )


def _flag(name: nodes.Name, negated: bool) -> Predicate:
    model: Literal["self", "base"] = "base" if name.model == "base" else "self"
    return FlagRef(name=".".join(name.parts), negated=negated, model=model)
