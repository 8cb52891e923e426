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
    its weight. ``router`` is the load-balancing loss of a mixture of experts, a mean, with its coefficient.
    """

    total: Tensor
    language_model: float
    regularizer: dict[str, float] = field(default_factory=dict)
    preservation: float | None = None
    outputs: Any = None
    router: Tensor | None = None


def router_loss(model: Any, outputs: Any) -> Tensor | None:
    """What transformers adds to the loss of a mixture of experts with ``output_router_logits``, None elsewhere."""
    found = getattr(outputs, "aux_loss", None)
    config = getattr(model, "module", model).config.get_text_config()
    return None if found is None else getattr(config, "router_aux_loss_coef", 0.0) * found


def plain_loss(model: Any, batch: MicroBatch, config: RegularizerConfig) -> StepLoss:
    """Through the model's own logits at every position: the least work for few tokens, the most memory for many."""
    joined, corpus = batch.joined, batch.corpus
    made = layout(joined)
    outputs = model(**made.inputs)
    logits = made.to_rows(outputs.logits)
    rows, width = corpus.labels.shape
    own = language_model_loss(logits[:rows, :width], joined.labels[:rows, :width], 1.0, batch.row_weights)
    total, terms = own, {}
    kept: float | None = None
    if batch.groups:
        assert batch.anchor is not None
        with batch.anchor.in_step(batch.anchor_passes(config)):
            for part in batch.groups:
                term = regularizer_term(
                    part.group, batch.anchor, joined, logits, corpus_rows=part.corpus_rows,
                    sampled_rows=part.sampled_rows, corpus_tokens=part.corpus_tokens, config=config,
                )  # fmt: skip
                total = total + term
                terms[part.group.name] = float(term.detach())
    if batch.start_anchor is not None:
        with batch.start_anchor.in_step(len(batch.preserved)):
            for held, weight in batch.preserved:
                term = preservation_term(batch.start_anchor, corpus, logits, held)
                total, kept = total + weight * term, (kept or 0.0) + float(term.detach())
    return StepLoss(total, float(own.detach()), terms, kept, outputs, router_loss(model, outputs))
