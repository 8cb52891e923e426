"""One micro-batch of a step: corpus rows, sampled rows after them, and what the loss is to say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.data import IGNORED_LABEL, Batch, prediction_sites
from constraintlang_runtime.groups import Group
from constraintlang_runtime.penalty import weighted_rows
from constraintlang_runtime.settings import RegularizerConfig


@dataclass(frozen=True)
class GroupRows:
    """Where one group's regularizer acts in a micro-batch; numbers as in ``weighted_rows``."""

    group: Group
    corpus_rows: Tensor
    sampled_rows: Tensor
    corpus_tokens: float


@dataclass(frozen=True)
class MicroBatch:
    """Corpus rows, sampled rows after them, and what the loss is to say of them.

    The language model's loss is on the labels of ``joined``. Those of ``corpus`` are the ones before rows were left
    out, and say which tokens of the ``preserved`` rows are held to the start model, by their weight κ. ``row_weights``
    is what each row of ``corpus`` weighs in the language model's loss; 1 where there are none.
    """

    corpus: Batch
    joined: Batch
    groups: Sequence[GroupRows] = ()
    anchor: Anchor | None = None
    preserved: Sequence[tuple[Tensor, float]] = ()
    start_anchor: Anchor | None = None
    row_weights: Tensor | None = None

    def anchor_passes(self, config: RegularizerConfig) -> int:
        """How often the reference is read for the groups' terms."""
        return sum(
            len(
                weighted_rows(
                    part.group, self.joined, part.corpus_rows, part.sampled_rows, part.corpus_tokens, config
                )
            )
            for part in self.groups
        )

    def sites(self, config: RegularizerConfig) -> Tensor:
        """Positions [B, T] of ``joined`` at which some term needs the student's distribution."""
        wanted = prediction_sites(self.joined.labels != IGNORED_LABEL)
        completions = prediction_sites(self.joined.region)
        for part in self.groups:
            weighted = weighted_rows(
                part.group, self.joined, part.corpus_rows, part.sampled_rows, part.corpus_tokens, config
            )
            for rows, _ in weighted:
                wanted[rows] |= completions[rows]
        held = prediction_sites(self.corpus.labels != IGNORED_LABEL)
        for rows, _ in self.preserved:
            wanted[rows, : held.shape[1]] |= held[rows]
        return wanted
