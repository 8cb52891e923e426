"""Says how hard an English text is to read, by six published formulas."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from constraintlang.segments import sentences
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.extras import library
from constraintlang_runtime.scorers.protocol import TEXT_ALONE

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place

WORD = re.compile(r"\w+(?:['’-]\w+)*")
VOWELS = re.compile(r"[aeiouy]+")
LONGEST_WORD = 40  # letters; what is longer is no word that hyphenation knows
REMEMBERED_WORDS = 100_000


@dataclass(frozen=True)
class Counts:
    """What the formulas are made of, of a text with at least one word."""

    sentences: int
    words: int
    letters: int
    characters: int  # letters and digits
    syllables: int
    polysyllables: int  # words of three syllables or more


FORMULAS: dict[str, Callable[[Counts], float]] = {
    "flesch_reading_ease": lambda c: 206.835 - 1.015 * c.words / c.sentences - 84.6 * c.syllables / c.words,
    "flesch_kincaid_grade": lambda c: 0.39 * c.words / c.sentences + 11.8 * c.syllables / c.words - 15.59,
    "gunning_fog": lambda c: 0.4 * (c.words / c.sentences + 100 * c.polysyllables / c.words),
    "smog_index": lambda c: 1.043 * math.sqrt(30 * c.polysyllables / c.sentences) + 3.1291,
    "coleman_liau_index": lambda c: (
        0.0588 * 100 * c.letters / c.words - 0.296 * 100 * c.sentences / c.words - 15.8
    ),
    "automated_readability_index": lambda c: (
        4.71 * c.characters / c.words + 0.5 * c.words / c.sentences - 21.43
    ),
}


class ReadabilityScorer:
    """A readability formula, cut to the attribute's range: a text of one endless word has no sensible grade.

    With W words, S sentences (those that `over sentences` speaks of), L letters, C letters and digits, Y syllables and
    P words of three syllables or more:

    - flesch_reading_ease = 206.835 - 1.015 W/S - 84.6 Y/W (Flesch, 1948; higher is easier)
    - flesch_kincaid_grade = 0.39 W/S + 11.8 Y/W - 15.59 (Kincaid et al., 1975)
    - gunning_fog = 0.4 (W/S + 100 P/W) (Gunning, 1952; names and compounds are not left out)
    - smog_index = 1.043 sqrt(30 P/S) + 3.1291 (McLaughlin, 1969; meant for 30 sentences)
    - coleman_liau_index = 5.88 L/W - 29.6 S/W - 15.8 (Coleman and Liau, 1975)
    - automated_readability_index = 4.71 C/W + 0.5 W/S - 21.43 (Senter and Smith, 1967)

    Syllables are one more than the places where pyphen's American English patterns part a word, which is a little
    below a dictionary's count. Nothing is downloaded. None for a text without words.
    """

    terms = TEXT_ALONE

    def __init__(self, formula: str, *, low: float = -math.inf, high: float = math.inf) -> None:
        if formula not in FORMULAS:
            raise ConfigError(f"readability: got {formula!r}, expected one of {', '.join(FORMULAS)}")
        pyphen = library("pyphen", backend="readability", extra="text")
        self._hyphenation = pyphen.Pyphen(lang="en_US")
        self._formula = FORMULAS[formula]
        self._low, self._high = low, high
        self._syllables: dict[str, int] = {}

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [self.score(text) for text in completions]

    def score(self, text: str) -> float | None:
        """The score of one text."""
        counts = self.counts(text)
        return None if counts is None else min(max(self._formula(counts), self._low), self._high)

    def counts(self, text: str) -> Counts | None:
        """What is counted in a text; None without words."""
        words = WORD.findall(text)
        if not words:
            return None
        syllables = [self.syllables(word) for word in words]
        return Counts(
            sentences=max(1, len(sentences(text))),
            words=len(words),
            letters=sum(map(str.isalpha, text)),
            characters=sum(map(str.isalnum, text)),
            syllables=sum(syllables),
            polysyllables=sum(count >= 3 for count in syllables),
        )

    def syllables(self, word: str) -> int:
        """How many syllables a word has, at least one."""
        if len(word) > LONGEST_WORD:
            return max(1, len(VOWELS.findall(word.lower())))
        word = word.lower()
        count = self._syllables.get(word)
        if count is None:
            if len(self._syllables) >= REMEMBERED_WORDS:
                self._syllables.clear()
                self._hyphenation.hd.cache.clear()  # pyphen's own memory has no limit
            count = self._syllables[word] = len(self._hyphenation.positions(word)) + 1
        return count


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> ReadabilityScorer:
    """The scorer of `readability(FORMULA)`."""
    low, high = (
        limit if bound is None else float(bound)
        for bound, limit in ((attribute.low, -math.inf), (attribute.high, math.inf))
    )
    return ReadabilityScorer(backend.arguments[0], low=low, high=high)
