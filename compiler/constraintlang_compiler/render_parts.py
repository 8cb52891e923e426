"""Quantities of a law, sums of them and conditions on them as policy text."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from msgspec.structs import replace

from constraintlang_compiler.domains import describe
from constraintlang_compiler.ir import (
    All,
    AllOf,
    Any,
    AttributeRef,
    Bound,
    Comparison,
    Condition,
    Const,
    FlagRef,
    Literally,
    Over,
    Part,
    Predicate,
    Quotient,
    Share,
    Term,
)
from constraintlang_compiler.ir_monitors import (
    Both,
    Either,
    Eventually,
    Globally,
    Now,
    Release,
    TraceFormula,
    Until,
)
from constraintlang_compiler.operators import bound_sign
from constraintlang_compiler.render import number_text, predicate_text, term_text


def quantity_text(part: Part) -> str:
    """The quantity of a part, without its factor.

    >>> quantity_text(Part(factor="1", quantity=Share(predicate=FlagRef(name="slur")), model="base"))
    'P(slur@base)'
    """
    quantity = part.quantity
    given = "" if part.given is None else f" | {describe(part.given)}"
    if isinstance(quantity, Share):
        predicate = quantity.predicate if part.model == "self" else _predicate_on_base(quantity.predicate)
        return f"P({predicate_text(predicate)}{given})"
    term = quantity.term if part.model == "self" else _term_on_base(quantity.term)
    level = "" if quantity.level is None else f", {quantity.level}"
    return f"{quantity.function}({term_text(term)}{level}{given})"


def comparison_text(parts: Sequence[Part], bound: str, *, strict: bool) -> str:
    """``sum of parts <= bound`` with every part on the side where its factor is positive."""
    left, right, number, at_least = sides_of(parts, Fraction(bound))
    return f"{_sum(left, Fraction(0))} {bound_sign(at_least=at_least, strict=strict)} {_sum(right, number)}"


def sides_of(parts: Sequence[Part], bound: Fraction) -> tuple[list[Part], list[Part], Fraction, bool]:
    """``sum of parts <= bound`` without negative factors: what is compared, with which parts and number, and whether
    it is to be at least that.
    """
    plus = [part for part in parts if not part.factor.startswith("-")]
    minus = [replace(part, factor=part.factor[1:]) for part in parts if part.factor.startswith("-")]
    return (plus, minus, bound, False) if plus else (minus, [], -bound, True)


def condition_text(condition: Condition) -> str:
    """A condition as policy text; the operands of ``and`` and ``or`` that need brackets have them."""
    if isinstance(condition, Bound):
        return comparison_text(condition.parts, condition.bound, strict=condition.strict)
    word = " and " if isinstance(condition, AllOf) else " or "
    return word.join(
        condition_text(operand) if isinstance(operand, Bound) else f"({condition_text(operand)})"
        for operand in condition.operands
    )


def _sum(parts: Sequence[Part], number: Fraction) -> str:
    texts = [
        quantity_text(part) if part.factor == "1" else f"{part.factor} * {quantity_text(part)}"
        for part in parts
    ]
    if not texts:
        return number_text(number, percent=False)
    text = " + ".join(texts)
    if not number:
        return text
    return f"{text} {'-' if number < 0 else '+'} {number_text(abs(number), percent=False)}"


def _term_on_base(term: Term) -> Term:
    match term:
        case Const():
            return term
        case AttributeRef():
            return replace(term, model="base")
        case Quotient(numerator=numerator, denominator=denominator):
            return Quotient(numerator=_term_on_base(numerator), denominator=_term_on_base(denominator))
        case _:
            return replace(term, terms=tuple(_term_on_base(part) for part in term.terms))


def _predicate_on_base(predicate: Predicate) -> Predicate:
    match predicate:
        case Literally():
            return predicate
        case FlagRef():
            return replace(predicate, model="base")
        case Comparison(left=left, right=right):
            return replace(predicate, left=_term_on_base(left), right=_term_on_base(right))
        case All(operands=operands) | Any(operands=operands):
            return replace(predicate, operands=tuple(_predicate_on_base(part) for part in operands))
        case Over(formula=formula):
            return replace(predicate, formula=_trace_on_base(formula))


def _trace_on_base(formula: TraceFormula) -> TraceFormula:
    match formula:
        case Literally():
            return formula
        case Now(predicate=predicate):
            read = _predicate_on_base(predicate)
            assert isinstance(read, Comparison | FlagRef)
            return replace(formula, predicate=read)
        case Both(operands=operands) | Either(operands=operands):
            return replace(formula, operands=tuple(_trace_on_base(part) for part in operands))
        case Eventually(operand=operand) | Globally(operand=operand):
            return replace(formula, operand=_trace_on_base(operand))
        case Until(left=left, right=right) | Release(left=left, right=right):
            return replace(formula, left=_trace_on_base(left), right=_trace_on_base(right))
