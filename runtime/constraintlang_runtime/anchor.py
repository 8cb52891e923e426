"""The reference distribution p_ref: logits and last hidden states of a frozen (or current) model at chosen sites."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from constraintlang_runtime.data import Batch
from constraintlang_runtime.divided import (
    divided_as,
    exchanged,
    is_divided,
    most,
    shards,
    whole,
    whole_weights,
)
from constraintlang_runtime.errors import ModelError
from constraintlang_runtime.output_head import OWN_PASS, OutputHead, difference, final_logits, scale_and_cap
from constraintlang_runtime.packing import Layout, layout


class Anchor:
    """A model seen as p_ref: ``read`` gives logits and features at sites, without gradients.

    The features of a prefix are what the auxiliary model reads: the last hidden state (what enters the output
    embeddings) and its running mean over the prediction sites of the row so far, because the last hidden state of a
    language model keeps what the next token needs and forgets much of what was already said.
    A snapshot keeps a copy of what training changes and nothing else (of a LoRA student, its adapter), and puts it in
    the student's place while it reads. Where weights are divided over processes, so is the copy, and processes read
    under ``everywhere`` or ``in_step``.
    """

    def __init__(self, model: Any, weights: Mapping[str, Tensor] | None = None) -> None:
        self.model = model
        self.weights = None if weights is None else dict(weights)
        self._captured: list[Tensor] = []
        self._is_held = False  # its divided weights are in place until a block ends
        head = model.get_output_embeddings()
        if head is None:
            raise ModelError(
                f"{type(model).__name__} has no output embeddings", help="use a causal language model"
            )
        self.head = head

    @staticmethod
    def snapshot(model: Any) -> Anchor:
        """The model as it is now; training it further does not move the anchor."""
        return Anchor(
            model, {name: p.detach().clone() for name, p in shards(model).items() if p.requires_grad}
        )

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The snapshot's weights in the model, for the duration of the block; gradients of the model stay valid.

        Storage is exchanged, nothing is copied: what autograd saved of the student is back before its backward pass.
        """
        if self.weights is None or self._is_held:
            yield
            return
        parameters = shards(self.model)
        if is_divided(self.model):
            # a start model is recorded before it is divided
            self.weights = {name: divided_as(w, parameters[name]) for name, w in self.weights.items()}
            with exchanged(self.model, self.weights):
                yield
            return
        kept = {name: parameters[name].data for name in self.weights}
        torch.clear_autocast_cache()  # it is keyed by the parameter, not by its storage
        try:
            for name, own in kept.items():
                if self.weights[name].device != own.device:  # a model is moved after its start was recorded
                    self.weights[name] = self.weights[name].to(own.device)
                parameters[name].data = self.weights[name]
            yield
        finally:
            for name, weight in kept.items():
                parameters[name].data = weight
            torch.clear_autocast_cache()

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """``in_place`` once for many reads."""
        with self.in_place():
            self._is_held = True
            try:
                yield
            finally:
                self._is_held = False

    @contextlib.contextmanager
    def everywhere(self) -> Iterator[None]:
        """A block in which each process reads as it likes; called by all of them.

        Memory: the whole model in the precision of its passes, where its weights are divided.
        """
        if not is_divided(self.model):
            yield
            return
        with self._held(), whole_weights(self.model):
            yield

    @contextlib.contextmanager
    def in_step(self, passes: int) -> Iterator[None]:
        """A block in which this process reads so many times; called by all of them, each with its own number.

        Where weights are divided, a pass needs all processes: those with fewer go through one token where others read.
        """
        if not is_divided(self.model):
            yield
            return
        device = next(self.model.parameters()).device
        missing = most(passes, device) - passes
        if passes + missing == 0:
            yield
            return
        with self._held():
            yield
            one = torch.ones((1, 1), dtype=torch.long, device=device)
            token = Batch(torch.zeros_like(one), one, torch.zeros_like(one), one.bool())
            for _ in range(missing):
                Anchor.features(self, token, one.bool())

    @contextlib.contextmanager
    def _reading(
        self,
        made: Layout,
        sites: Bool[Tensor, "B T"],
        logits_at: int | None,
        wanted: Bool[Tensor, "B T"] | None = None,
    ) -> Iterator[None]:
        """Eval mode, no gradients, features captured; only the sites' hidden states reach the output embeddings.

        ``wanted`` are the sites to read, all of them unless given; the running mean goes over all sites anyway.
        """
        at = sites if wanted is None else wanted
        was_training = self.model.training
        self.model.eval()
        handle = self.head.register_forward_pre_hook(partial(self._capture, made, sites, at, logits_at))
        try:
            with torch.no_grad(), self.in_place():
                yield
        finally:
            handle.remove()
            self._captured.clear()
            self.model.train(was_training)

    def _capture(
        self,
        made: Layout,
        sites: Tensor,
        at: Tensor,
        logits_at: int | None,
        _module: Any,
        args: tuple[Any, ...],
    ) -> tuple[Any, ...]:
        hidden = made.to_rows(args[0].detach())
        self._captured.append(features_of(hidden, sites, at))
        return (hidden[at][:logits_at][None], *args[1:])

    def read(
        self, batch: Batch, sites: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "S V"], Float[Tensor, "S F"]]:
        """Logits and features at the sites, row-major, detached; no logits are formed anywhere else."""
        return self._read(batch, sites, None)

    def features(self, batch: Batch, sites: Bool[Tensor, "B T"]) -> Float[Tensor, "S F"]:
        """The features alone, without the cost of the vocabulary."""
        return self._read(batch, sites, 1)[1]

    def read_last(
        self, batch: Batch, sites: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B V"], Float[Tensor, "B F"]]:
        """Logits and features at the last site of every row alone; every row has one."""
        last = sites & (sites.flip(1).cumsum(1).flip(1) == 1)
        return self._read(batch, sites, None, last)

    def _read(
        self, batch: Batch, sites: Bool[Tensor, "B T"], logits_at: int | None, wanted: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        width = batch.longest()  # rows of a batch may all be shorter than it is wide
        batch, sites = batch.columns(width), sites[:, :width]
        wanted = None if wanted is None else wanted[:, :width]
        made = layout(batch)
        with self._reading(made, sites, logits_at, wanted):
            logits = self.model(**made.inputs).logits
            return logits[0].detach(), self._captured[-1]

    def logits_from(self, features: Float[Tensor, "S F"]) -> Float[Tensor, "S V"]:
        """Logits of features: the output embeddings with the model's scale and soft cap (``check_head``), detached."""
        with torch.no_grad():
            return self.output_logits(features[:, : self.head.weight.shape[1]]).detach()

    def check_head(self, batch: Batch, sites: Bool[Tensor, "B T"]) -> None:
        """Raise ModelError when ``logits_from`` the features at some sites is not what the model gives there."""
        logits, found = Anchor.read(self, batch, sites)  # not from a cache
        off = difference(self.logits_from(found), logits, OWN_PASS)
        if off is not None:
            raise ModelError(
                f"the logits of {type(self.model).__name__} are not its output embeddings of the last hidden state "
                f"with a scale and a soft cap that this release knows (difference {off:.3g})",
                help="its configuration does more to them: please report the model, and use another one",
            )

    def output_logits(self, hidden: Float[Tensor, "S H"]) -> Float[Tensor, "S V"]:
        """Logits of last hidden states. Gradient: to them, and to the embeddings where they ask for one."""
        with self.in_place():
            own = self.head.weight
            if is_divided(self.model):  # FSDP2 would take the module's own call for a pass of the whole model
                logits = torch.nn.functional.linear(hidden.to(own.dtype), own, self.head.bias)
            else:
                logits = self.head(hidden.to(own.dtype))
            return final_logits(logits, *scale_and_cap(self.model))

    def output_head(self) -> OutputHead | None:
        """The output embeddings as tensors, those of the snapshot where it has its own; None as ``OutputHead.of``.

        Logits of the first half of ``features`` under it are those of ``read``, without exchanging any storage.
        """
        head = OutputHead.of(self.model)
        if head is None or (self.weights is None and not is_divided(self.model)):
            return head
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        weight, bias = (
            None if own is None else whole((self.weights or {}).get(names[id(own)], own)).to(own.device)
            for own in (head.weight, head.bias)
        )
        assert weight is not None
        return head.with_tensors(weight, bias)

    @property
    def feature_size(self) -> int:
        """F, the width of the features: twice the hidden size."""
        return 2 * int(self.head.weight.shape[1])

    @property
    def vocab_size(self) -> int:
        """Rows of the output embeddings, padding rows included."""
        return int(self.head.weight.shape[0])


def features_of(
    hidden: Float[Tensor, "B T H"], sites: Bool[Tensor, "B T"], at: Bool[Tensor, "B T"] | None = None
) -> Float[Tensor, "S F"]:
    """Features from last hidden states, at ``sites`` or at some of them."""
    at = sites if at is None else at
    return torch.cat([hidden[at], running_mean(hidden, sites)[at]], dim=-1)


def running_mean(hidden: Float[Tensor, "B T H"], sites: Bool[Tensor, "B T"]) -> Float[Tensor, "B T H"]:
    """Mean of the hidden states over the row's sites up to and including each position; 0 before the first."""
    kept = sites[..., None]
    total = (hidden.float() * kept).cumsum(1)
    return (total / kept.cumsum(1).clamp_min(1)).to(hidden.dtype)
