"""One batch of prompts through ``generate``: padded on the left, decoded by the named settings alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from constraintlang_runtime.decode_loop import DecodeLoop


def decoded(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: Any,
    loop: DecodeLoop,
    processors: Sequence[Any] = (),
    criteria: Callable[[int], Sequence[Any]] = lambda width: (),
) -> Int[Tensor, "B T"]:
    """The tokens that follow each prompt, padded behind the end; ``config`` names the pad token.

    ``criteria`` are those beside the end tokens and the length, for the width that the prompts are padded to.
    """
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    input_ids = torch.full((len(prompts), width), config.pad_token_id, dtype=torch.long)
    attention = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        attention[row, width - len(prompt) :] = 1
    with torch.inference_mode(), _only(config, model):
        output: Tensor = model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention.to(device),
            generation_config=config,
            logits_processor=list(processors),
            stopping_criteria=list(criteria(width)),
            custom_generate=loop,
        )
    return output[:, width:]


@contextlib.contextmanager
def _only(config: Any, model: Any) -> Iterator[None]:
    """Generate by ``config`` alone: transformers fills what it leaves out from the model's own generation config.

    A repetition penalty there, or beams, would make another law than the one that is named.
    """
    owners = [part for part in model.modules() if "generation_config" in vars(part)]
    own = [part.generation_config for part in owners]
    try:
        for part in owners:
            part.generation_config = config
        yield
    finally:
        for part, kept in zip(owners, own, strict=True):
            part.generation_config = kept
