"""The regularizer and preservation terms of one micro-batch: which sites, which weights, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from constraintlang_runtime.anchor import Anchor, features_of
from constraintlang_runtime.data import IGNORED_LABEL, Batch, prediction_sites
from constraintlang_runtime.groups import Group, prompt_log_potential
from constraintlang_runtime.hard_masks import SiteMasks
from constraintlang_runtime.output_head import OutputHead, at_least_float32
from constraintlang_runtime.projection import LOG_FLOOR
from constraintlang_runtime.regularizer import Divergence, target_log_probs, token_divergence
from constraintlang_runtime.settings import RegularizerConfig
from constraintlang_runtime.vocabulary_loss import DivergenceTerm

LogitsAt = Callable[[slice | Tensor], Tensor]  # the anchor's logits at some of the sites


@dataclass(frozen=True)
class SiteTargets:
    """q̂ of a group at the prediction sites of some rows, formed for a window of the sites at a time.

    ``inputs`` [S, F] is what the auxiliary model reads, ``potential`` log ψ: [M], or [S, M] with `--adaptive prompt`.
    """

    group: Group
    inputs: Tensor
    logits_at: LogitsAt
    potential: Tensor
    masks: SiteMasks | None = None

    def log_probs(self, window: slice) -> Tensor:
        """log q̂ [m, V]."""
        with torch.no_grad():
            return target_log_probs(self.logits_at(window), self.tilt(window))

    @torch.no_grad()
    def tilt(self, window: slice) -> Tensor:
        """γ log V [m, V]; no more than -Λ at tokens that a hard clause forbids, whatever was learned of them."""
        value = self.group.exponent * self._log_value(window)
        if self.masks is not None:
            forbidden = self.masks.forbidden(window, value.shape[1], value.device)
            value = torch.where(forbidden, value.clamp_max(-LOG_FLOOR), value)
        return value

    def _log_value(self, window: slice) -> Tensor:
        """log V [m, V]; the law over M bins is formed for m/M sites at a time, and so is no larger."""
        head, parts = self.group.head, []
        assert head is not None
        step = max(1, (window.stop - window.start) // (1 if head.num_bins == 2 else head.num_bins))
        for start in range(window.start, window.stop, step):
            part = slice(start, min(start + step, window.stop))
            potential = self.potential if self.potential.dim() == 1 else self.potential[part]
            parts.append(head.log_values(self.inputs[part], potential))
        return torch.cat(parts) if len(parts) > 1 else parts[0]


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
    """ρ Σ_s w(s) D(q̂(.|s), p(.|s)) of one group, in nats (the caller divides by N); ``weighted_rows`` has the w."""
    total = student_logits.new_zeros(())
    weighted = weighted_rows(group, batch, corpus_rows, sampled_rows, corpus_tokens, config)
    for rows, weight in weighted:
        total = total + weight * _divergence_sum(group, anchor, batch, student_logits, rows, config)
    return group.weight * total


def regularizer_parts(
    group: Group,
    anchor: Anchor,
    head: OutputHead,
    batch: Batch,
    places: Tensor,
    *,
    corpus_rows: Tensor,
    sampled_rows: Tensor,
    corpus_tokens: float,
    config: RegularizerConfig,
    own_states: Tensor | None = None,
) -> list[DivergenceTerm]:
    """``regularizer_term`` as parts of a pass over the vocabulary; ``head`` is the anchor's.

    ``places`` [B, T] are the numbers of the batch's positions among the sites of the pass. Rows must ascend.
    ``own_states`` [B, T, H] are the student's last hidden states, where it is its own anchor: then nothing is read.
    """
    kind: Divergence = config.divergence  # type: ignore[assignment]
    parts = []
    weighted = weighted_rows(group, batch, corpus_rows, sampled_rows, corpus_tokens, config)
    for rows, weight in weighted:
        part = batch.rows(rows)
        sites = prediction_sites(part.region)
        own = None if own_states is None else own_states[rows]
        features = anchor.features(part, sites) if own is None else features_of(own, sites)
        targets = _targets(group, part, sites, features, _logits_of(head, features), config)
        parts.append(
            DivergenceTerm(
                places[rows][sites], targets.log_probs if own is None else targets.tilt, kind, config.alpha,
                group.weight * weight, tilts_own=own is not None,
            )
        )  # fmt: skip
    return parts


def weighted_rows(
    group: Group,
    batch: Batch,
    corpus_rows: Tensor,
    sampled_rows: Tensor,
    corpus_tokens: float,
    config: RegularizerConfig,
) -> list[tuple[Tensor, float]]:
    """The rows on whose prefixes the group's regularizer acts, and what each of their sites weighs against ρ.

    Corpus prefixes weigh 1 each, also those of rows that the loss leaves out. Sampled prefixes share the weight of the
    tokens that the group has in the corpus (``corpus_tokens``), whatever their number, so that ρ stays
    relative to the domain's own NLL; without corpus rows they weigh 1 each. ``mixed`` halves both.
    """
    share = 0.5 if config.prefixes == "mixed" else 1.0
    found = []
    if config.prefixes in ("corpus", "mixed") and len(corpus_rows):
        found.append((corpus_rows, share))
    if config.prefixes in ("sampled", "mixed") and len(sampled_rows):
        # The store's mean length, not this micro-batch's: a ratio of random sums would weigh short rows more.
        sites = len(sampled_rows) * group.mean_sites or float(batch.region[sampled_rows].sum())
        scale = corpus_tokens / max(1.0, sites) if corpus_tokens > 0 else 1.0
        found.append((sampled_rows, share * scale))
    return found


def _divergence_sum(
    group: Group,
    anchor: Anchor,
    batch: Batch,
    student_logits: Tensor,
    rows: Tensor,
    config: RegularizerConfig,
) -> Tensor:
    """Sum of the divergence over the prediction sites of some rows of the batch."""
    part = batch.rows(rows)
    sites = prediction_sites(part.region)
    anchor_logits, features = anchor.read(part, sites)
    student = student_logits[rows][sites]
    targets = _targets(group, part, sites, features, anchor_logits.__getitem__, config)
    total = student_logits.new_zeros(())
    kind: Divergence = config.divergence  # type: ignore[assignment]
    for start in range(0, len(student), config.chunk_sites):
        window = slice(start, min(start + config.chunk_sites, len(student)))
        student_log_probs = torch.log_softmax(at_least_float32(student[window]), dim=-1)
        target = targets.log_probs(window)
        total = total + token_divergence(student_log_probs, target, kind, config.alpha).sum()
    return total


def _logits_of(head: OutputHead, features: Tensor) -> LogitsAt:
    """The anchor's logits from its features, whose first half is the last hidden state."""
    return partial(_logits_at, head.cast(), features[:, : head.weight.shape[1]])


