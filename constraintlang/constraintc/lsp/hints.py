"""The reading of each statement, shown behind its condition."""

from __future__ import annotations

from dataclasses import dataclass

from constraintc.lsp.document import Document
from constraintlang.checked import CheckedStatement
from constraintlang.printer import format_number
from constraintlang.source import Span


@dataclass(frozen=True)
class Hint:
    """A text to show at an offset, though it is not in the file."""

    offset: int
    text: str


def hints(document: Document, within: Span) -> list[Hint]:
    """The hints of the statements that touch a part of the file; a statement with errors has none."""
    found = []
    for statement in document.statements:
        checked = document.checked.get(statement.span)
        touches = statement.span.start <= within.end and within.start <= statement.span.end
        if checked is not None and touches:
            found.append(Hint(document.condition(statement).end, reading_words(checked)))
    return found


def reading_words(checked: CheckedStatement) -> str:
    """The reading of a statement, with its tolerance, in two or three words."""
    if checked.reading == "rows":
        return "on your rows"
    if checked.reading == "distribution":
        return "distribution"
    assert checked.tolerance is not None
    shown = format_number(checked.tolerance, percent=True)
    return f"pointwise, tolerance {shown}" if checked.tolerance else "pointwise, no exception"
