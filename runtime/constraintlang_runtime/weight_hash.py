"""A hash of a model's weights: one pass over their bits where they lie, exact on every device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

COLUMNS = 1 << 14
AT_ONCE = 1 << 22  # numbers raised to 64 bits together
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weight_hash(named: Iterable[tuple[str, Tensor]]) -> str:
    """Equal for equal names, types, shapes and bits, whatever the device; not proof against an adversary.

    Each stretch of bits b is reduced where it lies to Σ_i m_i b_i modulo 2^64 with fixed random odd m; blake2b goes
    over these sums, which are a small part of the weights.
    """
    drawn = np.random.default_rng(0).integers(0, 1 << 63, COLUMNS, dtype=np.int64) | 1
    digest = hashlib.blake2b(digest_size=16)
    multipliers: dict[torch.device, Tensor] = {}
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        own = multipliers.setdefault(tensor.device, torch.from_numpy(drawn).to(tensor.device))
        bits = tensor.detach().contiguous().flatten().view(INTEGERS[tensor.element_size()])
        for part in bits.split(AT_ONCE):
            wide = part.to(torch.int64)
            wide = torch.nn.functional.pad(wide, (0, -len(wide) % COLUMNS)).view(-1, COLUMNS)
            digest.update((wide * own).sum(1).cpu().numpy().tobytes())
    return digest.hexdigest()
