"""Where the stages of the checker leave their findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import replacing
from constraintlang.layout import MAX_ERRORS
from constraintlang.limits import too_many_errors
from constraintlang.source import SourceFile, Span
from constraintlang.suggestions import closest
from constraintlang.wording import OTHER_NAMES


@dataclass
class Report:
    """The findings so far; ``source`` is what fixes look at where a node does not say enough."""

    diagnostics: list[Diagnostic] = field(default_factory=list)
    source: SourceFile = field(default_factory=lambda: SourceFile(""))
    num_errors: int = 0
    """Errors given to ``error``; from a limit on they are counted only."""

    def error(self, code: str, span: Span, message: str, help: str, **rest: Any) -> None:
        """Add an error; every error says what to write instead."""
        self.num_errors += 1
        if self.num_errors <= MAX_ERRORS:
            self.diagnostics.append(Diagnostic(code, "error", span, message, help=help, **rest))
        elif self.num_errors == MAX_ERRORS + 1:
            self.diagnostics.append(too_many_errors(span))

    @property
    def is_full(self) -> bool:
        """Whether there are so many errors that checking ends."""
        return self.num_errors > MAX_ERRORS

    def warning(self, code: str, span: Span, message: str, help: str, **rest: Any) -> None:
        """Add a warning."""
        self.diagnostics.append(Diagnostic(code, "warning", span, message, help=help, **rest))

    def note(self, code: str, span: Span, message: str, help: str | None = None, **rest: Any) -> None:
        """Add a note."""
        self.diagnostics.append(Diagnostic(code, "note", span, message, help=help, **rest))

    def unknown_word(
        self,
        span: Span,
        what: str,
        name: str,
        known: Iterable[str],
        code: str = "PC115",
        *,
        beside: bool = False,
    ) -> None:
        """Add the error for a word that is not in a closed list.

        ``beside``: the span is not that of the word itself, so no edit can be offered.
        """
        known = list(known)
        near = OTHER_NAMES.get(name, OTHER_NAMES.get(name.lower()))
        near = near if near in known else closest(name, known)
        choices = ", ".join(f"`{k}`" for k in known)
        help = f"write `{near}`" if near else f"known are {choices}"
        alike = near is not None and closest(name, [near]) is not None
        label = f"a similar one exists: `{near}`" if alike else None
        fix = replacing(span, near) if near and not beside else None
        self.error(code, span, f"no {what} is called `{name}`", help, label=label, fix=fix)
