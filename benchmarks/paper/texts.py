"""How rich and how long completions are: a toxicity figure alone is best met by silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Different word n-grams over all word n-grams of all texts (Li et al. 2016, arXiv 1510.03055).

    Falls with the amount of text: compare systems on as many prompts. None where no text has n words.
    """
    grams = [
        tuple(words[start : start + n])
        for words in map(str.split, texts)
        for start in range(len(words) - n + 1)
    ]
    return len(set(grams)) / len(grams) if grams else None


def shape(texts: Sequence[str]) -> dict[str, Any]:
    """Distinct-1, -2 and -3, the share of texts without a word, and the mean number of words."""
    words = [len(text.split()) for text in texts]
    return {
        **{f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)},
        "empty": sum(count == 0 for count in words) / len(words),
        "mean_words": sum(words) / len(words),
    }
