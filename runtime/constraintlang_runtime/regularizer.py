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

from constraintlang_runtime.output_head import at_least_float32

Divergence = Literal["forward", "reverse", "js", "alpha"]


def log_values(
    bin_log_probs: Float[Tensor, "S V M"], log_potential: Float[Tensor, "*S_or_1 M"]
) -> Float[Tensor, "S V"]:
    """Log of the expected potential of every one-token continuation.

    Equation: log V(s·v) = log Σ_m π_m(s·v) ψ_m, with π = exp(bin_log_probs), ψ = exp(log_potential).
    Shapes: ``log_potential`` is [M] (one for all sites) or [S, M] (one per site, `--adaptive prompt`).
    Gradient: through both arguments; callers detach.
    Source: docs/method.md, "The auxiliary model".
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
    Source: docs/method.md, "The target"; self-normalised, so an error in V(s) itself cancels.
    """
    return torch.log_softmax(at_least_float32(anchor_logits) + log_value, dim=-1)


def token_divergence(
    student_log_probs: Float[Tensor, "S V"],
    target: Float[Tensor, "S V"],
    divergence: Divergence,
    alpha: float = 0.5,
) -> Float[Tensor, " S"]:
    """Divergence between the target and the student at every site.

    Equation: forward KL(q̂‖p) = Σ_v q̂ (log q̂ - log p); reverse KL(p‖q̂) = Σ_v p (log p - log q̂);
    js = ½ KL(p‖m) + ½ KL(q̂‖m) with m = (p + q̂)/2; alpha = (1 - Σ_v q̂^α p^(1-α)) / (α (1-α)) with 0 < α < 1, which
    tends to forward as α tends to 1 and to reverse as it tends to 0, and is at most 1 / (α (1-α)).
    Near p = q̂ all but js are χ²/2, js is χ²/8.
    Units: nats. Gradient: through both arguments; pass a detached ``target``.
    Raises: ValueError for another divergence.
    Source: alpha, Amari, Information Geometry and Its Applications (2016), section 3.5.
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
    if divergence == "alpha":
        between = alpha * target + (1 - alpha) * student_log_probs
        return (1 - between.exp().sum(-1)) / (alpha * (1 - alpha))
    raise ValueError(f"divergence: got {divergence!r}, expected one of forward, reverse, js, alpha")


def divergence_and_gradient(
    student_log_probs: Float[Tensor, "S V"],
    target: Float[Tensor, "S V"],
    divergence: Divergence,
    alpha: float = 0.5,
    student: Float[Tensor, "S V"] | None = None,
) -> tuple[Float[Tensor, " S"], Float[Tensor, "S V"]]:
    """``token_divergence`` and its gradient with respect to the student's logits, in closed form and without a graph.

    ``student`` are the probabilities, where a caller has them already; no argument is written to.

    Equation: with p the student, ∂D/∂z_v = g_v - p_v Σ_u g_u, where g_v = ∂D/∂log p_v up to a multiple of p_v:
    forward -q̂; reverse p (log p - log q̂); js ½ p (log p - log m); alpha -q̂^α p^(1-α) / α.
    """
    if student is None:
        student = student_log_probs.exp()
    if divergence == "alpha":
        raw = (alpha * target + (1 - alpha) * student_log_probs).exp_()
        total = raw.sum(-1)
        value = (1 - total) / (alpha * (1 - alpha))
        return value, (student * total[:, None]).sub_(raw).div_(alpha)
    if divergence == "reverse":
        log_ratio = student_log_probs - target
        value = (student * log_ratio).sum(-1)
        return value, log_ratio.sub_(value[:, None]).mul_(student)
    if divergence == "forward":
        wanted = target.exp()
        value = (wanted * (target - student_log_probs)).sum(-1)
        return value, torch.sub(student, wanted, out=wanted)
    mixture = torch.logaddexp(student_log_probs, target).sub_(math.log(2.0))
    toward_target = (target.exp() * (target - mixture)).sum(-1)
    log_ratio = torch.sub(student_log_probs, mixture, out=mixture)
    mean = (student * log_ratio).sum(-1)
    return 0.5 * (mean + toward_target), log_ratio.sub_(mean[:, None]).mul_(student).mul_(0.5)


def language_model_loss(
    logits: Float[Tensor, "B T V"],
    labels: Tensor,
    num_tokens: float,
    weights: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Weighted sum of the next-token negative log-likelihoods over ``num_tokens``.

    Equation: (1/N) Σ_rows w Σ_t -log p(label_{t+1} | s_t) over labels that are not -100, w = 1 without ``weights``; N
    counts the whole step, not this micro-batch, so that accumulation and ranks do not change the loss. Units: nats per
    token.
    """
    shifted = labels[:, 1:]
    keep = shifted != -100
    nll = torch.nn.functional.cross_entropy(logits[:, :-1][keep].float(), shifted[keep], reduction="none")
    if weights is not None:
        nll = nll * weights[torch.nonzero(keep)[:, 0]]
    return nll.sum() / num_tokens
