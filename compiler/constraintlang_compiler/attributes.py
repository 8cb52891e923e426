"""Which attributes, of which model, a clause reads; nothing here computes scores."""

from __future__ import annotations

from collections.abc import Iterable

from constraintlang_compiler.ir import (
    All,
    Any,
    AttributeRef,
    Clause,
    Comparison,
    FlagRef,
    Indicator,
    Predicate,
    Product,
    Quotient,
    Sum,
    Term,
    Value,
)


def score_key(reference: AttributeRef) -> str:
    """The name under which the scores of an attribute are passed: ``toxicity``, or ``toxicity@base``."""
    return reference.name if reference.model == "self" else f"{reference.name}@base"


def attributes_needed(clauses: Iterable[Clause]) -> tuple[str, ...]:
    """The score keys that the sample clauses read, sorted; utility clauses read none."""
    keys: set[str] = set()
    for clause in clauses:
        if isinstance(clause.statistic, Indicator):
            _of_predicate(clause.statistic.predicate, keys)
        elif isinstance(clause.statistic, Value):
            _of_term(clause.statistic.term, keys)
    return tuple(sorted(keys))


def keys_of(predicate: Predicate) -> tuple[str, ...]:
    """The score keys that a predicate reads, sorted."""
    keys: set[str] = set()
    _of_predicate(predicate, keys)
    return tuple(sorted(keys))


def _of_term(term: Term, keys: set[str]) -> None:
    match term:
        case AttributeRef():
            keys.add(score_key(term))
        case Sum(terms=terms) | Product(terms=terms):
            for part in terms:
                _of_term(part, keys)
        case Quotient(numerator=numerator, denominator=denominator):
            _of_term(numerator, keys)
            _of_term(denominator, keys)


def _of_predicate(predicate: Predicate, keys: set[str]) -> None:
    match predicate:
        case FlagRef(name=name):
            keys.add(name)
        case Comparison(left=left, right=right):
            _of_term(left, keys)
            _of_term(right, keys)
        case All(operands=operands) | Any(operands=operands):
            for operand in operands:
                _of_predicate(operand, keys)
