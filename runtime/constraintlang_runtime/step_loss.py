"""The loss of one micro-batch, language model, regularizer and preservation, on the plain or on the chunked path."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.data import IGNORED_LABEL, Batch, next_tokens, prediction_sites
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.output_head import OutputHead
from constraintlang_runtime.packing import layout
from constraintlang_runtime.penalty import (
    preservation_part,
    preservation_term,
    regularizer_parts,
    regularizer_term,
    weighted_rows,
)
from constraintlang_runtime.regularizer import language_model_loss
from constraintlang_runtime.settings import RegularizerConfig
from constraintlang_runtime.vocabulary_loss import LabelTerm, Term, vocabulary_loss

logger = logging.getLogger(__name__)
PROBES = 4  # sites at which the model's own logits are compared with the head's


@dataclass(frozen=True)
class GroupRows:
    """Where one group's regularizer acts in a micro-batch; ``corpus_tokens`` as in ``weighted_rows``."""

    group: Group
    corpus_rows: Tensor
    sampled_rows: Tensor
    corpus_tokens: float


@dataclass(frozen=True)
class MicroBatch:
    """Corpus rows, sampled rows after them, and what the loss is to say of them.

    ``preserved`` are corpus rows held to the start model, by their weight κ.
    """

    corpus: Batch
    joined: Batch
    groups: Sequence[GroupRows] = ()
    anchor: Anchor | None = None
    preserved: Sequence[tuple[Tensor, float]] = ()
    start_anchor: Anchor | None = None

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
        return wanted


@dataclass(frozen=True)
class StepLoss:
    """``total`` is Σ over tokens, to be divided by N; the rest are its detached parts, the preservation term without
    its weight.
    """

    total: Tensor
    language_model: float
    regularizer: dict[str, float] = field(default_factory=dict)
    preservation: float | None = None
    outputs: Any = None


def plain_loss(model: Any, batch: MicroBatch, config: RegularizerConfig) -> StepLoss:
    """Through the model's own logits at every position: the least work for few tokens, the most memory for many."""
    joined, corpus = batch.joined, batch.corpus
    made = layout(joined)
    outputs = model(**made.inputs)
    logits = made.to_rows(outputs.logits)
    own = language_model_loss(logits[: len(corpus.labels), : corpus.labels.shape[1]], corpus.labels, 1.0)
    total, terms = own, {}
    kept: float | None = None
    for part in batch.groups:
        assert batch.anchor is not None
        term = regularizer_term(
            part.group, batch.anchor, joined, logits, corpus_rows=part.corpus_rows, sampled_rows=part.sampled_rows,
            corpus_tokens=part.corpus_tokens, config=config,
        )  # fmt: skip
        total = total + term
        terms[part.group.name] = float(term.detach())
    for rows, weight in batch.preserved:
        assert batch.start_anchor is not None
        term = preservation_term(batch.start_anchor, corpus, logits, rows)
        total, kept = total + weight * term, (kept or 0.0) + float(term.detach())
    return StepLoss(total, float(own.detach()), terms, kept, outputs)


class ChunkedLoss:
    """The same loss through ``vocabulary_loss``: hidden states of the student, one chunk of logits at a time.

    ``student`` is the model inside any wrapper of a distributed trainer. Where its logits are not its output embeddings
    of the last hidden state with the configuration's scale and soft cap, ``supports`` is false from the first
    comparison on, or it is a ConfigError with ``--loss chunked``.
    """

    def __init__(self, student: Any, config: RegularizerConfig) -> None:
        self._student, self._config = student, config
        self._compared = False
        self.supports = OutputHead.of(student) is not None
        if not self.supports:
            self._refuse("its output embeddings are not one whole matrix of floats")

    def __call__(self, model: Any, batch: MicroBatch, sites: Tensor) -> StepLoss | None:
        """The loss, or None when this model turns out not to be supported; ``sites`` [B, T] from ``MicroBatch``."""
        hidden = self._hidden(model, batch.joined, sites)
        if hidden is None:
            return None
        head = OutputHead.of(self._student)
        assert head is not None
        places = (sites.flatten().cumsum(0) - 1).view(sites.shape)
        labelled = prediction_sites(batch.joined.labels != IGNORED_LABEL)
        terms: list[Term] = [LabelTerm(places[labelled], next_tokens(batch.joined.input_ids, labelled))]
        owners: list[str | None] = [None]
        for part in batch.groups:
            assert batch.anchor is not None
            anchor_head = batch.anchor.output_head()
            assert anchor_head is not None
            parts = regularizer_parts(
                part.group, batch.anchor, anchor_head, batch.joined, places, corpus_rows=part.corpus_rows,
                sampled_rows=part.sampled_rows, corpus_tokens=part.corpus_tokens, config=self._config,
            )  # fmt: skip
            terms += parts
            owners += [part.group.name] * len(parts)
        for rows, weight in batch.preserved:
            assert batch.start_anchor is not None
            start_head = batch.start_anchor.output_head()
            assert start_head is not None
            terms.append(
                preservation_part(batch.start_anchor, start_head, batch.corpus, places, rows, weight)
            )
        total, sums = vocabulary_loss(hidden, head, terms, self._config.chunk_sites)
        values = sums.tolist()
        regularizer = {part.group.name: 0.0 for part in batch.groups}
        for owner, value in zip(owners[1:], values[1 : len(owners)], strict=True):
            regularizer[str(owner)] += value
        kept = zip(values[len(owners) :], batch.preserved, strict=True)
        preservation = sum(value / weight for value, (_, weight) in kept) if batch.preserved else None
        return StepLoss(total, values[0], regularizer, preservation)

    def _hidden(self, model: Any, batch: Batch, sites: Tensor) -> Tensor | None:
        """Last hidden states [S, H] at the sites; the model itself forms logits at ``PROBES`` of them only."""
        found: list[Tensor] = []
        made = layout(batch)

        def take(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            found.append(made.to_rows(args[0])[sites])
            return (found[-1][:PROBES][None], *args[1:])

        handle = self._student.get_output_embeddings().register_forward_pre_hook(take)
        try:
            logits = model(**made.inputs).logits
        finally:
            handle.remove()
        if not self._compared:
            self._compared = True
            reason = self._difference(found, logits)
            if reason is not None:
                self.supports = False
                self._refuse(reason)
                return None
        return found[-1]

    @torch.no_grad()
    def _difference(self, found: list[Tensor], logits: Tensor) -> str | None:
        """Why the head alone does not give the model's logits, if it does not."""
        if len(found) != 1:
            return f"its output embeddings were called {len(found)} times in one pass"
        head = OutputHead.of(self._student)
        assert head is not None
        mine, its = head.cast().logits(found[0][:PROBES]), logits[0].float()
        difference = float((mine - its).abs().max()) if mine.shape == its.shape else float("inf")
        rounding = torch.finfo(head.compute_dtype()).eps * 4
        if difference > max(1e-3, rounding) * max(1.0, float(its.abs().max())):
            return f"its logits are not its output embeddings of the last hidden state (difference {difference:.3g})"
        return None

    def _refuse(self, reason: str) -> None:
        message = f"`loss: chunked` cannot be used with {type(self._student).__name__}: {reason}"
        if self._config.loss == "chunked":
            raise ConfigError(message, help="use --loss plain")
        logger.warning("%s; the plain path is used, which holds the logits of all tokens", message)
