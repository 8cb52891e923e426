"""The loss of one micro-batch and its parts, through the model's own logits; ``chunked_loss.py`` is for many tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from constraintlang_runtime.micro_batch import MicroBatch
from constraintlang_runtime.packing import layout
from constraintlang_runtime.penalty import preservation_term, regularizer_term
from constraintlang_runtime.regularizer import language_model_loss
from constraintlang_runtime.settings import RegularizerConfig


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
