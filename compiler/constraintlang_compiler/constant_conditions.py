"""Conditions that name an attribute and are still decided before any score is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from constraintlang.checked import CheckedStatement
from constraintlang.diagnostics import Diagnostic
from constraintlang_compiler.attributes import bounds_in
from constraintlang_compiler.ir import (
    Choice,
    Combination,
    Indicator,
    Literally,
    Part,
    Predicate,
    Share,
    Statistic,
)
from constraintlang_compiler.lower import Lowered


def check_constant_conditions(statements: Sequence[CheckedStatement], lowered: Lowered) -> list[Diagnostic]:
    """PC226 for every statement with a condition that became ``true`` or ``false`` on the way to its clause."""
    found = []
    for clause, origins in zip(lowered.ir.clauses, lowered.origins, strict=True):
        if not any(isinstance(predicate, Literally) for predicate in _predicates(clause.statistic)):
            continue
        for statement in (statements[index] for index in origins):
            message = "a condition here is true or false whatever the scores are"
            help = "remove what decides it: `true`, `false`, or a comparison of two numbers"
            found.append(Diagnostic("PC226", "error", statement.formula.span, message, help=help))
    return found


def _predicates(statistic: Statistic) -> Iterator[Predicate]:
    """The conditions on a response whose chances a statistic is made of."""
    parts: list[Part] = []
    if isinstance(statistic, Indicator):
        yield statistic.predicate
    elif isinstance(statistic, Combination):
        parts.extend(statistic.parts)
    elif isinstance(statistic, Choice):
        parts.extend(part for bound in bounds_in(statistic.operands) for part in bound.parts)
    yield from (part.quantity.predicate for part in parts if isinstance(part.quantity, Share))
