"""The regularizer and preservation terms of one micro-batch: which sites, which weights, chunk by chunk."""

from __future__ import annotations

import torch
from torch import Tensor

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.data import IGNORED_LABEL, Batch, prediction_sites
from constraintlang_runtime.groups import Group, prompt_log_potential
from constraintlang_runtime.regularizer import Divergence, target_log_probs, token_divergence
from constraintlang_runtime.settings import RegularizerConfig


def regularizer_term(
    group: Group,
    anchor: Anchor,
    batch: Batch,
    student_logits: Tensor,
    *,
    corpus_rows: Tensor,
    sampled_rows: Tensor,
    corpus_tokens: float,
    config: RegularizerConfig,
) -> Tensor:
    """ρ Σ_s w(s) D(q̂(.|s), p(.|s)) of one group, in nats (the caller divides by N).

    Corpus prefixes weigh 1 each. Sampled prefixes share the weight of the tokens that the group has in the corpus
    (``corpus_tokens``), whatever their number, so that ρ stays relative to the domain's own NLL; without corpus rows
    they weigh 1 each. ``mixed`` halves both.
    """
    share = 0.5 if config.prefixes == "mixed" else 1.0
    total = student_logits.new_zeros(())
    if config.prefixes in ("corpus", "mixed") and len(corpus_rows):
        total = total + share * _divergence_sum(group, anchor, batch, student_logits, corpus_rows, config)
    if config.prefixes in ("sampled", "mixed") and len(sampled_rows):
        # The store's mean length, not this micro-batch's: a ratio of random sums would weigh short rows more.
        sites = len(sampled_rows) * group.mean_sites or float(batch.region[sampled_rows].sum())
        scale = corpus_tokens / max(1.0, sites) if corpus_tokens > 0 else 1.0
        total = total + share * scale * _divergence_sum(
            group, anchor, batch, student_logits, sampled_rows, config
        )
    return group.weight * total


def _divergence_sum(
    group: Group,
    anchor: Anchor,
    batch: Batch,
    student_logits: Tensor,
    rows: Tensor,
    config: RegularizerConfig,
) -> Tensor:
    """Sum of the divergence over the prediction sites of some rows of the batch."""
    assert group.head is not None
    part = Batch(batch.input_ids[rows], batch.attention_mask[rows], batch.labels[rows], batch.region[rows])
    sites = prediction_sites(part.region)
    anchor_logits, features = anchor.read(part, sites)
    inputs = group.head.inputs(part, sites, features)
    student = student_logits[rows][sites]
    potential = _site_potential(group, sites, anchor_logits, inputs, config).to(student.device)
    total = student_logits.new_zeros(())
    kind: Divergence = config.divergence  # type: ignore[assignment]
    for start in range(0, len(student), config.chunk_sites):
        window = slice(start, start + config.chunk_sites)
        with torch.no_grad():
            log_potential = potential if potential.dim() == 1 else potential[window]
            value = group.head.log_values(inputs[window], log_potential)
            target = target_log_probs(anchor_logits[window], group.exponent * value)
        student_log_probs = torch.log_softmax(student[window].float(), dim=-1)
        total = total + token_divergence(student_log_probs, target, kind).sum()
    return total


def _site_potential(
    group: Group, sites: Tensor, anchor_logits: Tensor, inputs: Tensor, config: RegularizerConfig
) -> Tensor:
    """log ψ: [M] for the whole group, or [S, M] from each row's own prompt with ``--adaptive prompt``."""
    if config.adaptive != "prompt":
        return group.log_potential()
    assert group.head is not None
    row = torch.nonzero(sites)[:, 0]
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = row[1:] != row[:-1]
    with torch.no_grad():
        success = group.head.prefix_law(inputs[first], anchor_logits[first]).exp()[:, 0].cpu()
    per_row = prompt_log_potential(group, success)
    return per_row[torch.cumsum(first.long(), 0).cpu() - 1]


def preservation_term(anchor: Anchor, batch: Batch, student_logits: Tensor, rows: Tensor) -> Tensor:
    """Σ KL(p_0 ‖ p) over the trained tokens of the rows of `preserve` domains, in nats."""
    part = Batch(batch.input_ids[rows], batch.attention_mask[rows], batch.labels[rows], batch.region[rows])
    sites = prediction_sites(part.labels != IGNORED_LABEL)
    logits, _ = anchor.read(part, sites)
    width = part.input_ids.shape[1]
    student = torch.log_softmax(student_logits[rows, :width][sites].float(), dim=-1)
    target = torch.log_softmax(logits.float(), dim=-1)
    return token_divergence(student, target, "forward").sum()
