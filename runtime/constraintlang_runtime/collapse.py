"""Warnings when a model's replies have collapsed against the start model's: silence, refusals, brevity, repetition.

Texts are compared on the same prompts. Rates, lengths and the most common reply are tested prompt by prompt: among the
prompts on which the two differ, how many got worse, by the exact one-sided sign test at ``LEVEL`` (for one reply per
prompt McNemar's test). A rise must also be large enough to matter. The share of word pairs has a plain threshold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from constraintlang_runtime.degeneracy import degeneracy
from constraintlang_runtime.refusals import is_refusal

LEVEL = 0.001  # of each test: a false alarm fails a build that asks for `holds`
RATE_RISE = 0.01  # of the empty rate and of the refusal rate
LENGTH_FALL = 0.25  # of the mean number of words, relative
DISTINCT_FALL = 0.25  # of the share of different word pairs, relative
COMMON_RISE = 0.1  # of the share of the most frequent reply
COMPARED_PROMPTS = 256  # of each domain: what the start model is asked for the comparison alone


@dataclass
class Replies:
    """Replies to the prompts of one domain, and those of the start model to the first of them."""

    own: list[list[str]] = field(default_factory=list)
    base: list[list[str]] = field(default_factory=list)
    own_of_base: list[list[str]] = field(default_factory=list)

    def add(self, own: list[str], base: list[str] | None) -> None:
        """The replies to one prompt."""
        self.own.append(own)
        if base is not None:
            self.base.append(base)
            self.own_of_base.append(own)

    def summary(self) -> dict[str, Any]:
        """The figures of all replies, and of both models on the prompts that both answered."""
        found: dict[str, Any] = {"model": degeneracy(_flat(self.own))}
        if self.base:
            found["model_compared"] = degeneracy(_flat(self.own_of_base))
            found["base"] = degeneracy(_flat(self.base))
        return found


def warnings_of(replies: Replies) -> list[str]:
    """One sentence for each figure that got worse than the start model's, the strongest sign first."""
    if not replies.base:
        return []
    now, then = degeneracy(_flat(replies.own_of_base)), degeneracy(_flat(replies.base))
    found = []
    for name, what, of in (
        ("empty_rate", "empty replies", lambda text: not text.split()),
        ("refusal_rate", "refusals", is_refusal),
    ):
        new, old = float(now[name] or 0), float(then[name] or 0)
        if new - old >= RATE_RISE and _got_worse(replies, of):
            found.append(f"{what} rose from {100 * old:.3g}% to {100 * new:.3g}%")
    new, old = float(now["mean_words"] or 0), float(then["mean_words"] or 0)
    if new < (1 - LENGTH_FALL) * old and _got_worse(replies, lambda text: -len(text.split())):
        found.append(f"replies shrank from {old:.3g} to {new:.3g} words")
    new, old = float(now["distinct_2"] or 0), float(then["distinct_2"] or 0)
    if new < (1 - DISTINCT_FALL) * old:
        found.append(f"different word pairs fell from {100 * old:.3g}% to {100 * new:.3g}%")
    new, old = float(now["most_common_share"] or 0), float(then["most_common_share"] or 0)
    common = Counter(_flat(replies.own_of_base)).most_common(1)
    if new - old >= COMMON_RISE and _got_worse(replies, lambda text: text == common[0][0]):
        found.append(f"one reply is {100 * new:.3g}% of all, it was {100 * old:.3g}%")
    return [f"{sentence} (start model on the same prompts)" for sentence in found]


def _got_worse(replies: Replies, of: Callable[[str], float]) -> bool:
    """Sign test of ``P(worse) <= P(better)`` over the prompts on which the means of ``of`` differ."""
    from scipy.stats import binom

    worse = better = 0
    for own, base in zip(replies.own_of_base, replies.base, strict=True):
        new, old = sum(map(of, own)) / len(own), sum(map(of, base)) / len(base)
        worse, better = worse + (new > old), better + (new < old)
    return bool(binom.sf(worse - 1, worse + better, 0.5) <= LEVEL) if worse else False


def _flat(replies: Sequence[Sequence[str]]) -> list[str]:
    return [text for texts in replies for text in texts]
