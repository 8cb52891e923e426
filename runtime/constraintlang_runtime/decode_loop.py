"""The decoding of one batch inside ``generate``: equal prompts are read once, and rows that have ended leave the batch.

transformers prepares everything (cache, mask, processors, criteria) and calls this in the place of its own loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from transformers import DynamicCache

from constraintlang_runtime.token_draws import draw_tokens

ROWS = (
    "attention_mask",
    "position_ids",
    "token_type_ids",
)  # arguments of a model with a row for each of the batch
SHARE = (
    0.75  # of the rows still open, below which the others are taken out: fewer copies of the cache than steps
)


@runtime_checkable
class PerRow(Protocol):
    """A logits processor that keeps something of each row and can follow when rows change."""

    def begin(self) -> None:
        """Another batch begins; forget the last."""
        ...

    def select(self, rows: Tensor) -> None:
        """From here on the rows are these, by their places among the last."""
        ...


class DecodeLoop:
    """The argument ``custom_generate`` of one call of ``generate``; a row's draws depend on its place and the seed.

    Rows are shared and dropped where the model's cache and all processors can follow; else they run to the end, as in
    transformers' own loop. Those of transformers for temperature, top-k and top-p keep nothing of a row.
    ``first_position`` is the position of a text's first token (``model_checks.first_position``).
    """

    def __init__(self, seed: int, *, greedy: bool = False, first_position: int = 0) -> None:
        self._seed, self._greedy, self._first_position = seed, greedy, first_position

    @torch.no_grad()
    def __call__(
        self, model: Any, input_ids: Tensor, logits_processor: Any, stopping_criteria: Any, generation_config: Any,
        **options: Any,
    ) -> Tensor:  # fmt: skip
        """The rows with what was drawn [B, T], padded behind the end."""
        number, start = input_ids.shape
        device = input_ids.device
        pad = int(generation_config.pad_token_id)
        found = input_ids.new_full((number, generation_config.max_length), pad)
        found[:, :start] = input_ids
        followers = [processor for processor in logits_processor if isinstance(processor, PerRow)]
        if options.get("position_ids") is not None:  # ``generate`` counts from 0 for every model
            options["position_ids"] = options["position_ids"] + self._first_position
        moves = _moves(model, options) and all(
            isinstance(processor, PerRow) or type(processor).__module__.startswith("transformers.")
            for processor in logits_processor
        )
        for follower in followers:
            follower.begin()
        generator = torch.Generator(device).manual_seed(self._seed)
        rows = torch.arange(number, device=device)  # those in the batch, by their first places
        is_open = torch.ones_like(rows, dtype=torch.bool)
        logits, options = _prefill(model, input_ids, options, followers, shares=moves)
        ids = input_ids
        while True:
            uniform = torch.rand(number, generator=generator, device=device, dtype=torch.float64)
            scores = logits_processor(ids, logits.to(torch.float32, copy=True))
            tokens = scores.argmax(1) if self._greedy else draw_tokens(scores, uniform[rows])
            tokens = torch.where(is_open, tokens, pad)
            found[rows, ids.shape[1]] = tokens
            ids = torch.cat([ids, tokens[:, None]], dim=1)
            is_open = is_open & ~stopping_criteria(ids, None)
            left = int(is_open.sum())
            if left == 0:
                return found[:, : ids.shape[1]]
            if moves and left <= SHARE * len(rows):
                kept = is_open.nonzero().squeeze(1)
                rows, ids, is_open = rows[kept], ids[kept], is_open[kept]
                options = _selected(options, kept)
                for follower in followers:
                    follower.select(kept)
            inputs = model.prepare_inputs_for_generation(
                ids, next_sequence_length=1 if options["use_cache"] else None, **options
            )
            outputs = model(**inputs, return_dict=True)
            options = model._update_model_kwargs_for_generation(outputs, options)
            logits = outputs.logits[:, -1]


def _prefill(
    model: Any, input_ids: Tensor, options: dict[str, Any], followers: Sequence[PerRow], *, shares: bool
) -> tuple[Tensor, dict[str, Any]]:
    """Logits [B, V] behind the prompts; equal ones are read once."""
    every = None
    if shares:
        known = [input_ids, *(options[name] for name in ROWS if options.get(name) is not None)]
        unique, inverse = torch.unique(torch.cat(known, dim=1), dim=0, return_inverse=True)
        if len(unique) < len(input_ids):
            every, places = inverse, torch.arange(len(input_ids), device=input_ids.device)
            first = places.new_full((len(unique),), len(places)).scatter_reduce(0, inverse, places, "amin")
            input_ids, options = input_ids[first], _selected(options, first)
    inputs = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **options)
    outputs = model(**inputs, return_dict=True)
    options = model._update_model_kwargs_for_generation(outputs, options)
    logits = outputs.logits[:, -1]
    if every is None:
        return logits, options
    for follower in followers:
        follower.select(every)
    return logits[every], _selected(options, every)


def _moves(model: Any, options: dict[str, Any]) -> bool:
    """Whether the rows of a batch can be chosen from: all that is kept of them is known."""
    if getattr(model, "_is_stateful", False):  # some keep states in their modules, beside a cache
        return False
    tensors = {name for name, value in options.items() if isinstance(value, Tensor)}
    return isinstance(options.get("past_key_values"), DynamicCache) and tensors <= set(ROWS)


def _selected(options: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    """The model's arguments for some rows of the batch, in any number; the cache is changed in place."""
    options["past_key_values"].reorder_cache(rows)
    return options | {name: options[name][rows] for name in ROWS if options.get(name) is not None}
