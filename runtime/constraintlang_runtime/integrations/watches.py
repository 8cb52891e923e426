"""What watches one condition of a policy on a response that is being written: automata of wording and of order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any as Anything
from typing import Protocol

import numpy as np

from constraintlang.segments import split
from constraintlang_compiler.attributes import keys_of, parts_predicates
from constraintlang_compiler.checkers import evaluate_predicate
from constraintlang_compiler.ir import All, Any, AttributeRecord, Over, Predicate
from constraintlang_compiler.monitors.budget import Budget, BudgetExceeded
from constraintlang_compiler.monitors.dfa import PrefixVerdict
from constraintlang_compiler.monitors.regex_parser import RegexError
from constraintlang_compiler.monitors.response_language import NotLexical, WordList, response_language
from constraintlang_compiler.monitors.text_dfa import TextDfa
from constraintlang_compiler.monitors.trace_monitors import TraceMonitor, trace_monitor
from constraintlang_runtime.scorers.pool import ScoringPool

Verdict = PrefixVerdict | None
"""None: only the whole response tells."""


class Watch(Protocol):
    """The state of one condition on one response."""

    def feed(self, piece: str) -> None:
        """Read a piece of the response."""

    @property
    def verdict(self) -> Verdict:
        """What is known so far."""


@dataclass
class _Wording:
    """A condition on wording: the automaton reads every character once."""

    language: TextDfa
    table: np.ndarray[Anything, np.dtype[np.int8]]
    state: int = 0

    def feed(self, piece: str) -> None:
        self.state = self.language.state_after(piece, self.state)

    @property
    def verdict(self) -> Verdict:
        return PrefixVerdict(int(self.table[self.state]))


@dataclass
class _Order:
    """A condition on the order of sentences or turns: the automaton reads each one when it has ended."""

    level: str
    monitor: TraceMonitor
    score: Callable[[Sequence[str]], Mapping[str, np.ndarray[Anything, np.dtype[np.float64]]]]
    table: np.ndarray[Anything, np.dtype[np.int8]]
    state: int = 0
    rest: str = ""
    is_unknown: bool = False

    def feed(self, piece: str) -> None:
        self.rest += piece
        if self.level == "turns" and ":" not in piece:
            return  # a turn ends where the role of the next one is written, which takes a colon
        *ended, last = split(self.rest + "x", self.level)  # a letter more belongs to the part that goes on
        self.rest = last[:-1]
        if not ended or self.is_unknown:
            return
        scores = self.score(ended)
        truths = [evaluate_predicate(p, scores) for p in parts_predicates(self.monitor.formula)]
        self.is_unknown = any(bool(np.isnan(values).any()) for values in truths)
        if not self.is_unknown:
            letters = self.monitor.letters(lambda predicate: evaluate_predicate(predicate, scores))
            letters = np.broadcast_to(letters, len(ended))
            for letter in letters.tolist():
                self.state = int(self.monitor.dfa.table[self.state, letter])

    @property
    def verdict(self) -> Verdict:
        found = PrefixVerdict(int(self.table[self.state]))
        return None if self.is_unknown and not found.is_final else found


class Late:
    """A condition that is measured on the whole response."""

    verdict: Verdict = None

    def feed(self, piece: str) -> None:
        """Nothing to learn."""


@dataclass
class _Joined:
    """A conjunction or disjunction, with strong Kleene's tables."""

    parts: list[Watch]
    is_all: bool

    def feed(self, piece: str) -> None:
        for part in self.parts:
            part.feed(piece)

    @property
    def verdict(self) -> Verdict:
        found = [part.verdict for part in self.parts]
        decisive = PrefixVerdict.FINAL_FALSE if self.is_all else PrefixVerdict.FINAL_TRUE
        if decisive in found:
            return decisive
        known = [verdict for verdict in found if verdict is not None]
        if len(known) < len(found):
            return None
        return min(known) if self.is_all else max(known)


def watch(
    predicate: Predicate, attributes: Mapping[str, AttributeRecord], pool: ScoringPool, read: WordList
) -> Callable[[str], Watch]:
    """How to begin watching the condition that a response must satisfy."""
    try:
        language = response_language(predicate, attributes, Budget(), read)
        table = language.dfa.verdicts()
        return lambda prompt: _Wording(language, table)
    except (NotLexical, RegexError, BudgetExceeded):
        pass  # not wording as a whole; its parts may be
    if isinstance(predicate, (All, Any)):
        inner = [watch(part, attributes, pool, read) for part in predicate.operands]
        is_all = isinstance(predicate, All)
        return lambda prompt: _Joined([begin(prompt) for begin in inner], is_all)
    if isinstance(predicate, Over):
        try:
            monitor = trace_monitor(predicate.formula, predicate.empty)
        except BudgetExceeded:
            return lambda prompt: Late()
        keys = sorted({key for p in parts_predicates(predicate.formula) for key in keys_of(p)})
        level, verdicts = predicate.level, monitor.dfa.verdicts()

        def begin(prompt: str) -> Watch:
            return _Order(
                level, monitor, lambda texts: pool.score([prompt] * len(texts), list(texts), keys), verdicts
            )

        return begin
    return lambda prompt: Late()
