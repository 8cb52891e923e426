"""Next tokens drawn from logits by one uniform number for each row: far less work than a race over the vocabulary."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 64  # tokens whose mass is summed first
AT_ONCE = 1 << 23  # probabilities held at once


@torch.no_grad()
def draw_tokens(scores: Float[Tensor, "B V"], uniform: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Tokens of the law softmax(scores), by inversion.

    Equation: the first v with Σ_{w<=v} p_w > u Σ_w p_w, so that a token without mass is never drawn. The mass of each
    block of tokens is summed first, and only the block in which u falls is gone through; sums of blocks are added in
    float64. A row's token depends on its own scores and number alone.
    Shapes: ``uniform`` in [0, 1), float64.
    """
    most = max(1, AT_ONCE // scores.shape[1])
    if len(scores) > most:
        parts = zip(scores.split(most), uniform.split(most), strict=True)
        return torch.cat([draw_tokens(part, own) for part, own in parts])
    size = scores.shape[1]
    blocks = -(-size // BLOCK)
    mass = torch.zeros(len(scores), blocks * BLOCK, dtype=scores.dtype, device=scores.device)
    torch.sub(scores, scores.amax(1, keepdim=True), out=mass[:, :size])
    mass[:, :size].exp_()
    grouped = mass.view(len(scores), blocks, BLOCK)
    chosen, left = _fall(grouped.sum(2).double(), uniform)
    own = grouped[torch.arange(len(scores), device=scores.device), chosen].double()
    inside, _ = _fall(own, left)
    return chosen * BLOCK + inside


def _fall(mass: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The interval of each row into which the share ``uniform`` of its mass falls, and the share inside of it."""
    ends = mass.cumsum(1)
    at = torch.minimum(uniform * ends[:, -1], torch.nextafter(ends[:, -1], ends.new_zeros(())))[:, None]
    chosen = torch.searchsorted(ends, at, right=True)
    own = mass.gather(1, chosen)
    share = (at - (ends.gather(1, chosen) - own)) / own
    return chosen.squeeze(1), share.clamp(0, 1).squeeze(1)
