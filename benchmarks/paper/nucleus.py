"""Nucleus sampling without sorting the vocabulary: a logits processor with the law of transformers' own top-p."""

from __future__ import annotations

import torch
from torch import Tensor

FIRST = 2_048  # tokens looked at before a row's whole vocabulary is


class Nucleus:
    """Keeps the likeliest tokens up to a mass of ``top_p`` of the law at ``temperature``; logits [B, V] to [B, V].

    A token stays when those likelier than it have a mass below ``top_p`` (Holtzman et al. 2020); tokens that tie with the
    last of these stay too. The temperature itself is left to the sampler, which divides by it afterwards. A row whose
    ``FIRST`` likeliest tokens have less mass is sorted whole: on a CPU that sort is what most of the time would go to.
    """

    def __init__(self, top_p: float, temperature: float) -> None:
        self._top_p, self._temperature = top_p, temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Put -inf in the place of every token outside the nucleus."""
        scaled = scores.float() / self._temperature
        total = scaled.logsumexp(-1, keepdim=True)
        lowest, is_known = self._lowest(scaled, total, min(FIRST, scores.shape[-1]))
        rest = ~is_known
        if bool(rest.any()):
            lowest[rest] = self._lowest(scaled[rest], total[rest], scores.shape[-1])[0]
        return scores.masked_fill(scaled < lowest[:, None], -torch.inf)

    def _lowest(self, scaled: Tensor, total: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The lowest logit of each row's nucleus [B], and whether the ``count`` likeliest tokens tell it."""
        top = scaled.topk(count).values
        mass = (top - total).exp().cumsum(-1)
        size = (mass < self._top_p).sum(-1) + 1  # of the nucleus
        known = (size <= count) if count < scaled.shape[-1] else torch.ones_like(size, dtype=torch.bool)
        return top.gather(1, size.clamp(max=count)[:, None] - 1)[:, 0], known
