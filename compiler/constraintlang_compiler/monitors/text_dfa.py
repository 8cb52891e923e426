"""Automata over the characters of a text: a partition of the characters, and an automaton over its classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.ir_monitors import TextAutomaton
from constraintlang_compiler.monitors.budget import Budget
from constraintlang_compiler.monitors.characters import Partition
from constraintlang_compiler.monitors.dfa import Dfa, product

Bools = NDArray[np.bool_]


class TextDfa:
    """``dfa`` reads the class of each character."""

    def __init__(self, partition: Partition, dfa: Dfa) -> None:
        self.partition = partition
        self.dfa = dfa

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TextDfa)
            and np.array_equal(self.partition.starts, other.partition.starts)
            and np.array_equal(self.partition.classes, other.partition.classes)
            and self.dfa == other.dfa
        )

    def __hash__(self) -> int:
        return hash((self.partition.starts.tobytes(), self.partition.classes.tobytes(), self.dfa))

    def record(self) -> TextAutomaton:
        """The automaton as plain data: equal for equal languages."""
        intervals = zip(self.partition.starts.tolist(), self.partition.classes.tolist(), strict=True)
        return TextAutomaton(
            characters=tuple(intervals),
            accepting=tuple(np.flatnonzero(self.dfa.accepting).tolist()),
            table=tuple(map(tuple, self.dfa.table.tolist())),
        )

    def accepts(self, text: str) -> bool:
        """Whether a text is in the language."""
        return bool(self.dfa.accepting[self.state_after(text)])

    def state_after(self, text: str, state: int = 0) -> int:
        """The state that a text leads to."""
        for number in self.partition.classes_of(text).tolist():
            state = int(self.dfa.table[state, number])
        return state

    def complement(self) -> TextDfa:
        """The texts that this one rejects."""
        return TextDfa(self.partition, self.dfa.complement())

    def minimal(self) -> TextDfa:
        """The canonical automaton of the same language: the fewest classes and states, in canonical order."""
        small = self.dfa.minimal()
        _, same = np.unique(small.table, axis=1, return_inverse=True)
        kinds = same.reshape(-1).astype(np.int32)
        partition = Partition(self.partition.starts, kinds[self.partition.classes])
        first = np.array([int(np.argmax(kinds == source)) for source in partition.sources])
        return TextDfa(partition, Dfa(np.ascontiguousarray(small.table[:, first]), small.accepting).minimal())

    def joined(self, other: TextDfa, accept: Callable[[Bools, Bools], Bools], budget: Budget) -> TextDfa:
        """The minimal automaton that accepts what ``accept`` makes of the two answers.

        Raises: BudgetExceeded.
        """
        starts = np.union1d(self.partition.starts, other.partition.starts).astype(np.int32)
        mine = self.partition.classes[np.searchsorted(self.partition.starts, starts, side="right") - 1]
        theirs = other.partition.classes[np.searchsorted(other.partition.starts, starts, side="right") - 1]
        pairs, number = np.unique(np.stack([mine, theirs]), axis=1, return_inverse=True)
        partition = Partition(starts, number.reshape(-1).astype(np.int32))
        pairs = pairs[:, partition.sources]
        budget.check_size(1, partition.num_classes)
        left = Dfa(self.dfa.table[:, pairs[0]], self.dfa.accepting)
        right = Dfa(other.dfa.table[:, pairs[1]], other.dfa.accepting)
        return TextDfa(partition, product(left, right, accept, budget)).minimal()
