"""The loss over the vocabulary in one pass by chunks of sites: many terms, one projection, gradients on the way.

At no time is there a tensor of more than ``chunk`` x V numbers beside the head's own gradient, whatever the number of
sites. The gradients with respect to hidden states and output embeddings are formed in the forward pass, in which the
logits of a chunk are at hand, so that the backward pass has nothing to project again.

Axes: ``S`` sites of the pass, ``V`` vocabulary, ``H`` hidden size, ``K`` terms.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from constraintlang_runtime.output_head import OutputHead, at_least_float32
from constraintlang_runtime.regularizer import Divergence, divergence_and_gradient, target_log_probs


@runtime_checkable
class Term(Protocol):
    """A weighted sum of losses over some of the sites."""

    @property
    def sites(self) -> Tensor:
        """Ascending places [n] among the S sites of the pass."""
        ...

    @property
    def weight(self) -> float:
        """What the sum is multiplied by."""
        ...

    def add_to(self, gradient: Tensor, law: Law, rows: Rows, window: slice) -> Tensor:
        """Losses [m] of the term's sites in ``window``, which stand at ``rows`` of the chunk.

        Adds ``weight`` times their gradients with respect to the logits to those rows of ``gradient`` [chunk, V].
        """
        ...


@dataclass(frozen=True)
class Law:
    """The student's next-token distribution at a chunk of sites: [chunk, V] each."""

    log_probs: Tensor
    probs: Tensor


Rows = slice | Tensor


@dataclass(frozen=True)
class LabelTerm:
    """-log p(label | site); ``labels`` [n]."""

    sites: Int[Tensor, " n"]
    labels: Int[Tensor, " n"]
    weight: float = 1.0

    def add_to(self, gradient: Tensor, law: Law, rows: Rows, window: slice) -> Tensor:
        """Equation: ∂/∂z = p - 1[label]."""
        labels = self.labels[window, None]
        value = -law.log_probs[rows].gather(1, labels).squeeze(1)
        if isinstance(rows, slice):
            gradient[rows].add_(law.probs[rows], alpha=self.weight)
        else:
            gradient.index_add_(0, rows, law.probs[rows], alpha=self.weight)
        numbers = torch.arange(len(gradient), device=labels.device)[rows]
        gradient[numbers, labels.squeeze(1)] -= self.weight  # a site has one label, so no place is met twice
        return value


@dataclass(frozen=True)
class DivergenceTerm:
    """D(target(.|site), p(.|site)); ``target`` gives log-probabilities [m, V] of a window of the term's sites.

    With ``tilts_own`` it gives log V [m, V] instead, and the target is p V / Σ p V with p held constant.
    """

    sites: Int[Tensor, " n"]
    target: Callable[[slice], Tensor]
    divergence: Divergence
    alpha: float = 0.5
    weight: float = 1.0
    tilts_own: bool = False

    def add_to(self, gradient: Tensor, law: Law, rows: Rows, window: slice) -> Tensor:
        """Closed forms of ``divergence_and_gradient``."""
        log_probs, target = law.log_probs[rows], self.target(window)
        if self.tilts_own:
            target = target_log_probs(log_probs, target)
        value, change = divergence_and_gradient(
            log_probs, target, self.divergence, self.alpha, law.probs[rows]
        )
        if isinstance(rows, slice):
            gradient[rows].add_(change, alpha=self.weight)
        else:
            gradient.index_add_(0, rows, change.to(gradient.dtype), alpha=self.weight)
        return value


def vocabulary_loss(
    hidden: Float[Tensor, "S H"], head: OutputHead, terms: Sequence[Term], chunk: int
) -> tuple[Float[Tensor, ""], Float[Tensor, " K"]]:
    """Σ_k weight_k Σ_s loss_k(s), and each term's own weighted sum (detached).

    The matrix products run in the head's precision (autocast's inside autocast), log-softmax and losses in float32.
    Gradient: to ``hidden`` and to the head's weight and bias; targets are constants.
    Source: gradients in the forward pass as in Liger Kernel's fused linear losses (arXiv 2410.10989).
    """
    return _ChunkedPass.apply(hidden, head.weight, head.bias, head, list(terms), chunk)


