"""Domain predicates of a policy become canonical predicates over the string tags of a row."""

from __future__ import annotations

from collections.abc import Iterable

from constraintlang import nodes
from constraintlang.printer import plain_text
from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.ir import DomainAll, DomainAny, DomainIs, DomainNot, DomainPredicate


def lower_domain(predicate: nodes.DomainPredicate) -> DomainPredicate:
    """The canonical form: ``and``/``or`` flattened, sorted, without repetition; double negation removed."""
    match predicate:
        case nodes.DomainEquals(key=key, value=value):
            return DomainIs(key=key, values=(plain_text(value),))
        case nodes.DomainIn(key=key, values=values):
            return DomainIs(key=key, values=tuple(sorted({plain_text(value) for value in values})))
        case nodes.DomainNot(operand=operand):
            inner = lower_domain(operand)
            return inner.operand if isinstance(inner, DomainNot) else DomainNot(operand=inner)
        case nodes.DomainAnd(operands=operands):
            return both(lower_domain(part) for part in operands)
        case nodes.DomainOr(operands=operands):
            return _junction((lower_domain(part) for part in operands), DomainAny)


def both(parts: Iterable[DomainPredicate]) -> DomainPredicate:
    """The conjunction of one or more domain predicates."""
    return _junction(parts, DomainAll)


def _junction(parts: Iterable[DomainPredicate], kind: type[DomainAll] | type[DomainAny]) -> DomainPredicate:
    found: dict[bytes, DomainPredicate] = {}
    for part in parts:
        for leaf in part.operands if isinstance(part, kind) else (part,):
            found[sort_key(leaf)] = leaf
    ordered = tuple(found[key] for key in sorted(found))
    return ordered[0] if len(ordered) == 1 else kind(operands=ordered)
