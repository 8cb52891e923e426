"""Low-rank changes (LoRA) of a model's linear maps that hold for the duration of a block and leave the model alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D


class LowRankChanges(nn.Module):
    """x W becomes x W + (alpha / rank) x Aᵀ Bᵀ in the named modules, alpha = 2 rank; B starts at 0.

    The changes are applied by forward hooks instead of by rebuilding the model as peft does, because the model is the
    one in training: its modules, parameter names, optimizer and checkpoints must not notice, and it may carry a peft
    adapter of its own. Source: Hu et al. 2021 (arXiv 2106.09685).
    """

    def __init__(
        self, names: Sequence[str], shapes: Sequence[tuple[int, int]], rank: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.names, self.shapes, self.rank, self.dropout = tuple(names), tuple(shapes), rank, dropout
        self.down = nn.ParameterList(torch.empty(rank, size_in) for size_in, _ in shapes)
        self.up = nn.ParameterList(torch.zeros(size_out, rank) for _, size_out in shapes)
        for weight in self.down:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))

    @staticmethod
    def of_model(model: Any, output: nn.Module, rank: int, dropout: float = 0.0) -> LowRankChanges:
        """Changes of every linear map but the output embeddings and those of a peft adapter."""
        found: dict[str, tuple[int, int]] = {}
        for name, module in model.named_modules():
            if module is output or "lora_" in name or "lm_head" in name:
                continue
            if isinstance(module, nn.Linear):
                found[name] = (module.in_features, module.out_features)
            elif isinstance(module, Conv1D):
                found[name] = (int(module.weight.shape[0]), int(module.weight.shape[1]))
        return LowRankChanges(tuple(found), tuple(found.values()), rank, dropout)

    @contextlib.contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """The changes in the model's forward passes; nothing of the model is written to."""
        modules = dict(model.named_modules())
        handles = [
            modules[name].register_forward_hook(partial(self._add, down, up))
            for name, down, up in zip(self.names, self.down, self.up, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _add(self, down: Tensor, up: Tensor, _module: Any, args: tuple[Any, ...], output: Tensor) -> Tensor:
        read = functional.dropout(args[0].to(down.dtype), self.dropout, self.training)
        change = functional.linear(functional.linear(read, down), up)
        return output + 2.0 * change.to(output.dtype)