class _ChunkedPass(torch.autograd.Function):
    """The pass; ``head`` holds the same tensors as ``weight`` and ``bias``, which autograd must see."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, head: OutputHead, terms: list[Term], chunk: int
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        cast = head.cast()
        dtype = cast.weight.dtype
        full = at_least_float32(cast.weight[:0]).dtype
        wanted = ctx.needs_input_grad[:3]
        # chunks add up in float32, whatever the precision of the weight
        to_hidden = torch.zeros_like(hidden) if wanted[0] else None
        to_weight = torch.zeros_like(weight, dtype=full) if wanted[1] else None
        to_bias = torch.zeros_like(bias, dtype=full) if bias is not None and wanted[2] else None
        places = [term.sites.tolist() for term in terms]
        sums = torch.zeros(len(terms), dtype=full, device=hidden.device)
        for start in range(0, len(hidden), chunk):
            end = min(start + chunk, len(hidden))
            part = hidden[start:end].detach().to(dtype)
            law, chain = _law(cast.logits(part), head)
            gradient = torch.zeros_like(law.probs)
            for number, (term, place) in enumerate(zip(terms, places, strict=True)):
                window = slice(bisect_left(place, start), bisect_left(place, end))
                count = window.stop - window.start
                if not count:
                    continue
                first = place[window.start] - start
                together = place[window.stop - 1] - start - first + 1 == count
                rows = slice(first, first + count) if together else term.sites[window] - start
                sums[number] += term.weight * term.add_to(gradient, law, rows, window).sum()
            if chain is not None:
                gradient *= chain
            if head.scale != 1.0:
                gradient *= head.scale
            del law, chain
            _project_back(gradient, part, cast.weight, (start, end), to_hidden, to_weight, to_bias)
        ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
        ctx.gradients = (to_hidden, to_weight, to_bias)
        ctx.mark_non_differentiable(sums)
        return sums.sum(), sums

    @staticmethod
    def backward(ctx: Any, factor: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_weight, to_bias = ctx.gradients
        ctx.gradients = (None, None, None)
        of_weight, of_bias = ctx.dtypes
        return (
            None if to_hidden is None else to_hidden.mul_(factor.to(to_hidden.dtype)),
            None if to_weight is None else to_weight.mul_(factor).to(of_weight),
            None if to_bias is None else to_bias.mul_(factor).to(of_bias),
            None, None, None,
        )  # fmt: skip


def _law(logits: Tensor, head: OutputHead) -> tuple[Law, Tensor | None]:
    """The distribution of a chunk, written over its logits, and the derivative of the soft cap where there is one.

    log p = z - log Σ e^z with log Σ e^z = max z - log max p: one pass of exponentials serves p and log p, and the
    largest p is at least 1/V.
    """
    chain = 1 - (logits / head.cap).square_() if head.cap else None
    probs = torch.softmax(logits, dim=-1)
    total = logits.amax(-1, keepdim=True) - probs.amax(-1, keepdim=True).log_()
    return Law(logits.sub_(total), probs), chain


def _project_back(
    gradient: Tensor, part: Tensor, weight: Tensor, place: tuple[int, int], to_hidden: Tensor | None,
    to_weight: Tensor | None, to_bias: Tensor | None,
) -> None:  # fmt: skip
    """Add a chunk's gradient with respect to the raw logits to those of hidden states, weight and bias."""
    if to_bias is not None:
        to_bias += gradient.sum(0)
    lowered = gradient.to(part.dtype)
    with torch.autocast(weight.device.type, enabled=False):
        if to_hidden is not None:
            to_hidden[place[0] : place[1]] = (lowered @ weight).to(to_hidden.dtype)
        if to_weight is not None and to_weight.dtype == lowered.dtype:
            to_weight.addmm_(lowered.T, part)
        elif to_weight is not None:
            to_weight += lowered.T @ part
