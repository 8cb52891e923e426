"""Which statement of a new policy stands for which of the old one: by label, by text, then by likeness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from constraintlang.checked import CheckedStatement
from constraintlang.tree import names_in
from constraintlang_compiler.analysis.requirements import law_of

MAX_ALIKE = 1_000  # pairs of statements of one text; beyond it they are paired in their order
MAX_LIKENESSES = 200_000  # pairs whose likeness is looked at; beyond it, those at about the same place


@dataclass(frozen=True)
class Pair:
    """Indexes into the statements of the old and the new policy; None where there is no counterpart."""

    old: int | None
    new: int | None


def pairs_of(old: Sequence[CheckedStatement], new: Sequence[CheckedStatement]) -> list[Pair]:
    """The pairs in the order of the new policy, what was removed at its old place among them."""
    partner: dict[int, int] = {}
    taken: set[int] = set()

    def unmatched() -> tuple[list[int], list[int]]:
        return [i for i in range(len(old)) if i not in partner], [
            j for j in range(len(new)) if j not in taken
        ]

    def join(pairs: Iterable[tuple[int, int]], likeness: Callable[[int, int], int]) -> None:
        scored = [(likeness(i, j), -abs(i - j), -i, -j) for i, j in pairs]
        for score, _, i, j in sorted(scored, reverse=True):
            if score > 0 and -i not in partner and -j not in taken:
                partner[-i] = -j
                taken.add(-j)

    for name in (_label, _text):
        left, right = unmatched()
        join(_of_one_name([(name(old[i]), i) for i in left], [(name(new[j]), j) for j in right]), _same)
    left, right = unmatched()
    before, after = {i: _Traits.of(old[i]) for i in left}, {j: _Traits.of(new[j]) for j in right}
    join(_near(left, right), lambda i, j: _likeness(before[i], after[j]))
    removed, added = unmatched()
    found = [(j, Pair(i, j)) for i, j in partner.items()]
    found += [(i, Pair(i, None)) for i in removed] + [(j, Pair(None, j)) for j in added]
    return [pair for _, pair in sorted(found, key=lambda item: (item[0], item[1].new is None))]


def _label(statement: CheckedStatement) -> str | None:
    return statement.label


def _text(statement: CheckedStatement) -> str | None:
    return statement.text


def _same(old: int, new: int) -> int:
    return 1


def _of_one_name(
    old: Iterable[tuple[str | None, int]], new: Iterable[tuple[str | None, int]]
) -> Iterator[tuple[int, int]]:
    """The pairs of statements with equal names, few of each name."""
    found: dict[str, tuple[list[int], list[int]]] = {}
    for side, statements in enumerate((old, new)):
        for name, index in statements:
            if name is not None:
                found.setdefault(name, ([], []))[side].append(index)
    for left, right in found.values():
        few = len(left) * len(right) <= MAX_ALIKE
        yield from product(left, right) if few else zip(left, right, strict=False)


def _near(left: Sequence[int], right: Sequence[int]) -> Iterator[tuple[int, int]]:
    """All pairs; where these are too many, each of the left with those at about the same place of the right."""
    width = min(len(right), max(1, MAX_LIKENESSES // max(1, len(left))))
    for place, index in enumerate(left):
        middle = place * len(right) // len(left)
        first = max(0, min(middle - width // 2, len(right) - width))
        yield from ((index, other) for other in right[first : first + width])


@dataclass(frozen=True)
class _Traits:
    """What the likeness of two statements is seen by."""

    statement: CheckedStatement
    names: frozenset[str]
    law: tuple[object, ...]

    @classmethod
    def of(cls, statement: CheckedStatement) -> _Traits:
        """The traits of a statement, found once for all of its pairs."""
        names = frozenset(".".join(name.parts) for name in names_in(statement.formula))
        return cls(statement, names, law_of(statement))


def _likeness(one: _Traits, other: _Traits) -> int:
    """0 for statements that have nothing to do with each other, or that both have a label of their own."""
    first, second = one.statement, other.statement
    if first.label is not None and second.label is not None:
        return 0
    if not one.names & other.names:
        return 0
    return (
        8 * (one.names == other.names)
        + 4 * (first.domain == second.domain)
        + 2 * (first.reading == second.reading and one.law == other.law)
        + (first.always == second.always)
        + 1
    )
