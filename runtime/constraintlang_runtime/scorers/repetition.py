"""Measures how often a text repeats groups of neighbouring words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from constraintlang.vocabulary import REPETITION
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.protocol import TEXT_ALONE

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place


class RepetitionScorer:
    """``distinct_n`` = U / N and ``repeated_n`` = 1 - U / N, in [0, 1].

    N is the number of groups of n neighbouring words, U how many of them differ; words are separated by white space
    and compared without case. A text of fewer than n words, an empty one too, has no group and repeats nothing:
    distinct 1, repeated 0. Linear in the text but for one sort of its words.

    Source: distinct-n of Li et al. (2016), "A Diversity-Promoting Objective Function for Neural Conversation Models";
    repeated-n is seq-rep-n of Welleck et al. (2020), "Neural Text Generation with Unlikelihood Training".
    """

    terms = TEXT_ALONE

    def __init__(self, measure: str) -> None:
        if measure not in REPETITION:
            raise ConfigError(f"repetition: got {measure!r}, expected one of {', '.join(REPETITION)}")
        kind, _, n = measure.partition("_")
        self.n = int(n)
        self.repeated = kind == "repeated"

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [self.score(text) for text in completions]

    def score(self, text: str) -> float:
        """The score of one text."""
        words = text.casefold().split()
        groups = len(words) - self.n + 1
        distinct = 1.0 if groups < 1 else _count_distinct(words, self.n) / groups
        return 1.0 - distinct if self.repeated else distinct


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> RepetitionScorer:
    """The scorer of `repetition(MEASURE)`."""
    return RepetitionScorer(backend.arguments[0])


def _count_distinct(words: Sequence[str], n: int) -> int:
    """How many groups of n neighbouring words differ; numbers instead of tuples, for texts of millions of words."""
    numbers: dict[str, int] = {}
    single = np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), np.int64, len(words))
    group = single
    for width in range(1, n):
        pairs = group[:-1] * len(numbers) + single[width:]
        group = np.unique(pairs, return_inverse=True)[1]  # numbers below the count of words: no overflow
    return int(group.max()) + 1
