"""Which statement of a new policy stands for which of the old one: by label, by text, then by likeness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from constraintlang.checked import CheckedStatement
from constraintlang.tree import names_in
from constraintlang_compiler.analysis.requirements import law_of


@dataclass(frozen=True)
class Pair:
    """Indexes into the statements of the old and the new policy; None where there is no counterpart."""

    old: int | None
    new: int | None


def pairs_of(old: Sequence[CheckedStatement], new: Sequence[CheckedStatement]) -> list[Pair]:
    """The pairs in the order of the new policy, what was removed at its old place among them."""
    partner: dict[int, int] = {}

    def unmatched() -> tuple[list[int], list[int]]:
        taken = set(partner.values())
        return [i for i in range(len(old)) if i not in partner], [
            j for j in range(len(new)) if j not in taken
        ]

    def join(likeness: Callable[[CheckedStatement, CheckedStatement], int]) -> None:
        left, right = unmatched()
        scored = [(likeness(old[i], new[j]), -abs(i - j), -i, -j) for i in left for j in right]
        for score, _, i, j in sorted(scored, reverse=True):
            if score > 0 and -i not in partner and -j not in partner.values():
                partner[-i] = -j

    join(lambda a, b: int(a.label is not None and a.label == b.label))
    join(lambda a, b: int(a.text == b.text))
    join(_likeness)
    removed, added = unmatched()
    found = [(j, Pair(i, j)) for i, j in partner.items()]
    found += [(i, Pair(i, None)) for i in removed] + [(j, Pair(None, j)) for j in added]
    return [pair for _, pair in sorted(found, key=lambda item: (item[0], item[1].new is None))]


def _likeness(first: CheckedStatement, second: CheckedStatement) -> int:
    """0 for statements that have nothing to do with each other, or that both have a label of their own."""
    if first.label is not None and second.label is not None:
        return 0
    names = [{".".join(name.parts) for name in names_in(s.formula)} for s in (first, second)]
    if not names[0] & names[1]:
        return 0
    return (
        8 * (names[0] == names[1])
        + 4 * (first.domain == second.domain)
        + 2 * (first.reading == second.reading and law_of(first) == law_of(second))
        + (first.always == second.always)
        + 1
    )
