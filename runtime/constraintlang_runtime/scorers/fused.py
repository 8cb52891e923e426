"""Word lists, patterns and lengths of a policy together: one automaton for all lists, one for all patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.monitors.lexicons import folded
from constraintlang_runtime.scorers.length import LengthScorer
from constraintlang_runtime.scorers.lexicon import LexiconScorer
from constraintlang_runtime.scorers.protocol import Scorer
from constraintlang_runtime.scorers.regex import RegexScorer

SET_MEMORY = 256 << 20  # bytes that RE2 may use for one set; a set that runs out of them finds nothing
SET_SIZE = 64  # patterns

Floats = NDArray[np.float64]


def is_quick(scorer: Scorer) -> bool:
    """Whether scoring a text costs less than remembering its score."""
    return isinstance(scorer, (LexiconScorer, RegexScorer, LengthScorer))


class FusedScorers:
    """The scores that quick scorers give, from one pass over each text for all word lists and one for all patterns."""

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        self._lists = {name: s for name, s in scorers.items() if isinstance(s, LexiconScorer)}
        self._patterns = {name: s for name, s in scorers.items() if isinstance(s, RegexScorer)}
        self._lengths = {name: s for name, s in scorers.items() if isinstance(s, LengthScorer)}
        self._automaton = _joint_automaton(list(self._lists.values()))
        chosen = list(self._patterns.items())
        self._sets = [_PatternSet(dict(chosen[i : i + SET_SIZE])) for i in range(0, len(chosen), SET_SIZE)]

    def __call__(self, texts: Sequence[str]) -> dict[str, Floats]:
        """Scores [n] of every scorer."""
        found: dict[str, Floats] = {}
        if self._lists:
            found |= dict(zip(self._lists, self._occurrences(texts), strict=True))
        for patterns in self._sets:
            found |= patterns(texts)
        for name, scorer in self._lengths.items():
            found[name] = np.fromiter(map(scorer.count, texts), np.float64, len(texts))
        return found

    def _occurrences(self, texts: Sequence[str]) -> Floats:
        """The sums of the weights [lists, n]."""
        scorers = list(self._lists.values())
        totals = np.zeros((len(scorers), len(texts)))
        matches = self._automaton.iter
        for row, text in enumerate(texts):
            text = folded(text)
            last = len(text) - 1
            sums: dict[int, float] = {}
            for end, (length, hits) in matches(text):
                start = end - length
                if start >= 0 and ((before := text[start]).isalnum() or before == "_"):
                    continue
                if end < last and ((after := text[end + 1]).isalnum() or after == "_"):
                    continue
                for column, weight in hits:
                    sums[column] = sums.get(column, 0.0) + weight
            for column, total in sums.items():
                totals[column, row] = scorers[column].of_sum(total)
        return totals


class _PatternSet:
    """Patterns that are looked for together; those that count are counted where they occur."""

    def __init__(self, scorers: Mapping[str, RegexScorer]) -> None:
        import re2

        self._scorers = dict(scorers)
        self._set = None
        if len(scorers) > 1:
            options = re2.Options()
            options.log_errors, options.max_mem = False, SET_MEMORY
            self._set = re2.Set.SearchSet(options)
            for scorer in scorers.values():
                self._set.Add(scorer.text)
            try:
                self._set.Compile()
            except re2.error:  # too large together: each by itself
                self._set = None

    def __call__(self, texts: Sequence[str]) -> dict[str, Floats]:
        if self._set is None:
            return {
                name: np.fromiter(map(scorer.score, texts), np.float64, len(texts))
                for name, scorer in self._scorers.items()
            }
        members = list(self._scorers.values())
        totals = np.zeros((len(members), len(texts)))
        match = self._set.Match
        for row, text in enumerate(texts):
            for column in match(text.encode("utf-8", "replace")) or ():
                totals[column, row] = members[column].score(text)
        return dict(zip(self._scorers, totals, strict=True))


def _joint_automaton(scorers: Sequence[LexiconScorer]) -> Any:
    """One automaton of all entries; each knows its length and the lists that hold it, with their weights."""
    import ahocorasick

    owners: dict[str, list[tuple[int, float]]] = {}
    for column, scorer in enumerate(scorers):
        for entry, weight in scorer.entries.items():
            owners.setdefault(entry, []).append((column, weight))
    automaton = ahocorasick.Automaton()
    for entry, hits in owners.items():
        automaton.add_word(entry, (len(entry), tuple(hits)))
    automaton.make_automaton()
    return automaton
