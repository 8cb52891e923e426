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
from constraintlang_runtime.regularizer import Divergence, divergence_and_gradient


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

    def value_and_gradient(self, log_probs: Tensor, window: slice) -> tuple[Tensor, Tensor]:
        """Losses [m] of the term's sites in ``window`` and their gradients with respect to the logits [m, V]."""
        ...


@dataclass(frozen=True)
class LabelTerm:
    """-log p(label | site); ``labels`` [n]."""

    sites: Int[Tensor, " n"]
    labels: Int[Tensor, " n"]
    weight: float = 1.0

    def value_and_gradient(self, log_probs: Tensor, window: slice) -> tuple[Tensor, Tensor]:
        """Equation: ∂/∂z = p - 1[label]."""
        labels = self.labels[window, None]
        value = -log_probs.gather(1, labels).squeeze(1)
        gradient = log_probs.exp()
        return value, gradient.scatter_add_(1, labels, gradient.new_full((), -1.0).expand_as(labels))


@dataclass(frozen=True)
class DivergenceTerm:
    """D(target(.|site), p(.|site)); ``target`` gives log-probabilities [m, V] of a window of the term's sites."""

    sites: Int[Tensor, " n"]
    target: Callable[[slice], Tensor]
    divergence: Divergence
    alpha: float = 0.5
    weight: float = 1.0

    def value_and_gradient(self, log_probs: Tensor, window: slice) -> tuple[Tensor, Tensor]:
        """Closed forms of ``divergence_and_gradient``."""
        return divergence_and_gradient(log_probs, self.target(window), self.divergence, self.alpha)


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
            logits = cast.logits(part)
            log_probs = torch.log_softmax(logits, dim=-1)
            gradient = torch.zeros_like(log_probs)
            for number, (term, place) in enumerate(zip(terms, places, strict=True)):
                window = slice(bisect_left(place, start), bisect_left(place, end))
                if window.start == window.stop:
                    continue
                everywhere = window.stop - window.start == end - start
                rows = term.sites[window] - start
                value, change = term.value_and_gradient(log_probs if everywhere else log_probs[rows], window)
                sums[number] += term.weight * value.sum()
                if everywhere:
                    gradient.add_(change, alpha=term.weight)
                else:
                    gradient.index_add_(0, rows, change.to(full), alpha=term.weight)
                del value, change
            if head.cap:
                gradient *= 1 - (logits / head.cap).square_()
            gradient *= head.scale
            del logits, log_probs
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
