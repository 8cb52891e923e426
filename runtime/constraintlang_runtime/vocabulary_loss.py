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
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from constraintlang_runtime.output_head import OutputHead, at_least_float32, in_blocks
from constraintlang_runtime.regularizer import Divergence, divergence_and_gradient, target_log_probs


@dataclass(frozen=True)
class Law:
    """The student's next-token distribution at a chunk of sites: [chunk, V] each."""

    log_probs: Tensor
    probs: Tensor


Rows = slice | Tensor


@dataclass(frozen=True)
class LabelTerm:
    """-log p(label | site); ``sites`` are ascending places [n] among the S sites of the pass, ``labels`` [n].

    ``weight`` is that of the term, or of each of its sites [n].
    """

    sites: Int[Tensor, " n"]
    labels: Int[Tensor, " n"]
    weight: float | Float[Tensor, " n"] = 1.0

    def weights(self, window: slice) -> float | Tensor:
        """Of the term's sites in ``window``."""
        return self.weight[window] if isinstance(self.weight, Tensor) else self.weight

    def value(self, law: Law, rows: Rows, window: slice) -> Tensor:
        """Losses [m] of the term's sites in ``window``, which stand at ``rows`` of the chunk."""
        return -law.log_probs[rows].gather(1, self.labels[window, None]).squeeze(1)

    def subtract(self, gradient: Tensor, rows: Rows, window: slice) -> None:
        """The second half of ∂/∂z = p - 1[label]; a site has one label, so that no place is met twice."""
        numbers = torch.arange(len(gradient), device=gradient.device)[rows]
        gradient[numbers, self.labels[window]] -= self.weights(window)


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

    def value_and_gradient(self, law: Law, rows: Rows, window: slice) -> tuple[Tensor, Tensor]:
        """Losses [m] of the term's sites in ``window``, at ``rows`` of the chunk, and gradients to the logits [m, V].

        Closed forms of ``divergence_and_gradient``.
        """
        log_probs, target = law.log_probs[rows], self.target(window)
        if self.tilts_own:
            target = target_log_probs(log_probs, target)
        return divergence_and_gradient(log_probs, target, self.divergence, self.alpha, law.probs[rows])


Term = LabelTerm | DivergenceTerm


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
        every = in_blocks(hidden.detach(), cast.weight)  # no term has a site behind the last
        to_hidden = torch.empty_like(every) if wanted[0] else None
        sums_of = _Sums(full, weight=wanted[1], bias=bias is not None and wanted[2])
        places = [term.sites.tolist() for term in terms]
        sums = torch.zeros(len(terms), dtype=full, device=hidden.device)
        for start in range(0, len(every), chunk):
            end = min(start + chunk, len(every))
            part = every[start:end].to(dtype)
            law, chain = _law(cast.logits(part), head)
            found = [_within(place, start, end) for place in places]
            gradient = _gradient(law, terms, found, sums, start)
            if chain is not None:
                gradient *= chain
            if head.scale != 1.0:
                gradient *= head.scale
            del law, chain
            _project_back(gradient, part, cast.weight, (start, end), to_hidden, sums_of)
        to_weight, to_bias = sums_of.weight, sums_of.bias
        ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
        ctx.gradients = (None if to_hidden is None else to_hidden[: len(hidden)], to_weight, to_bias)
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


def _within(place: list[int], start: int, end: int) -> tuple[slice, slice | None]:
    """Which of a term's sites lie in a chunk, and their rows there where they stand side by side."""
    window = slice(bisect_left(place, start), bisect_left(place, end))
    count = window.stop - window.start
    if not count:
        return window, None
    first = place[window.start] - start
    together = place[window.stop - 1] - start - first + 1 == count
    return window, slice(first, first + count) if together else None


def _gradient(
    law: Law, terms: list[Term], found: list[tuple[slice, slice | None]], sums: Tensor, start: int
) -> Tensor:
    """Gradients of all terms with respect to the logits of a chunk, written over ``law.probs``; adds to ``sums``."""
    changes: list[tuple[Rows, Tensor, float]] = []
    labelled: list[tuple[LabelTerm, Rows, slice]] = []
    share, is_one = law.probs.new_zeros(len(law.probs)), False
    for number, (term, (window, block)) in enumerate(zip(terms, found, strict=True)):
        if window.start == window.stop:
            continue
        rows = term.sites[window] - start if block is None else block
        if isinstance(term, LabelTerm):
            value = term.value(law, rows, window)
            weight = term.weights(window)
            labelled.append((term, rows, window))
            share[rows] += weight
            covers = window.stop - window.start == len(share) and len(labelled) == 1
            is_one = covers and not isinstance(weight, Tensor) and weight == 1.0
            sums[number] += (weight * value).sum()
        else:
            value, change = term.value_and_gradient(law, rows, window)
            changes.append((rows, change, term.weight))
            sums[number] += term.weight * value.sum()
    gradient = law.probs if is_one else law.probs.mul_(share[:, None])
    for rows, change, weight in changes:
        if isinstance(rows, slice):
            gradient[rows].add_(change, alpha=weight)
        else:
            gradient.index_add_(0, rows, change.to(gradient.dtype), alpha=weight)
    for term, rows, window in labelled:
        term.subtract(gradient, rows, window)
    return gradient


class _Sums:
    """Gradients of weight and bias that add up over chunks; the first chunk's is the sum's own memory."""

    def __init__(self, dtype: torch.dtype, *, weight: bool, bias: bool) -> None:
        self._dtype, self._wants_weight, self._wants_bias = dtype, weight, bias
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None

    def add(self, gradient: Tensor, lowered: Tensor, part: Tensor) -> None:
        """Those of a chunk: ``gradient`` to its logits, the same in the products' precision, its hidden states.

        A sum over sites may leave the range of float16, whatever the scale of the loss, which comes later.
        """
        if lowered.dtype == torch.float16:
            lowered, part = gradient, part.to(gradient.dtype)
        if self._wants_bias:
            own = gradient.sum(0)
            self.bias = own if self.bias is None else self.bias.add_(own)
        if not self._wants_weight:
            return
        if self.weight is None:
            self.weight = (lowered.T @ part).to(self._dtype)
        elif self.weight.dtype == lowered.dtype:
            self.weight.addmm_(lowered.T, part)
        else:
            self.weight += lowered.T @ part


def _project_back(
    gradient: Tensor, part: Tensor, weight: Tensor, place: tuple[int, int], to_hidden: Tensor | None, sums: _Sums
) -> None:  # fmt: skip
    """Add a chunk's gradient with respect to the raw logits to those of hidden states, weight and bias."""
    lowered = gradient.to(part.dtype)
    with torch.autocast(weight.device.type, enabled=False):
        if to_hidden is not None:
            to_hidden[place[0] : place[1]] = (lowered @ weight).to(to_hidden.dtype)
        sums.add(gradient, lowered, part)
