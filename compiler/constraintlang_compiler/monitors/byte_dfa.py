"""From an automaton over characters to one over the bytes of UTF-8.

The last state is the dead one: bytes that are no UTF-8 lead there, so a text with a broken character is in no
language, and neither is it in the complement. A text can end only between characters.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np

from constraintlang_compiler.monitors.budget import Budget
from constraintlang_compiler.monitors.characters import NUM_CODE_POINTS
from constraintlang_compiler.monitors.dfa import Dfa, Ints
from constraintlang_compiler.monitors.text_dfa import TextDfa

MAX_BYTE_STATES = 120_000
MAX_BYTE_ENTRIES = MAX_BYTE_STATES * 256
_SURROGATES = (0xD800, 0xE000)
# lead bytes of characters of 1 to 4 bytes; the bits that a lead byte carries; the smallest character
_LENGTHS = ((0x00, 0x80, 7, 0), (0xC0, 0xE0, 5, 0x80), (0xE0, 0xF0, 4, 0x800), (0xF0, 0xF8, 3, 0x10000))
_DEAD = -1

Pieces = tuple[
    tuple[int, int], ...
]  # (first character, target), ascending: what each character of a block leads to


class _Builder:
    def __init__(self, text: TextDfa, budget: Budget) -> None:
        self.num_states = text.dfa.num_states
        self.budget = budget
        self.inner: dict[tuple[int, Pieces], int] = {}  # blocks of 64**k characters -> state
        self.rows: list[list[int]] = []

    def target(self, pieces: Pieces, remaining: int) -> int:
        """The state behind a lead byte, or behind one with some continuation bytes."""
        if remaining == 0 or pieces == ((0, _DEAD),):
            return pieces[0][1]
        key = (remaining, pieces)
        if key not in self.inner:
            self.inner[key] = self.num_states + len(self.rows)
            row = [_DEAD] * 256
            self.rows.append(row)
            self.budget.check_size(self.num_states + len(self.rows), 256)
            self.budget.spend(64)
            size = 64 ** (remaining - 1)
            for digit in range(64):
                row[0x80 + digit] = self.target(_block(pieces, digit * size, size), remaining - 1)
        return self.inner[key]


def byte_automaton(text: TextDfa, budget: Budget | None = None) -> Dfa:
    """The automaton over bytes [states, 256] of the same texts; state numbers of ``text`` are kept.

    Raises: BudgetExceeded.
    """
    budget = budget or Budget(max_states=MAX_BYTE_STATES, max_entries=MAX_BYTE_ENTRIES)
    builder = _Builder(text, budget)
    lengths = [_Length(text.partition.starts, smallest) for _, _, _, smallest in _LENGTHS]
    heads = []
    for row in text.dfa.table:
        targets = row[text.partition.classes]
        head = [_DEAD] * 256
        for remaining, (lead, end, bits, _) in enumerate(_LENGTHS):
            pieces = lengths[remaining].pieces(targets)
            size = 64**remaining
            for byte in range(lead, end):
                block = _block(pieces, (byte & ((1 << bits) - 1)) * size, size)
                head[byte] = builder.target(block, remaining)
        heads.append(head)
        budget.spend(256)
    table = np.array([*heads, *builder.rows, [_DEAD] * 256], dtype=np.int32)
    table[table == _DEAD] = len(table) - 1
    accepting = np.zeros(len(table), dtype=np.bool_)
    accepting[: text.dfa.num_states] = text.dfa.accepting
    return Dfa(table, accepting)


class _Length:
    """The characters that UTF-8 writes in one length: smaller ones, surrogates and what is too large are dead."""

    def __init__(self, starts: Ints, smallest: int) -> None:
        low, high = _SURROGATES
        self.edges = np.union1d(starts, [0, smallest, low, high, NUM_CODE_POINTS])
        self.source = np.searchsorted(starts, self.edges, side="right") - 1
        self.dead = (self.edges < smallest) | (self.edges >= NUM_CODE_POINTS)
        self.dead |= (low <= self.edges) & (self.edges < high)

    def pieces(self, targets: Ints) -> Pieces:
        found = np.where(self.dead, _DEAD, targets[self.source])
        kept = np.concatenate([[True], found[1:] != found[:-1]])
        return tuple(zip(self.edges[kept].tolist(), found[kept].tolist(), strict=True))


def _block(pieces: Pieces, start: int, size: int) -> Pieces:
    """The part that speaks of ``size`` characters from ``start``, counted from there."""
    first = bisect_right(pieces, start, key=lambda piece: piece[0]) - 1
    last = bisect_left(pieces, start + size, lo=first + 1, key=lambda piece: piece[0])
    return ((0, pieces[first][1]), *((place - start, target) for place, target in pieces[first + 1 : last]))
