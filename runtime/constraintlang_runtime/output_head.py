"""A model's output embeddings as tensors: the logits of last hidden states with the model's scale and soft cap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from constraintlang_runtime.divided import is_divided, is_shard, undivided_type

# A model's own pass may be rounded so, by accelerate, and nothing outside of it says that.
OWN_PASS = torch.bfloat16
MULTIPLIED = ("hyperclovax",)  # model types whose `logits_scaling` is a factor; elsewhere it divides
# Gemma 2, RecurrentGemma, xLSTM
SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
BLOCK = 64  # rows that are padded to a multiple of it where kernels are made for each number of rows


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision is raised to float32, float32 and float64 stay."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


@dataclass(frozen=True)
class OutputHead:
    """z = c·tanh(y/c) with y = scale·(h Wᵀ + bias), without the tanh where the model has no soft cap c.

    Shapes: ``weight`` [V, H], ``bias`` [V] or None. Scale and cap are those of the configuration (``scale_and_cap``):
    `logits_scaling` (Granite) divides, `logit_scale` (Cohere) multiplies, and so on. ``precision`` is
    that of the matrix products where it is not the weight's: a trainer with mixed precision sets it, because accelerate
    has autocast inside the model's own forward alone.
    """

    weight: Tensor
    bias: Tensor | None
    scale: float
    cap: float | None
    precision: torch.dtype | None = None

    @staticmethod
    def of(model: Any) -> OutputHead | None:
        """The head of a model; None when it is not one matrix of floats (adapted, quantized).

        Of a model whose weights are divided it holds the parts, which ``divided.whole`` puts together.
        """
        module = model.get_output_embeddings()
        hooked = module._forward_hooks and not is_divided(module)  # those of FSDP2 gather the weight
        if undivided_type(module) is not nn.Linear or hooked or hasattr(module, "_hf_hook"):
            return None  # accelerate's hooks may keep the weight elsewhere
        weight = module.weight
        is_plain = type(weight.data) is Tensor or is_shard(weight)
        if not is_plain or weight.dim() != 2 or not weight.is_floating_point():
            return None
        scale, cap = scale_and_cap(model)
        return OutputHead(weight, module.bias, scale, cap)

    def with_tensors(self, weight: Tensor, bias: Tensor | None) -> OutputHead:
        """The same form with other numbers, such as those of a snapshot."""
        return replace(self, weight=weight, bias=bias)

    def in_precision(self, precision: torch.dtype | None) -> OutputHead:
        """The same head with matrix products in a precision; None leaves it to autocast and the weight."""
        return replace(self, precision=precision)

    def compute_dtype(self) -> torch.dtype:
        """The precision of the matrix products: what was set, else autocast's inside autocast, else the weight's."""
        if self.precision is not None:
            return self.precision
        device = self.weight.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype

    def cast(self) -> OutputHead:
        """The head in its precision of computation, copied once for many calls of ``logits``."""
        dtype = self.compute_dtype()
        bias = None if self.bias is None else self.bias.detach().to(dtype)
        return self.with_tensors(self.weight.detach().to(dtype), bias)

    def logits(self, hidden: Float[Tensor, "S H"]) -> Float[Tensor, "S V"]:
        """Logits in float32 (float64 of a float64 model); the matrix product in the precision of the weight."""
        every = in_blocks(hidden, self.weight)
        with torch.autocast(self.weight.device.type, enabled=False):
            raw = nn.functional.linear(every.to(self.weight.dtype), self.weight, self.bias)
        return final_logits(at_least_float32(raw[: len(hidden)]), self.scale, self.cap)


def precision_of(args: Any) -> torch.dtype | None:
    """The precision of a trainer's matrix products; None where it is that of the weights.

    Of its flags, or of `accelerate launch --mixed_precision`, which sets no flag.
    """
    name = "bf16" if getattr(args, "bf16", False) else "fp16" if getattr(args, "fp16", False) else None
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return low.get(name or str(getattr(args, "mixed_precision", "no")))


def makes_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products there run by kernels that are made for each number of rows, 5 to 10 ms each, and 1,024 are kept.

    That is oneDNN on a CPU in half precision: numbers of rows that hardly come again cost it a quarter of a step.
    """
    return device.type == "cpu" and dtype in (torch.bfloat16, torch.float16)


def in_blocks(hidden: Float[Tensor, "S H"], weight: Tensor) -> Float[Tensor, "P H"]:
    """The rows, with zeros behind them up to a multiple of ``BLOCK`` where products with the weight make kernels."""
    missing = -len(hidden) % BLOCK
    if not missing or len(hidden) < BLOCK or not makes_kernels(weight.device, weight.dtype):
        return hidden
    return nn.functional.pad(hidden, (0, 0, 0, missing))


def scale_and_cap(model: Any) -> tuple[float, float | None]:
    """What a model's configuration does to the product of hidden states and output embeddings."""
    config = model.config.get_text_config()
    scaling = getattr(config, "logits_scaling", None) or 1.0
    scale = scaling if getattr(config, "model_type", None) in MULTIPLIED else 1.0 / scaling
    for name in ("logit_scale", "lm_head_multiplier"):  # Cohere, FalconH1
        scale *= getattr(config, name, None) or 1.0
    caps = (getattr(config, name, None) for name in SOFT_CAPS)
    return scale, next((cap for cap in caps if cap), None)


def difference(mine: Tensor, its: Tensor, dtype: torch.dtype) -> float | None:
    """How far logits of a head are from the model's own, where that is more than the rounding of a precision."""
    found = float((mine.float() - its.float()).abs().max()) if mine.shape == its.shape else float("inf")
    allowed = max(1e-3, 4 * torch.finfo(dtype).eps) * max(1.0, float(its.abs().max()))
    return found if not found <= allowed else None


def final_logits(raw: Tensor, scale: float, cap: float | None) -> Tensor:
    """Scale, then soft cap."""
    scaled = raw if scale == 1.0 else raw * scale
    return torch.tanh(scaled / cap) * cap if cap else scaled
