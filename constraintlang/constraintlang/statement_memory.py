"""What the check of a statement follows from, so that the statements that an edit does not touch are not checked.

That is: its text, the heads of its groups, the declarations that it names, and the names of all others. A
statement with an error is checked every time, because its message may speak of any declaration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence

from constraintlang import nodes as n
from constraintlang.checked import CheckedStatement
from constraintlang.declarations import walk
from constraintlang.diagnostics import Diagnostic
from constraintlang.memory import Memory, all_within
from constraintlang.source import SourceFile, Span

Outcome = tuple[CheckedStatement | None, tuple[Diagnostic, ...]]
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class StatementMemory:
    """Recalls what the statements of one file came to."""

    def __init__(self, memory: Memory, source: SourceFile, policy: n.Policy, lost: frozenset[str]) -> None:
        self.memory = memory
        self.source = source
        self.texts: dict[str, str] = {}
        always: list[str] = []
        for item, _ in walk(policy.items):
            text = source.extract(item.span)
            if isinstance(item, n.Let | n.Attribute):
                self.texts[item.name] = self.texts.get(item.name, "") + "\n" + text
                always.append(f"{type(item).__name__} {item.name}")
            elif not isinstance(item, n.Statement | n.Group | n.Test):
                always.append(text)
        self.always = hash((tuple(always), lost))
        self.reached: dict[str, Hashable] = {}
        memory.begin("statement")

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
        """The declarations that are named, and those that they name."""
        return tuple(self.reach(word) for word in sorted(self.texts.keys() & set(words)))

    def reach(self, name: str) -> Hashable:
        """The text of a declaration with those of all that it names, itself or through others."""
        if name not in self.reached:
            seen, rest = {name}, [name]
            while rest:
                words = self.texts.keys() & set(_WORD.findall(self.texts[rest.pop()]))
                rest += words - seen
                seen |= words
            self.reached[name] = hash(tuple(self.texts[word] for word in sorted(seen)))
        return self.reached[name]
