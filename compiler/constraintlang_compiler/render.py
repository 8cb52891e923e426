"""Terms and predicates of the IR as policy text; parsing and lowering the text gives the same IR back."""

from __future__ import annotations

from fractions import Fraction

from msgspec.structs import replace

from constraintlang_compiler.decimals import MAX_DIGITS, decimal_text
from constraintlang_compiler.ir import (
    All,
    Any,
    AttributeRef,
    Comparison,
    Const,
    FlagRef,
    Literally,
    Over,
    Predicate,
    Product,
    Quotient,
    Shown,
    Sum,
    Term,
    Value,
)
from constraintlang_compiler.lower_terms import add, conjunction, const, disjunction, negate_term
from constraintlang_compiler.operators import NEGATED, SIGN_OF
from constraintlang_compiler.render_traces import over_text


def term_text(term: Term) -> str:
    """A term as policy text.

    >>> term_text(Sum(terms=(AttributeRef(name="a"), Const(value="-0.1"))))
    'a - 0.1'
    """
    match term:
        case Const(value=value):
            return value
        case AttributeRef(name=name, model=model):
            return name if model == "self" else f"{name}@base"
        case Sum(terms=terms):
            # Written with the constant last, as people do; the canonical order is restored by lowering.
            ordered = sorted(terms, key=lambda part: isinstance(part, Const))
            text = _factor(ordered[0])
            for part in ordered[1:]:
                sign, shown = _signed(part)
                text += f" {sign} {shown}"
            return text
        case Product(terms=terms):
            ordered = sorted(terms, key=lambda part: not isinstance(part, Const))
            if ordered[0] == Const(value="-1"):
                return "-" + " * ".join(_atom(part) for part in ordered[1:])
            return " * ".join(_atom(part) for part in ordered)
        case Quotient(numerator=numerator, denominator=denominator):
            return f"{_atom(numerator)} / {_atom(denominator)}"


def _signed(term: Term) -> tuple[str, str]:
    if isinstance(term, Const) and term.value.startswith("-"):
        return "-", term.value[1:]
    if isinstance(term, Product) and any(
        isinstance(p, Const) and p.value.startswith("-") for p in term.terms
    ):
        return "-", _factor(negate_term(term))
    return "+", _factor(term)


def _factor(term: Term) -> str:
    return f"({term_text(term)})" if isinstance(term, Sum) else term_text(term)


def _atom(term: Term) -> str:
    return term_text(term) if isinstance(term, (Const, AttributeRef)) else f"({term_text(term)})"


def predicate_text(predicate: Predicate) -> str:
    """A predicate as policy text.

    >>> predicate_text(FlagRef(name="slur", negated=True))
    'not slur'
    """
    match predicate:
        case Literally(value=value):
            return "true" if value else "false"
        case FlagRef(name=name, negated=negated, model=model):
            shown = name if model == "self" else f"{name}@base"
            return f"not {shown}" if negated else shown
        case Comparison(op=op, left=left, right=right):
            return f"{term_text(left)} {SIGN_OF[op]} {term_text(right)}"
        case All(operands=operands):
            return " and ".join(_operand(part) for part in operands)
        case Any(operands=operands):
            return " or ".join(_operand(part) for part in operands)
        case Over():
            return over_text(predicate, predicate_text)


def _operand(predicate: Predicate) -> str:
    text = predicate_text(predicate)
    return f"({text})" if isinstance(predicate, (All, Any)) else text


def negation(predicate: Predicate) -> Predicate:
    """The canonical predicate that is true where this one is false, and unknown where it is unknown."""
    match predicate:
        case Literally(value=value):
            return Literally(value=not value)
        case FlagRef(negated=negated):
            return replace(predicate, negated=not negated)
        case Comparison(op=op, left=left, right=right):
            return Comparison(op=NEGATED[op], left=left, right=right)
        case All(operands=operands):
            return disjunction(negation(part) for part in operands)
        case Any(operands=operands):
            return conjunction(negation(part) for part in operands)
        case Over(level=level, formula=formula, empty=empty):
            from constraintlang_compiler.lower_traces import negated_trace, over_record

            return over_record(level, negated_trace(formula), not empty)


def written_term(value: Value, shown: Shown) -> Term:
    """The term whose mean the user wrote, from the statistic ``f``: ``offset + scale * f``."""
    parts = value.term.terms if isinstance(value.term, Sum) else (value.term,)
    moved = parts if shown.scale == 1 else tuple(negate_term(part) for part in parts)
    return add([const(Fraction(shown.offset)), *moved])


def number_text(value: Fraction, *, percent: bool) -> str:
    """A number for people: as a percentage where it is a share."""
    room = 2 * MAX_DIGITS  # a difference or a percentage has more digits than the numbers of the IR
    return (
        f"{decimal_text(value * 100, max_digits=room)}%" if percent else decimal_text(value, max_digits=room)
    )
