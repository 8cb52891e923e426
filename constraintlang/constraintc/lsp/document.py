"""One open file: its text, what was found in it, and what its statements mean."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from constraintc.lsp.occurrences import Occurrence, occurrences
from constraintlang import nodes as n
from constraintlang.checked import CheckedStatement
from constraintlang.checker import CheckResult
from constraintlang.declarations import Declarations, walk
from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.memory import Memory
from constraintlang.parser import parse_detailed, tokens_of
from constraintlang.source import SourceFile, Span
from constraintlang_compiler.explain import Explanation, explain_clause
from constraintlang_compiler.front import Findings, findings, lower_alone

_TRIVIA = ("_NL", "COMMENT")


class Document:
    """A text at one moment; everything is worked out when it is first asked for, and then kept.

    ``changed`` gives the document of the next moment, which keeps the memory of this one. ``folder`` is where the
    files that it imports lie.
    """

    def __init__(
        self,
        text: str,
        name: str = "<policy>",
        memory: Memory | None = None,
        folder: Path | None = None,
    ) -> None:
        self.text = text
        self.name = name
        self.folder = folder
        self.memory = Memory() if memory is None else memory

    def changed(self, text: str) -> Document:
        """The same file with another text."""
        return Document(text, self.name, self.memory, self.folder)

    # ------------------------------------------------------------ what was found
    @cached_property
    def source(self) -> SourceFile:
        """The text as messages speak of it."""
        return SourceFile(self.text, self.name, self.folder)

    @cached_property
    def findings(self) -> Findings:
        """What ``constraintc check`` finds."""
        return findings(self.source, self.memory)

    @property
    def result(self) -> CheckResult:
        """What the checker made of the text."""
        return self.findings.result

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The findings, sorted by place."""
        return self.findings.diagnostics

    @property
    def tree(self) -> n.Policy:
        """The items that parse."""
        return self.result.tree

    @property
    def declarations(self) -> Declarations:
        """The names that are declared, in the file or in the prelude."""
        return self.result.declarations

    @cached_property
    def syntax_errors(self) -> tuple[Diagnostic, ...]:
        """The errors because of which a part of the text is not in the tree."""
        parsed = parse_detailed(self.source, self.memory)
        return tuple(diagnostic for diagnostic in parsed.diagnostics if diagnostic.is_error)

    # ------------------------------------------------------------ words
    @cached_property
    def tokens(self) -> list[Any]:
        """All tokens with comments and newlines, in order."""
        return tokens_of(self.text, self.memory)

    @cached_property
    def occurrences(self) -> list[Occurrence]:
        """The names in the tree, in order."""
        return occurrences(self.tree, self.declarations, self.tokens)

    def token_at(self, offset: int) -> Any | None:
        """The token under an offset, or the one that ends there."""
        index = bisect_right(self.tokens, offset, key=lambda token: token.start_pos) - 1
        token = self.tokens[index] if index >= 0 else None
        if token is not None and token.start_pos == offset and token.type != "NAME" and index > 0:
            before = self.tokens[index - 1]
            token = before if before.end_pos == offset and before.type == "NAME" else token
        return token if token is not None and token.end_pos >= offset else None

    def occurrence_at(self, offset: int) -> Occurrence | None:
        """The name under an offset, or the one that ends there."""
        index = bisect_right(self.occurrences, offset, key=lambda found: found.span.start) - 1
        for found in self.occurrences[max(index, 0) : max(index, 0) + 1]:
            if found.span.start <= offset <= found.span.end:
                return found
        return None

    # ------------------------------------------------------------ statements
    @cached_property
    def statements(self) -> list[n.Statement]:
        """Every statement in order, those in groups too."""
        return [item for item, _ in walk(self.tree.items) if isinstance(item, n.Statement)]

    @cached_property
    def checked(self) -> dict[Span, CheckedStatement]:
        """The statements without errors, by where they stand."""
        return {statement.span: statement for statement in self.result.statements if statement.span}

    def statement_at(self, offset: int) -> n.Statement | None:
        """The statement around an offset."""
        return next((s for s in self.statements if s.span.start <= offset <= s.span.end), None)

    def condition(self, statement: n.Statement) -> Span:
        """The place of a statement's condition with the brackets around it, which belong to no node."""
        span = statement.formula.span
        first = bisect_left(self.tokens, span.start, key=lambda token: token.start_pos)
        last = bisect_left(self.tokens, span.end, key=lambda token: token.start_pos)
        start, end = span.start, span.end
        for token in reversed(self.tokens[:first]):
            if token.type not in ("LPAR", *_TRIVIA):
                break
            start = token.start_pos if token.type == "LPAR" else start
        for token in self.tokens[last:]:
            if token.type not in ("RPAR", *_TRIVIA):
                break
            end = token.end_pos if token.type == "RPAR" else end
        return Span(start, end)

    def explanations(self, statement: n.Statement) -> list[Explanation]:
        """What a statement demands, clause by clause; nothing when it has errors."""
        checked = self.checked.get(statement.span)
        if checked is None:
            return []
        try:
            clauses = lower_alone(replace(checked, label=statement.label), self.result).ir.clauses
        except PolicyError:
            return []
        return [explain_clause(clause) for clause in sorted(clauses, key=lambda clause: clause.name)]
