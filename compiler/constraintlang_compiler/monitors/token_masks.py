"""Which tokens may come next, so that the text can still be brought into a language of texts.

The vocabulary is a trie; one walk through it, level by level, gives the state behind every token, and the
result is kept per state as packed bits. A token is allowed exactly when some sequence of tokens after it ends
the text inside the language; the end tokens are allowed exactly when the text is inside it already. Lengths are
not limited here: what is allowed may need more tokens than a generation has left (but see ``closing``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.monitors.budget import BudgetExceeded
from constraintlang_compiler.monitors.dfa import Dfa
from constraintlang_compiler.monitors.vocabulary import Vocabulary

Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]
Packed = NDArray[np.uint8]

MAX_KEPT = 4096  # masks: some 80 MB at 150,000 tokens
MAX_EXPLORED = 10_000  # states whose tokens are followed where bytes alone do not tell


@dataclass(frozen=True)
class TextState:
    """Where a text stands: the state of the automaton, and whether no token has added to it yet."""

    state: int
    is_first: bool


class _Trie:
    """Byte strings of a vocabulary by common beginnings; nodes in ascending depth, the root first."""

    def __init__(self, strings: Sequence[bytes | None]) -> None:
        children: dict[tuple[int, int], int] = {}
        parents, labels, depths = [0], [0], [0]
        ends = np.full(len(strings), -1, dtype=np.int32)
        for number, string in enumerate(strings):
            if string is None:
                continue
            node = 0
            for byte in string:
                child = children.get((node, byte))
                if child is None:
                    child = children[node, byte] = len(parents)
                    parents.append(node)
                    labels.append(byte)
                    depths.append(depths[node] + 1)
                node = child
            ends[number] = node
        order = np.argsort(depths, kind="stable").astype(np.int32)
        place = np.empty(len(order), dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        self.parents = place[np.array(parents, dtype=np.int32)[order]]
        self.labels = np.array(labels, dtype=np.int32)[order]
        self.levels = np.searchsorted(np.array(depths)[order], np.arange(max(depths) + 2)).tolist()
        self.exists = ends >= 0
        self.ends = place[ends]  # of a missing token: any node, masked by `exists`

    def states(self, table: Ints, state: int) -> Ints:
        """The state behind every token: int32 [tokens]."""
        states = np.empty(len(self.parents), dtype=np.int32)
        states[0] = state
        for low, high in zip(self.levels[1:], self.levels[2:], strict=False):
            states[low:high] = table[states[self.parents[low:high]], self.labels[low:high]]
        return states[self.ends]


class TokenMasks:
    """Allowed tokens of one vocabulary under one automaton over bytes."""

    def __init__(self, dfa: Dfa, vocabulary: Vocabulary, end_tokens: Iterable[int]) -> None:
        self._dfa = dfa
        self._vocabulary = vocabulary
        self.num_tokens = len(vocabulary.later)
        self._ends = np.array(sorted({t for t in end_tokens if 0 <= t < self.num_tokens}), dtype=np.int64)
        self._later = _Trie(vocabulary.later)
        self._first = self._later if vocabulary.first == vocabulary.later else _Trie(vocabulary.first)
        self._masks: OrderedDict[TextState, Packed] = OrderedDict()
        self._live = self._live_states()

    @property
    def start(self) -> TextState:
        """Where the empty text stands."""
        return TextState(0, True)

    @property
    def known(self) -> Bools:
        """Which ids stand for a token with a text: bool [num_tokens]; do not change it."""
        return self._later.exists

    def can_start(self) -> bool:
        """Whether some response is in the language at all."""
        return bool(self.allowed(self.start).any())

    def is_inside(self, at: TextState) -> bool:
        """Whether the text so far is in the language."""
        return bool(self._dfa.accepting[at.state])

    def advance(self, at: TextState, token: int) -> TextState:
        """Where the text stands after one more token, which need not be allowed; an id without token adds nothing."""
        table = self._vocabulary.first if at.is_first else self._vocabulary.later
        added = table[token] if 0 <= token < self.num_tokens else None
        state = at.state
        for byte in added or b"":
            state = int(self._dfa.table[state, byte])
        return TextState(state, at.is_first and (added is None or token in self._vocabulary.special))

    def allowed(self, at: TextState) -> Bools:
        """Which tokens may come next: bool [num_tokens]."""
        return np.unpackbits(self.packed(at), count=self.num_tokens).astype(np.bool_)

    def packed(self, at: TextState) -> Packed:
        """``allowed`` as bits, the first token in the highest bit of the first byte; do not change it."""
        found = self._masks.get(at)
        if found is None:
            found = self._masks[at] = np.packbits(self._mask(at))
            if len(self._masks) > MAX_KEPT:
                self._masks.popitem(last=False)
        else:
            self._masks.move_to_end(at)
        return found

    def closing(self, at: TextState) -> Bools:
        """Which tokens leave the text in the language, so that it may be cut behind them: bool [num_tokens]."""
        trie = self._first if at.is_first else self._later
        return trie.exists & self._dfa.accepting[trie.states(self._dfa.table, at.state)]

    def _mask(self, at: TextState) -> Bools:
        trie = self._first if at.is_first else self._later
        allowed = trie.exists & self._live[trie.states(self._dfa.table, at.state)]
        if at.is_first:
            # A special token leaves the text empty, and so does not count as the first.
            special = np.array(sorted(self._vocabulary.special), dtype=np.int64)
            others = np.delete(allowed, special)
            allowed[special] = others.any() or bool(self._dfa.accepting[at.state])
        allowed[self._ends] = self._dfa.accepting[at.state]
        return allowed

    def _live_states(self) -> Bools:
        """From which states some sequence of later tokens leads into the language: bool [states]."""
        table, reachable = self._dfa.table, self._dfa.can_accept()
        alone = {string[0] for string in self._vocabulary.later if string is not None and len(string) == 1}
        needed = np.flatnonzero(reachable[table[reachable]].any(axis=0)).tolist()
        if alone.issuperset(needed):
            return reachable  # byte by byte, tokens go wherever bytes go
        targets: dict[int, list[int]] = {}
        waiting = sorted({0, *self._first.states(table, 0)[self._first.exists].tolist()})
        while waiting:
            state = waiting.pop()
            if state in targets or not reachable[state]:
                continue
            if len(targets) == MAX_EXPLORED:
                raise BudgetExceeded(f"more than {MAX_EXPLORED:,} states between tokens")
            states = self._later.states(table, state)
            targets[state] = np.unique(states[self._later.exists]).tolist()
            waiting.extend(targets[state])
        live = self._dfa.accepting.copy()
        sources: dict[int, list[int]] = {}
        for state, following in targets.items():
            for target in following:
                sources.setdefault(target, []).append(state)
        stack = [state for state in targets if live[state]]
        live &= np.isin(np.arange(len(live)), stack)
        while stack:
            for source in sources.get(stack.pop(), ()):
                if not live[source]:
                    live[source] = True
                    stack.append(source)
        return live
