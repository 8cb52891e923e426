"""Complete deterministic automata over integer letters: minimal form, Boolean operations, verdicts on prefixes.

State 0 is the initial one. In minimal form the states are numbered in the order in which a breadth-first walk
meets them, letters ascending, so automata of equal languages are equal arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.monitors.budget import Budget

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]


class PrefixVerdict(IntEnum):
    """What is known of a word of which a beginning has been read; the final ones never change again."""

    FINAL_FALSE = 0
    PRESUMABLY_FALSE = 1
    PRESUMABLY_TRUE = 2
    FINAL_TRUE = 3

    @property
    def is_final(self) -> bool:
        """Whether no continuation changes it."""
        return self in (PrefixVerdict.FINAL_FALSE, PrefixVerdict.FINAL_TRUE)


@dataclass(frozen=True, eq=False)
class Dfa:
    """``table[state, letter]`` is the next state; ``accepting[state]`` says whether a word may end there."""

    table: Ints
    accepting: Bools

    @property
    def num_states(self) -> int:
        """S of ``table`` [S, L]."""
        return int(self.table.shape[0])

    @property
    def num_letters(self) -> int:
        """L of ``table`` [S, L]."""
        return int(self.table.shape[1])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Dfa)
            and np.array_equal(self.table, other.table)
            and np.array_equal(self.accepting, other.accepting)
        )

    def __hash__(self) -> int:
        return hash((self.table.tobytes(), self.accepting.tobytes()))

    def accepts(self, word: list[int] | tuple[int, ...]) -> bool:
        """Whether a word of letters is in the language."""
        state = 0
        for letter in word:
            state = int(self.table[state, letter])
        return bool(self.accepting[state])

    def complement(self) -> Dfa:
        """The automaton of the words that this one rejects; minimal when this one is."""
        return Dfa(self.table, ~self.accepting)

    def can_accept(self) -> Bools:
        """From which states a word may still be accepted: bool [S]."""
        return _reaching(self.table, self.accepting)

    def verdicts(self) -> NDArray[np.int8]:
        """The PrefixVerdict of every state: int8 [S]."""
        can_accept, can_reject = self.can_accept(), _reaching(self.table, ~self.accepting)
        presumed = np.where(self.accepting, PrefixVerdict.PRESUMABLY_TRUE, PrefixVerdict.PRESUMABLY_FALSE)
        settled = np.where(can_accept, PrefixVerdict.FINAL_TRUE, PrefixVerdict.FINAL_FALSE)
        return np.where(can_accept & can_reject, presumed, settled).astype(np.int8)

    def minimal(self) -> Dfa:
        """The canonical automaton of the same language."""
        reached = _walk(self.table, 0)
        table = _renumbered(self.table, reached)
        accepting = self.accepting[reached]
        block = _coarsest_partition(np.unique(table, axis=1), accepting)
        _, representative = np.unique(block, return_index=True)
        quotient = block[table[representative]].astype(np.int32)
        order = _walk(quotient, int(block[0]))
        return Dfa(_renumbered(quotient, order), accepting[representative[order]])


def product(left: Dfa, right: Dfa, accept: Callable[[Bools, Bools], Bools], budget: Budget) -> Dfa:
    """The minimal automaton that accepts what ``accept`` makes of the answers of two over the same letters.

    Raises: BudgetExceeded.
    """
    if left.num_letters != right.num_letters:
        raise ValueError(f"got {left.num_letters} and {right.num_letters} letters, expected equal numbers")
    found: dict[tuple[int, int], int] = {(0, 0): 0}
    pairs = [(0, 0)]
    rows: list[list[int]] = []
    while len(rows) < len(pairs):
        a, b = pairs[len(rows)]
        row = []
        for pair in zip(left.table[a].tolist(), right.table[b].tolist(), strict=True):
            if pair not in found:
                found[pair] = len(pairs)
                pairs.append(pair)
            row.append(found[pair])
        rows.append(row)
        budget.spend(len(row))
        budget.check_size(len(pairs), left.num_letters)
    states = np.array(pairs, dtype=np.int32)
    accepting = accept(left.accepting[states[:, 0]], right.accepting[states[:, 1]])
    return Dfa(np.array(rows, dtype=np.int32), accepting).minimal()


def _walk(table: Ints, start: int) -> NDArray[np.int64]:
    """The states that can be reached, in breadth-first order."""
    order = [start]
    seen = {start}
    for state in order:
        for target in dict.fromkeys(table[state].tolist()):
            if target not in seen:
                seen.add(target)
                order.append(target)
    return np.array(order, dtype=np.int64)


def _renumbered(table: Ints, order: NDArray[np.int64]) -> Ints:
    """The table with the states of ``order``, which no letter leaves, in this order."""
    place = np.zeros(len(table), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return place[table[order]]


def _reaching(table: Ints, goal: Bools) -> Bools:
    """The states from which some state of ``goal`` can be reached."""
    sources: list[list[int]] = [[] for _ in range(len(table))]
    for state, row in enumerate(table):
        for target in set(row.tolist()):
            sources[target].append(state)
    reaching = goal.copy()
    stack = np.flatnonzero(goal).tolist()
    while stack:
        for source in sources[stack.pop()]:
            if not reaching[source]:
                reaching[source] = True
                stack.append(source)
    return reaching


def _coarsest_partition(table: Ints, accepting: Bools) -> NDArray[np.int64]:
    """Hopcroft's algorithm: the block of each state, where equal blocks mean equal languages."""
    num_states, num_letters = table.shape
    inverses = []  # per letter: the states in the order of their targets, and where each target begins
    for letter in range(num_letters):
        column = table[:, letter]
        by_target = np.argsort(column, kind="stable")
        starts = np.searchsorted(column[by_target], np.arange(num_states + 1))
        inverses.append((by_target.tolist(), starts.tolist()))
    blocks = [set(np.flatnonzero(accepting).tolist()), set(np.flatnonzero(~accepting).tolist())]
    blocks = [block for block in blocks if block]
    block_of = [0] * num_states
    for number, block in enumerate(blocks):
        for state in block:
            block_of[state] = number
    waiting = {min(range(len(blocks)), key=lambda number: len(blocks[number]))}
    while waiting:
        splitter = list(blocks[waiting.pop()])
        for by_target, starts in inverses:
            hit: dict[int, list[int]] = {}
            for target in splitter:
                for state in by_target[starts[target] : starts[target + 1]]:
                    hit.setdefault(block_of[state], []).append(state)
            for number, states in hit.items():
                if len(states) == len(blocks[number]):
                    continue
                blocks[number].difference_update(states)
                blocks.append(set(states))
                for state in states:
                    block_of[state] = len(blocks) - 1
                smaller = number if len(blocks[number]) < len(states) else len(blocks) - 1
                waiting.add(len(blocks) - 1 if number in waiting else smaller)
    return np.array(block_of, dtype=np.int64)
