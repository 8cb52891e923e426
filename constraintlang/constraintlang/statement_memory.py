"""What the check of a statement follows from, so that the statements that an edit does not touch are not checked.

That is: its text, the heads of its groups, and what the words in them mean in this file: attributes, constants,
domains, tags, names that failed. A statement with an error is checked every time, because its message may speak of any
declaration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from constraintlang import nodes as n
from constraintlang.checked import CheckedStatement
from constraintlang.declarations import Declarations
from constraintlang.diagnostics import Diagnostic
from constraintlang.memory import Memory, all_within
from constraintlang.source import SourceFile, Span

Outcome = tuple[CheckedStatement | None, tuple[Diagnostic, ...], tuple[str, ...]]
"""The statement, what was found in it, and the names that it uses."""
_WORD = re.compile(r"[^\W\d]\w*")
BY_WORD = ("attributes", "lets", "constants", "values", "domains", "tags", "tag_values", "tag_keys", "quiet")
OF_ERRORS = ("labels", "tested", "imports", "names_only")
"""What only tests, messages of errors and findings about imports speak of."""


class StatementMemory:
    """Recalls what the statements of one file came to; ``imported`` are the texts of the files that it imports."""

    def __init__(
        self, memory: Memory, source: SourceFile, declarations: Declarations, imported: Mapping[str, str]
    ) -> None:
        self.memory = memory
        self.source = source
        self.by_word: dict[str, list[int]] = {}
        for name, info in declarations.attributes.items():
            self.declare(name, replace(info, span=None))
        for name, let in declarations.lets.items():
            # A warning may depend on how the number is written (PC409).
            is_percent = isinstance(let.value, n.Number) and let.value.percent
            self.declare(name, (declarations.values.decimals.get(name), is_percent))
        for name, value in declarations.constants.items():
            self.declare(name, value)
        for name in declarations.domains:
            self.declare(name, "domain")
        for name, tag in declarations.tags.items():
            self.declare(name, tag)
        for name in declarations.tag_keys:
            self.declare(name, "key")
        for name in declarations.quiet:
            self.declare(name, "quiet")
        # Where no domain or no tag is declared, every one is accepted.
        any_declared = bool(declarations.domains), bool(declarations.tag_keys)
        self.always = hash((declarations.edition, any_declared, tuple(imported.items())))
        memory.begin("statement")

    def declare(self, name: str, meaning: Hashable) -> None:
        """A name that a statement may use, found again by its last word."""
        self.by_word.setdefault(name.rpartition(".")[2], []).append(hash((name, meaning)))

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
        written = " ".join([text, *(head for _, head in heads)])
        # A backslash may hide the letters of a name in quotes.
        named = self.named(self.by_word if "\\" in written else _WORD.findall(written))
        key = (text, item.span.start - start, heads, named, self.always)
        place = Span(start, item.span.end)

        def fits(outcome: Outcome) -> bool:
            return outcome[0] is not None and all_within(outcome, place)

        return self.memory.recall("statement", key, start, check, fits)

    def named(self, words: Iterable[str]) -> Hashable:
        """What the names among some words mean."""
        found = sorted(self.by_word.keys() & set(words))
        return tuple(meaning for word in found for meaning in self.by_word[word])
