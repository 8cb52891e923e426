"""The token-level regularizer: closed-form target and its divergence from the student, as pure functions.

Axes: ``S`` prediction sites (flat; one site predicts one next token), ``V`` vocabulary, ``M`` bins of the statistic.
All logarithms are natural; all divergences are in nats per site.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Divergence = Literal["forward", "reverse", "js"]


def log_values(
    bin_log_probs: Float[Tensor, "S V M"], log_potential: Float[Tensor, "*S_or_1 M"]
) -> Float[Tensor, "S V"]:
    """Log of the expected potential of every one-token continuation.

    Equation: log V(s·v) = log Σ_m π_m(s·v) ψ_m, with π = exp(bin_log_probs), ψ = exp(log_potential).
    Shapes: ``log_potential`` is [M] (one for all sites) or [S, M] (one per site, `--adaptive prompt`).
    Gradient: through both arguments; callers detach.
    Source: method.md section 3.
    """
    potential = log_potential if log_potential.dim() == 1 else log_potential[:, None, :]
    return torch.logsumexp(bin_log_probs + potential, dim=-1)


def target_log_probs(
    anchor_logits: Float[Tensor, "S V"], log_value: Float[Tensor, "S V"]
) -> Float[Tensor, "S V"]:
    """The projected next-token distribution.

    Equation: q̂(v|s) = p_ref(v|s) V(s·v) / Σ_u p_ref(u|s) V(s·u); returned as log-probabilities.
    A constant ``log_value`` (vacuous clause, dead prefix, λ=0) gives q̂ = p_ref.
    A caller whose V is only an estimate passes γ log V (``fitting.potential_exponent``).
    Source: method.md section 2; self-normalised, so an error in V(s) itself cancels.
    """
    return torch.log_softmax(anchor_logits.float() + log_value, dim=-1)


def token_divergence(
    student_log_probs: Float[Tensor, "S V"],
    target: Float[Tensor, "S V"],
    divergence: Divergence,
) -> Float[Tensor, " S"]:
    """Divergence between the target and the student at every site.

    Equation: forward KL(q̂‖p) = Σ_v q̂ (log q̂ - log p); reverse KL(p‖q̂) = Σ_v p (log p - log q̂);
    js = ½ KL(p‖m) + ½ KL(q̂‖m) with m = (p + q̂)/2.
    Units: nats. Gradient: through both arguments; pass a detached ``target``.
    Raises: ValueError for another divergence.
    """
    if divergence == "forward":
        return (target.exp() * (target - student_log_probs)).sum(-1)
    if divergence == "reverse":
        return (student_log_probs.exp() * (student_log_probs - target)).sum(-1)
    if divergence == "js":
        mixture = torch.logaddexp(student_log_probs, target) - math.log(2.0)
        toward_student = (student_log_probs.exp() * (student_log_probs - mixture)).sum(-1)
        toward_target = (target.exp() * (target - mixture)).sum(-1)
        return 0.5 * (toward_student + toward_target)
    raise ValueError(f"divergence: got {divergence!r}, expected 'forward', 'reverse' or 'js'")


def language_model_loss(
    logits: Float[Tensor, "B T V"], labels: Tensor, num_tokens: float
) -> Float[Tensor, ""]:
    """Sum of the next-token negative log-likelihoods over ``num_tokens``.

    Equation: (1/N) Σ -log p(label_{t+1} | s_t) over labels that are not -100; N counts the whole step, not this
    micro-batch, so that accumulation and ranks do not change the loss. Units: nats per token.
    """
    shifted = labels[:, 1:]
    keep = shifted != -100
    nll = torch.nn.functional.cross_entropy(logits[:, :-1][keep].float(), shifted[keep], reduction="sum")
    return nll / num_tokens
