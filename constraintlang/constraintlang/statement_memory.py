"""What the check of a statement follows from, so that the statements that an edit does not touch are not checked.

That is: its text, the heads of its groups, the attributes and constants that it names, and all else that is
declared. A statement with an error is checked every time, because its message may speak of any declaration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from constraintlang import nodes as n
from constraintlang.checked import CheckedStatement
from constraintlang.declarations import Declarations
from constraintlang.diagnostics import Diagnostic
from constraintlang.memory import Memory, all_within
from constraintlang.source import SourceFile, Span

Outcome = tuple[CheckedStatement | None, tuple[Diagnostic, ...]]
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BY_NAME = ("attributes", "lets", "constants", "values")
_OF_ERRORS = ("labels", "tested", "imports")
"""What only tests and messages of errors speak of."""


class StatementMemory:
    """Recalls what the statements of one file came to; ``imported`` are the texts of the files that it imports."""

    def __init__(
        self, memory: Memory, source: SourceFile, declarations: Declarations, imported: Mapping[str, str]
    ) -> None:
        self.memory = memory
        self.source = source
        self.by_word: dict[str, list[Hashable]] = {}
        for name, info in declarations.attributes.items():
            self.declare(name, replace(info, span=None))
        for name in declarations.lets:
            self.declare(name, declarations.values.decimals.get(name))
        for name, value in declarations.constants.items():
            self.declare(name, value)
        rest = (
            (field, _frozen(value))
            for field, value in vars(declarations).items()
            if field not in _BY_NAME + _OF_ERRORS
        )
        names = tuple(declarations.attributes), tuple(declarations.lets), tuple(declarations.constants)
        self.always = hash((*names, tuple(imported.items()), *rest))
        memory.begin("statement")

    def declare(self, name: str, meaning: Hashable) -> None:
        """A name that a statement may use, found again by its last word."""
        self.by_word.setdefault(name.rpartition(".")[2], []).append((name, meaning))

    def recall(self, item: n.Statement, groups: Sequence[n.Group], check: Callable[[], Outcome]) -> Outcome:
        """What ``check`` gives; ``groups`` are those around the statement, the outermost first."""
        # The distances are part of the key, because the clauses of the groups stand in the result.
        start = groups[0].span.start if groups else item.span.start
        heads = tuple(
            (group.span.start - start, self.source.text[group.span.start : group.clauses[-1].span.end])
            for group in groups
            if group.clauses
        )
        text = self.source.extract(item.span)
        named = self.named(_WORD.findall(" ".join([text, *(head for _, head in heads)])))
        key = (text, item.span.start - start, heads, named, self.always)
        place = Span(start, item.span.end)

        def fits(outcome: Outcome) -> bool:
            return outcome[0] is not None and all_within(outcome, place)

        return self.memory.recall("statement", key, start, check, fits)

    def named(self, words: Iterable[str]) -> Hashable:
        """What the names among some words mean."""
        found = sorted(self.by_word.keys() & set(words))
        return tuple(meaning for word in found for meaning in self.by_word[word])


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        return tuple(value.items())
    return frozenset(value) if isinstance(value, set) else value
