"""The least work of a step by formula, and the peaks of the machine that turn it into seconds.

Symbols: B weights of the layers' matrices, H hidden size, V vocabulary, L layers, A attention width, R rank of the
auxiliary model. Matrix products are counted at 2 FLOPs for each weight and token forward and 4
backward (2 where the weights are frozen); attention at 4·L·A·(width/2) FLOPs a token forward, which is its causal half.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from timing import synchronize

COPY_NUMBERS = 2**26
ADAM_PASSES = 7  # reads of weight, gradient and two moments, writes of weight and two moments


@dataclass(frozen=True)
class Peak:
    """What the machine reaches in this run: a large matrix product and a large copy, the best of several."""

    flops: float
    bytes: float
    dtype: str


@dataclass(frozen=True)
class Counts:
    """Tokens of a mean step. ``corpus`` and ``sampled`` are real tokens (padding is left out of the floor),
    ``labels`` those with a loss, ``sites`` those with a divergence, ``union`` those with either.
    """

    corpus: float
    sampled: float
    labels: float
    sites: float
    union: float
    width: float


@dataclass(frozen=True)
class Floor:
    """FLOPs of matrix products and bytes of the optimizer's update; the seconds of both, one after the other."""

    flops: float
    bytes: float

    def seconds(self, peak: Peak) -> float:
        """At the machine's peaks."""
        return self.flops / peak.flops + self.bytes / peak.bytes


def measured_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """Matrix product of the step's kind (tall times square) in its precision, and a copy."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(COPY_NUMBERS, device=device)
    target = torch.ones_like(source)
    multiply = _best(lambda: left @ right, device)
    copied = _best(lambda: target.copy_(source), device)
    return Peak(2.0 * size**3 / multiply, 2.0 * source.nbytes / copied, str(dtype).removeprefix("torch."))


def _best(work: Any, device: torch.device) -> float:
    times = []
    for _ in range(12):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)


@dataclass(frozen=True)
class Sizes:
    """Of a model: ``layers_weights`` B, ``head`` H·V, ``lora`` weights of its adapter (0: none), bytes of an update."""

    layers_weights: float
    head: float
    attention: float
    update_bytes: float
    lora: float

    @staticmethod
    def of(model: Any) -> Sizes:
        """From the model's matrices; embeddings that are only looked up cost nothing."""
        output = model.get_output_embeddings().weight
        tables = {id(output), id(model.get_input_embeddings().weight)}
        named = list(model.named_parameters())
        lora = sum(p.numel() for name, p in named if "lora_" in name)
        layers = sum(p.numel() for _, p in named if p.dim() == 2 and id(p) not in tables) - lora
        config = model.config.get_text_config()
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        width = config.num_hidden_layers * config.num_attention_heads * head_dim
        update = ADAM_PASSES * sum(p.nbytes for _, p in named if p.requires_grad)
        return Sizes(layers, output.numel(), width, update, lora)

    def student(self, tokens: float, width: float, logits: float) -> float:
        """Forward and backward FLOPs of a training pass."""
        attention = 3 * 4.0 * self.attention * width / 2 * tokens
        if self.lora:
            return (
                (4.0 * self.layers_weights + 6.0 * self.lora) * tokens + 4.0 * self.head * logits + attention
            )
        return 6.0 * self.layers_weights * tokens + 6.0 * self.head * logits + attention

    def frozen(self, tokens: float, width: float, logits: float) -> float:
        """FLOPs of a pass without gradients."""
        attention = 4.0 * self.attention * width / 2 * tokens
        return 2.0 * self.layers_weights * tokens + 2.0 * self.head * logits + attention


def plain_floor(sizes: Sizes, counts: Counts) -> Floor:
    """6·B FLOPs a token, logits at the labels alone, and the update."""
    return Floor(sizes.student(counts.corpus, counts.width, counts.labels), sizes.update_bytes)


def regularized_floor(
    sizes: Sizes, counts: Counts, *, anchor: str, auxiliary: float, per_site: float, cached: bool
) -> Floor:
    """The plain floor, sampled rows, the anchor, and the auxiliary model.

    A frozen anchor costs a pass over the regularized rows (its head alone when its states are ``cached``), a current
    one nothing, because the student's own states and logits are at hand. ``auxiliary``: its FLOPs a token of those
    rows; ``per_site``: its FLOPs a site over the vocabulary.
    """
    tokens = counts.corpus + counts.sampled
    flops = sizes.student(tokens, counts.width, counts.union)
    rows = counts.sites  # the region's tokens; prompts before them are left out of the floor
    if anchor != "current":
        flops += sizes.frozen(0.0 if cached else rows, counts.width, counts.sites)
    flops += auxiliary * rows + per_site * counts.sites
    return Floor(flops, sizes.update_bytes)


def auxiliary_flops(head: Any, vocab: int) -> tuple[float, float]:
    """FLOPs of the auxiliary model for a token of its own pass, and for a site over the vocabulary."""
    record = head.record()
    if record["form"] == "adapter":
        return 0.0, 0.0  # counted as a pass of the anchor by the caller
    free, rank, width = record["num_bins"] - 1, record["rank"], record["width"]
    features = width if record["form"] == "transformer" else record["features"]
    trunk = 2.0 * (2 * features * width + width * width + width * free * (1 + rank))
    layers = 2.0 * record["layers"] * 16 * width * width if record["form"] == "transformer" else 0.0
    return layers, trunk + 2.0 * free * rank * vocab
