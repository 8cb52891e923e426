"""Rows of a batch laid end to end in fewer sequences for the model's pass, and its hidden states back in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from constraintlang_runtime.data import Batch, TokenRow, collate
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.output_head import OWN_PASS

APART = ("eager", "sdpa", "flex_attention")  # attentions whose masks transformers makes from positions


@dataclass(frozen=True)
class Layout:
    """What a model is called with, and where in its sequences each position of the rows stands.

    ``places`` [B, T] are indexes into the flattened sequences (any, at padding); None when rows are not packed.
    """

    inputs: dict[str, Any]
    places: Int[Tensor, "B T"] | None

    def to_rows(self, values: Float[Tensor, "P W H"]) -> Float[Tensor, "B T H"]:
        """Values of the sequences' positions as values of the rows' positions. Gradient: to ``values``."""
        return values if self.places is None else values.flatten(0, 1)[self.places]


def layout(batch: Batch) -> Layout:
    """The model's arguments for a batch: the padded rows, or with ``batch.packs`` sequences of several rows.

    Packed, the sequences are as wide as the longest row; positions begin anew with each row and at the filling behind
    the last, from which transformers keeps the attention of one row apart from the others' (without an attention
    mask, sliding windows included). Longest first, into the first sequence with room.
    """
    if not batch.packs:
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
        return Layout(inputs, None)
    lengths = batch.attention_mask.sum(1).tolist()
    width, device = max(lengths), batch.input_ids.device
    starts, used = _placed(lengths)
    columns = torch.arange(batch.input_ids.shape[1], device=device)
    real = columns < torch.tensor(lengths, device=device)[:, None]
    places = torch.where(real, torch.tensor(starts, device=device)[:, None] + columns, 0)
    filling = torch.arange(width, device=device) - torch.tensor(used, device=device)[:, None]
    positions = filling.clamp_min(0).flatten()
    positions[places[real]] = columns.expand_as(places)[real]
    ids = torch.zeros_like(positions)
    ids[places[real]] = batch.input_ids[real]
    shape = (len(used), width)
    inputs = {"input_ids": ids.view(shape), "position_ids": positions.view(shape), "use_cache": False}
    return Layout(inputs, places)


def num_positions(lengths: Sequence[int], *, packs: bool) -> int:
    """Positions of the model's pass over rows of these lengths, padding included."""
    return max(lengths) * (len(_placed(lengths)[1]) if packs else len(lengths))


def _placed(lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Where each row begins in the flattened sequences, and how full each sequence is."""
    width = max(lengths)
    used: list[int] = []
    starts = [0] * len(lengths)
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        sequence = next((s for s, taken in enumerate(used) if taken + lengths[row] <= width), len(used))
        if sequence == len(used):
            used.append(0)
        starts[row] = sequence * width + used[sequence]
        used[sequence] += lengths[row]
    return starts, used


@torch.no_grad()
def check_packing(model: Any) -> None:
    """Raise ConfigError unless packed rows have the logits that they have alone."""
    config = model.config.get_text_config()
    attention = getattr(config, "_attn_implementation", "eager")
    name = type(model).__name__
    if attention not in APART:
        raise ConfigError(
            f"packing: `{attention}` may mix the rows of a sequence",
            help="load the model with `sdpa` attention, or leave --packing out",
        )
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    rows = [
        TokenRow(tuple(torch.randint(config.vocab_size, (n,), generator=generator).tolist()), (), {}, True)
        for n in (12, 5, 7, 3)
    ]
    padded = collate(rows, 0).to(device)
    packed = Batch(padded.input_ids, padded.attention_mask, padded.labels, padded.region, packs=True)
    was_training = model.training
    model.eval()
    try:
        alone, together = (
            made.to_rows(model(**made.inputs).logits) for made in (layout(padded), layout(packed))
        )
    except TypeError as error:
        raise ConfigError(f"packing: {name} takes no positions", help="leave --packing out") from error
    finally:
        model.train(was_training)
    real = padded.attention_mask.bool()
    difference = (alone[real].float() - together[real].float()).abs().max()
    size = alone[real].float().abs().max()
    own = torch.finfo(alone.dtype)
    # a pass in half precision may hand out float32 logits, and kernels of a GPU differ by the shape of what they read
    low = torch.finfo(OWN_PASS).eps if alone.is_cuda or own.bits < 32 else 0.0
    if difference > max(1e-3, 16 * own.eps, 4 * low) * size:
        raise ConfigError(
            f"packing: rows of one sequence see each other in {name} (logits differ by {float(difference):.3g})",
            help="leave --packing out",
        )
