"""The statements of a policy as its tests look for them: by label, by group, and what each one reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property

from constraintlang import nodes as n
from constraintlang.checked import CheckedStatement
from constraintlang.semantics import score_key
from constraintlang.source import Span
from constraintlang.tree import descendants, overs_in, speaks_of_order, whole_names_in

MAX_JUDGED = 25_000
"""Statements that the tests judge, each counted as often as an expectation is about it."""
PARTS_OF_ONE = 20
"""The numbers, names and operators of a statement that counts once; a longer one counts as several."""


class TestedStatements:
    """What the tests ask of the statements, found once, so that many tests of many statements take linear time."""

    __test__ = False  # the name begins like that of a test

    def __init__(self, statements: Sequence[CheckedStatement]) -> None:
        self.statements = statements
        self.num_judged = 0

    @cached_property
    def keys(self) -> list[frozenset[str]]:
        """The scores of the whole response that each statement reads."""
        return [frozenset(map(score_key, whole_names_in(s.formula))) for s in self.statements]

    @cached_property
    def in_order(self) -> list[bool]:
        """Whether each statement speaks of the order within a response."""
        return [speaks_of_order(statement.formula) for statement in self.statements]

    @cached_property
    def levels(self) -> list[frozenset[str]]:
        """The levels whose parts each statement speaks of."""
        return [frozenset(over.level for over in overs_in(s.formula)) for s in self.statements]

    @cached_property
    def labelled(self) -> dict[str, list[int]]:
        """The statements of each label."""
        found: dict[str, list[int]] = {}
        for index, statement in enumerate(self.statements):
            if statement.label is not None:
                found.setdefault(statement.label, []).append(index)
        return found

    @cached_property
    def counted(self) -> list[int]:
        """As how many each statement counts, so that what is judged bounds the time."""
        return [-(-sum(1 for _ in descendants(s.formula)) // PARTS_OF_ONE) for s in self.statements]

    @cached_property
    def _starts(self) -> list[int]:
        return [(statement.span or n.NO_SPAN).start for statement in self.statements]

    def inside(self, group: Span | None) -> range:
        """The statements in a group; all of them without one. They stand in the order of the file."""
        if group is None:
            return range(len(self.statements))
        return range(bisect_left(self._starts, group.start), bisect_left(self._starts, group.end))
