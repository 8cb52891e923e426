"""Which attributes, of which model, a clause reads; nothing here computes scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from constraintlang_compiler.ir import (
    All,
    Any,
    AttributeRef,
    Bound,
    Choice,
    Clause,
    Combination,
    Comparison,
    Condition,
    FlagRef,
    Hinge,
    Indicator,
    Over,
    Part,
    Predicate,
    Product,
    Quotient,
    Share,
    Sum,
    Term,
    Value,
)
from constraintlang_compiler.ir_monitors import (
    Both,
    Either,
    Eventually,
    Globally,
    Level,
    Now,
    Release,
    TraceFormula,
    Until,
)


def score_key(reference: AttributeRef | FlagRef) -> str:
    """The name under which the scores of an attribute are passed: ``toxicity``, or ``toxicity@base``."""
    return reference.name if reference.model == "self" else f"{reference.name}@base"


def attributes_needed(clauses: Iterable[Clause]) -> tuple[str, ...]:
    """The score keys that the clauses read on whole responses, sorted; utility clauses read none.

    What is read on the base model's own responses has the plain name: those are scored like the model's own.
    """
    keys: set[str] = set()
    for clause in clauses:
        match clause.statistic:
            case Indicator(predicate=predicate):
                _of_predicate(predicate, keys)
            case Value(term=term) | Hinge(term=term):
                _of_term(term, keys)
            case Combination(parts=parts):
                _of_parts(parts, keys)
            case Choice(operands=operands):
                for bound in bounds_in(operands):
                    _of_parts(bound.parts, keys)
    return tuple(sorted(keys))


def predicates_of(clause: Clause) -> Iterator[Predicate]:
    """The predicates on one response that a clause is made of."""
    parts: Iterable[Part] = ()
    match clause.statistic:
        case Indicator(predicate=predicate):
            yield predicate
        case Combination(parts=parts):
            pass
        case Choice(operands=operands):
            parts = [part for bound in bounds_in(operands) for part in bound.parts]
    for part in parts:
        if isinstance(part.quantity, Share):
            yield part.quantity.predicate


def parts_needed(clauses: Iterable[Clause]) -> dict[Level, tuple[str, ...]]:
    """The levels that ``over`` speaks of, and the score keys that are read on the parts of each, sorted."""
    keys: dict[Level, set[str]] = {}
    for over in overs_of(predicate for clause in clauses for predicate in predicates_of(clause)):
        found = keys.setdefault(over.level, set())
        for predicate in parts_predicates(over.formula):
            _of_predicate(predicate, found)
    return {level: tuple(sorted(found)) for level, found in sorted(keys.items())}


def overs_of(predicates: Iterable[Predicate]) -> Iterator[Over]:
    """Every ``over`` in some predicates."""
    for predicate in predicates:
        if isinstance(predicate, Over):
            yield predicate
        elif isinstance(predicate, (All, Any)):
            yield from overs_of(predicate.operands)


def reads_first_part(formula: TraceFormula) -> bool:
    """Whether a condition stands outside every word of order, where it is about the first part alone."""
    match formula:
        case Both(operands=operands) | Either(operands=operands):
            return any(map(reads_first_part, operands))
        case _:
            return isinstance(formula, Now)


def parts_predicates(formula: TraceFormula) -> Iterator[Comparison | FlagRef]:
    """Every predicate of a trace formula."""
    stack = [formula]
    while stack:
        match stack.pop():
            case Now(predicate=predicate):
                yield predicate
            case Both(operands=operands) | Either(operands=operands):
                stack.extend(operands)
            case Eventually(operand=operand) | Globally(operand=operand):
                stack.append(operand)
            case Until(left=left, right=right) | Release(left=left, right=right):
                stack.extend((left, right))


def bounds_in(conditions: Iterable[Condition]) -> Iterator[Bound]:
    """The bounds that conditions are made of, in order."""
    for condition in conditions:
        if isinstance(condition, Bound):
            yield condition
        else:
            yield from bounds_in(condition.operands)


def keys_of(predicate: Predicate) -> tuple[str, ...]:
    """The score keys that a predicate reads, sorted."""
    keys: set[str] = set()
    _of_predicate(predicate, keys)
    return tuple(sorted(keys))


def _of_parts(parts: Iterable[Part], keys: set[str]) -> None:
    for part in parts:
        if isinstance(part.quantity, Share):
            _of_predicate(part.quantity.predicate, keys)
        else:
            _of_term(part.quantity.term, keys)


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
        case FlagRef():
            keys.add(score_key(predicate))
        case Comparison(left=left, right=right):
            _of_term(left, keys)
            _of_term(right, keys)
        case All(operands=operands) | Any(operands=operands):
            for operand in operands:
                _of_predicate(operand, keys)
