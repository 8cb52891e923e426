"""How far a system's completions have collapsed: a policy is easily obeyed by a model that says nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from .refusals import is_refusal


def degeneracy(completions: Sequence[str]) -> dict[str, float | int | None]:
    """How far completions have collapsed: silence, shortness, repetition and sameness.

    ``num_completions``; ``empty_rate`` of completions without a word; ``mean_words``; ``distinct_2``, the
    share of different word pairs among all word pairs of all completions (Li et al. 2016, arXiv 1510.03055);
    ``refusal_rate`` of completions that begin like a refusal in English (``refusals.py``);
    ``most_common_share`` of completions equal to the most frequent one. None where there is nothing to divide
    by. ``distinct_2`` falls with the amount of text: compare systems on the same number of completions.
    """
    words = [completion.split() for completion in completions]
    pairs = [pair for row in words for pair in pairwise(row)]
    total = len(completions)
    return {
        "num_completions": total,
        "empty_rate": sum(not row for row in words) / total if total else None,
        "refusal_rate": sum(map(is_refusal, completions)) / total if total else None,
        "mean_words": sum(map(len, words)) / total if total else None,
        "distinct_2": len(set(pairs)) / len(pairs) if pairs else None,
        "most_common_share": Counter(completions).most_common(1)[0][1] / total if total else None,
    }
