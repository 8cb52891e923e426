"""How much a statement counts beside what it says: strength, priority, confidence; and what it measures."""

from __future__ import annotations

from collections.abc import Sequence

from constraintlang import nodes as n
from constraintlang.checked import CheckedStatement
from constraintlang.constants import fold
from constraintlang.printer import format_formula
from constraintlang_compiler.analysis.requirements import Requirement


def is_as_strong(first: CheckedStatement, second: CheckedStatement) -> bool:
    """Whether nothing is lost when the first statement stands for the second."""
    return (
        (first.strength != "prefer" or (second.strength == "prefer" and first.weight >= second.weight))
        and first.priority <= second.priority
        and first.confidence >= second.confidence
    )


def loser_first(subjects: Sequence[Requirement]) -> list[Requirement]:
    """The statement that gives way first: a preference, then the highest priority number, then the last."""
    return sorted(
        subjects,
        key=lambda r: (r.statement.strength != "prefer", -r.statement.priority, -r.index),
    )


def quantity_text(statement: CheckedStatement) -> str | None:
    """The number that a statement bounds, as policy text; None when it bounds several."""
    formula = statement.formula
    if statement.reading == "pointwise":
        return (
            f"P(not ({format_formula(formula)}))"
            if not _is_simple(formula)
            else f"P(not {format_formula(formula)})"
        )
    if isinstance(formula, n.InRange):
        return format_formula(formula.operand)
    if isinstance(formula, n.Compare):
        measured = [operand for operand in formula.operands if fold(operand, {}) is None]
        if len(measured) == 1:
            return format_formula(measured[0])
    return None


def _is_simple(formula: n.Formula) -> bool:
    return isinstance(formula, n.Flag | n.Truth | n.Compare | n.InRange)
