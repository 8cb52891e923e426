r"""From a regular expression to the automaton of the texts in which it matches somewhere.

The state after a beginning of the text is the set of what may still be missing of a match that has begun
(partial derivatives), and what the last character was as far as conditions such as ``\b`` can see it. A match
may begin at every place; once one is complete nothing can undo it. A condition is decided when the character
behind it is read, or when the text ends.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from constraintlang_compiler.monitors.budget import Budget
from constraintlang_compiler.monitors.characters import (
    NUM_CODE_POINTS,
    Partition,
    Ranges,
    ranges_of,
    re2_ranges,
)
from constraintlang_compiler.monitors.dfa import Dfa
from constraintlang_compiler.monitors.regex_nodes import (
    Between,
    Characters,
    Choice,
    Condition,
    Kind,
    Regex,
    Repeat,
    Sequence,
)
from constraintlang_compiler.monitors.text_dfa import TextDfa

Residue = tuple[Regex, ...]  # what is missing of a match, in order
COMPLETE, WHOLE = 0, 1  # the numbers of two residues: nothing is missing, everything is
_NEWLINE: Ranges = ((10, 10),)
_ASCII: Ranges = ((0, 127),)


class _Matcher:
    """Derivatives by the classes of one partition."""

    def __init__(self, regex: Regex, budget: Budget) -> None:
        self.budget = budget
        sets: dict[Ranges, None] = {}
        conditions: set[Condition] = set()
        stack = [regex]
        while stack:
            match stack.pop():
                case Characters(ranges=ranges):
                    sets[ranges] = None
                case Between(condition=condition):
                    conditions.add(condition)
                case Sequence(parts=parts) | Choice(options=parts):
                    stack.extend(parts)
                case Repeat(inner=inner):
                    stack.append(inner)
        kinds = _kinds_seen(conditions)
        own, seen = list(sets), list(kinds.values())
        self.partition, members = Partition.separating([*own, *seen, *([_ASCII] if conditions else [])])
        self.members = {ranges: members[i] for i, ranges in enumerate(own)}
        self.kind_of = [Kind.OTHER] * self.partition.num_classes
        for kind, row in zip(kinds, members[len(own) :], strict=False):
            for number in np.flatnonzero(row).tolist():
                self.kind_of[number] = kind
        # RE2 also looks between the bytes of one character, where `\B` holds.
        wide = ~members[-1] if conditions else np.zeros(self.partition.num_classes, dtype=np.bool_)
        self.is_wide = wide.tolist()
        self.has_conditions = bool(conditions)
        self.residues: list[Residue] = [(), (regex,)]
        self.numbers: dict[Residue, int] = {(): COMPLETE, (regex,): WHOLE}
        self.known: dict[tuple[int, int, Kind], frozenset[int]] = {}
        self.empty: dict[tuple[int, Kind, Kind], bool] = {}

    def complete(self, residue: int, before: Kind, after: Kind) -> bool:
        """Whether nothing is missing at a place between two characters."""
        key = (residue, before, after)
        if key not in self.empty:
            parts = self.residues[residue]
            self.empty[key] = all(self.may_be_empty(part, before, after) for part in parts)
        return self.empty[key]

    def may_be_empty(self, regex: Regex, before: Kind, after: Kind) -> bool:
        match regex:
            case Characters():
                return False
            case Between(condition=condition):
                return condition.holds(before, after)
            case Sequence(parts=parts):
                return all(self.may_be_empty(part, before, after) for part in parts)
            case Choice(options=options):
                return any(self.may_be_empty(option, before, after) for option in options)
            case Repeat(inner=inner, low=low):
                return low == 0 or self.may_be_empty(inner, before, after)

    def after(self, residue: int, number: int, before: Kind) -> frozenset[int]:
        """What may be missing of a residue when a character of a class was read behind one of a kind."""
        key = (residue, number, before)
        if key not in self.known:
            left = self._derive(self.residues[residue], number, before)
            self.known[key] = frozenset(self._number(parts) for parts in left)
        return self.known[key]

    def _number(self, residue: Residue) -> int:
        if residue not in self.numbers:
            self.numbers[residue] = len(self.residues)
            self.residues.append(residue)
        return self.numbers[residue]

    def _derive(self, parts: Residue, number: int, before: Kind) -> set[Residue]:
        found: set[Residue] = set()
        for index, part in enumerate(parts):
            rest = parts[index + 1 :]
            found.update((*start, *rest) for start in self._derive_one(part, number, before))
            self.budget.spend(1 + len(found))
            if not self.may_be_empty(part, before, self.kind_of[number]):
                break
        return found

    def _derive_one(self, regex: Regex, number: int, before: Kind) -> set[Residue]:
        match regex:
            case Characters(ranges=ranges):
                return {()} if self.members[ranges][number] else set()
            case Between():
                return set()
            case Sequence(parts=parts):
                return self._derive(parts, number, before)
            case Choice(options=options):
                return set().union(*(self._derive_one(option, number, before) for option in options))
            case Repeat(inner=inner, low=low, high=high):
                return self._derive_repeat(inner, low, high, number, before)

    def _derive_repeat(
        self, inner: Regex, low: int, high: int | None, number: int, before: Kind
    ) -> set[Residue]:
        starts = self._derive_one(inner, number, before)
        found: set[Residue] = set()
        # Repetitions before this one may have been empty, if the place allows it: then fewer are missing.
        skipped = range(low) if self.may_be_empty(inner, before, self.kind_of[number]) else range(1)
        for done in [*skipped] or [0]:
            left = None if high is None else high - 1 - done
            if left is not None and left < 0:
                break
            again = () if left == 0 else (Repeat(inner, max(low - 1 - done, 0), left),)
            found.update((*start, *again) for start in starts)
        self.budget.spend(len(found))
        return found


def search_automaton(regex: Regex, budget: Budget) -> TextDfa:
    """The minimal automaton of the texts that contain a match.

    Raises: BudgetExceeded.
    """
    matcher = _Matcher(regex, budget)
    start = (frozenset[int](), Kind.EDGE if matcher.has_conditions else Kind.OTHER)
    matched = (frozenset({COMPLETE}), Kind.OTHER)
    found = {start: 0}
    states = [start]
    rows: list[list[int]] = []
    while len(rows) < len(states):
        missing, before = states[len(rows)]
        row = []
        for number, kind in enumerate(matcher.kind_of):
            target = matched
            begun = missing | {WHOLE}
            done = any(matcher.complete(residue, before, kind) for residue in begun)
            done |= matcher.is_wide[number] and matcher.complete(WHOLE, Kind.OTHER, Kind.OTHER)
            if not done:
                left = frozenset[int]().union(*(matcher.after(residue, number, before) for residue in begun))
                if COMPLETE not in left:
                    target = (left, kind if matcher.has_conditions else Kind.OTHER)
            if target not in found:
                found[target] = len(states)
                states.append(target)
                budget.check_size(len(states), matcher.partition.num_classes)
            row.append(found[target])
            budget.spend(len(begun))
        rows.append(row)
    accepting = [
        any(matcher.complete(residue, before, Kind.EDGE) for residue in missing | {WHOLE})
        for missing, before in states
    ]
    dfa = Dfa(np.array(rows, dtype=np.int32), np.array(accepting, dtype=np.bool_))
    return TextDfa(matcher.partition, dfa).minimal()


def _kinds_seen(conditions: set[Condition]) -> dict[Kind, Ranges]:
    """The kinds of characters that the conditions tell apart; later ones do not overlap earlier ones."""
    kinds: dict[Kind, Ranges] = {}
    if conditions & {Condition.LINE_BEGIN, Condition.LINE_END}:
        kinds[Kind.NEWLINE] = _NEWLINE
    if conditions & {Condition.WORD_EDGE, Condition.NO_WORD_EDGE}:
        kinds[Kind.WORD] = re2_ranges(r"\w")
    if conditions & {Condition.NO_LETTER_BEFORE, Condition.NO_LETTER_AFTER}:
        kinds[Kind.LETTER] = letters()
    return kinds


@cache
def letters() -> Ranges:
    """Letters and digits of every script, and the underscore."""
    members = np.array([chr(c).isalnum() for c in range(NUM_CODE_POINTS)])
    members[ord("_")] = True
    return ranges_of(members)
