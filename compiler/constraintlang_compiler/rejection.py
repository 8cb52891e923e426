"""How a lowering step says that a statement has no clause; ``lower`` turns it into a diagnostic."""

from __future__ import annotations

from constraintlang.source import Span


class Rejection(Exception):
    """A well-typed statement that this compiler cannot turn into clauses, with the place and the way out."""

    def __init__(self, code: str, message: str, *, help: str, span: Span) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help
        self.span = span