@torch.no_grad()
def _logits_at(head: OutputHead, hidden: Tensor, where: slice | Tensor) -> Tensor:
    return head.logits(hidden[where])


def _targets(
    group: Group, part: Batch, sites: Tensor, features: Tensor, logits_at: LogitsAt, config: RegularizerConfig
) -> SiteTargets:
    """The targets at the sites of ``part``; the one place where features become what the auxiliary model reads."""
    assert group.head is not None
    inputs = group.head.inputs(part, sites, features)
    potential = group.log_potential()
    if config.adaptive == "prompt":
        potential = _prompt_potential(group, sites, inputs, logits_at, config.chunk_sites)
    masks = None if group.masks is None else group.masks.along(part, sites)
    return SiteTargets(group, inputs, logits_at, potential.to(inputs.device), masks)


def _prompt_potential(group: Group, sites: Tensor, inputs: Tensor, logits_at: LogitsAt, chunk: int) -> Tensor:
    """log ψ [S, M] from each row's own prompt, for ``--adaptive prompt``."""
    assert group.head is not None
    row = torch.nonzero(sites)[:, 0]
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = row[1:] != row[:-1]
    with torch.no_grad():
        success = [
            group.head.prefix_law(inputs[some], logits_at(some)).exp()[:, 0].cpu()
            for some in torch.nonzero(first).squeeze(1).split(max(1, chunk // group.head.num_bins))
        ]
    per_row = prompt_log_potential(group, torch.cat(success))
    return per_row[torch.cumsum(first.long(), 0).cpu() - 1]


def preservation_term(anchor: Anchor, batch: Batch, student_logits: Tensor, rows: Tensor) -> Tensor:
    """Σ KL(p_0 ‖ p) over the trained tokens of the rows of `preserve` domains, in nats."""
    part = batch.rows(rows)
    sites = prediction_sites(part.labels != IGNORED_LABEL)
    logits, _ = anchor.read(part, sites)
    width = part.input_ids.shape[1]
    student = torch.log_softmax(at_least_float32(student_logits[rows, :width][sites]), dim=-1)
    target = torch.log_softmax(at_least_float32(logits), dim=-1)
    return token_divergence(student, target, "forward").sum()


def preservation_part(
    anchor: Anchor, head: OutputHead, batch: Batch, places: Tensor, rows: Tensor, weight: float
) -> DivergenceTerm:
    """``preservation_term`` times a weight, as a part of a pass over the vocabulary; ``head`` is the anchor's."""
    part = batch.rows(rows)
    sites = prediction_sites(part.labels != IGNORED_LABEL)
    logits_at = _logits_of(head, anchor.features(part, sites))
    width = part.input_ids.shape[1]
    return DivergenceTerm(
        places[rows, :width][sites],
        lambda window: torch.log_softmax(logits_at(window), dim=-1),
        "forward",
        weight=weight,
    )
