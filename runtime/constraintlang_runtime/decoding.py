"""Guided decoding: sample from the projected distribution p·V itself, with no fine-tuning."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from constraintlang_runtime.auxiliary import AuxiliaryModel
from constraintlang_runtime.auxiliary.protocol import Step
from constraintlang_runtime.errors import ConfigError


class Guidance(LogitsProcessor):
    """Adds log V(s·v) to the anchor's logits at every step.

    Equation: q̂(v|s) ∝ p_ref(v|s) (Σ_m π_m(s·v) ψ_m)^γ, γ the exponent. The features are those of the very forward
    pass that made the logits, captured at the output embeddings, and their running mean since the first new token,
    so guidance costs one pass of the auxiliary head and no second model; the other forms of the auxiliary model read
    each new token once, with a cache of their own.
    Use inside ``attached(model)``; sampling only: beams and assisted decoding end with a ConfigError.
    """

    def __init__(self, head: AuxiliaryModel, log_potential: Tensor, exponent: float = 1.0) -> None:
        self._head = head
        self._log_potential = log_potential
        self._exponent = exponent
        self._features: Tensor | None = None
        self._was_read = False  # the features, by a call
        self._total: Tensor | None = None
        self._steps = 0
        self._last: Tensor | None = None  # the tokens of the last call
        self._mask: Tensor | None = None
        self._memory: Any = None

    @contextlib.contextmanager
    def attached(self, model: Any) -> Iterator[Guidance]:
        """Capture features from ``model`` for the duration of the block."""

        def capture(_module: Any, args: tuple[Tensor, ...]) -> None:
            self._features, self._was_read = args[0][:, -1].detach(), False

        def capture_mask(_module: Any, _args: tuple[Any, ...], options: dict[str, Any]) -> None:
            self._mask = options.get("attention_mask")

        handles = [
            model.get_output_embeddings().register_forward_pre_hook(capture),
            model.register_forward_pre_hook(capture_mask, with_kwargs=True),
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
            self.begin()

    def begin(self) -> None:
        """Another batch begins."""
        self._features = self._total = self._last = self._mask = self._memory = None

    def select(self, rows: Tensor) -> None:
        """From here on the rows are these, by their places among the last."""
        self._features, self._total, self._last, self._mask = (
            None if kept is None else kept[rows]
            for kept in (self._features, self._total, self._last, self._mask)
        )
        if self._memory is not None:
            self._memory = self._head.select(self._memory, rows)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Tilted logits [B, V].

        Raises: ConfigError where rows change their places, or the logits of one pass are asked for twice.
        """
        if self._features is None:
            raise RuntimeError(
                "guidance is not attached to the model that generates; use `with g.attached(model):`"
            )
        if self._was_read or self._is_reordered(input_ids):
            raise ConfigError(
                "guidance follows one sample in each row, and this is beam search or assisted decoding",
                help="sample: do_sample=True, without num_beams, assistant_model and prompt_lookup_num_tokens; or use "
                "`policy.generate(..., decoding='best_first')`",
            )
        self._was_read = True
        state = self._features.float()
        if self._last is None or not torch.equal(input_ids[:, :-1], self._last):  # another call of generate
            self._total, self._steps, self._memory = None, 0, None
        self._last = input_ids
        self._total = torch.zeros_like(state) if self._total is None else self._total
        self._total, self._steps = self._total + state, self._steps + 1
        with torch.no_grad():
            features = torch.cat([state, self._total / self._steps], dim=-1)
            mask = self._mask if self._mask is not None else torch.ones_like(input_ids)
            inputs, self._memory = self._head.step(Step(input_ids, mask, features, self._memory))
            value = self._head.log_values(inputs, self._log_potential.to(scores.device))
        return scores + self._exponent * value.to(scores.dtype)

    def _is_reordered(self, ids: Tensor) -> bool:
        """Whether these are the rows of the last call with a token more, in other places, as beams are."""
        last = self._last
        if last is None or ids.shape[1] != last.shape[1] + 1 or torch.equal(ids[:, :-1], last):
            return False
        known = set(map(tuple, last.tolist()))
        return all(tuple(row[:-1]) in known for row in ids.tolist())
