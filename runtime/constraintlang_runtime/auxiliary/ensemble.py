"""Several auxiliary models of one form, fitted from different seeds, whose disagreement makes the target cautious."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel, Step
from constraintlang_runtime.data import Batch

if TYPE_CHECKING:
    from constraintlang_runtime.anchor import Anchor


class Ensemble(AuxiliaryModel):
    """The law is the members' mean; the value is the smallest that any of them gives.

    Equation: π(s·v) = (1/n) Σ_i π_i(s·v), and log V(s·v) = min_i log Σ_m π_i,m(s·v) ψ_m. A token counts as safe only
    when every member says so: where they agree V is theirs, where they do not V is the pessimist's. Members are fitted
    one after the other on the same samples, each with draws of its own.
    Shapes: ``inputs`` [S, n I] are the members' side by side.
    Source: minimum over an ensemble as in Fujimoto et al. 2018 (arXiv 1802.09477).
    """

    def __init__(self, members: Sequence[AuxiliaryModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.num_bins = members[0].num_bins
        self.shares_inputs = not members[0].reads_rows
        self.reads_tokens = members[0].reads_tokens

    @property
    def reads_rows(self) -> bool:  # type: ignore[override]
        """As the members."""
        return not self.shares_inputs

    def each(self) -> list[AuxiliaryModel]:
        """The members."""
        return [member for member in self.members if isinstance(member, AuxiliaryModel)]

    def attach(self, anchor: Anchor) -> None:
        """Tell every member."""
        for member in self.each():
            member.attach(anchor)

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """Members are fitted by themselves; there is nothing to hold for all of them."""
        yield

    def inputs(
        self, batch: Batch, sites: Bool[Tensor, "B T"], features: Float[Tensor, "S F"]
    ) -> Float[Tensor, "S I"]:
        """The members' inputs side by side; the features once, where those are what they read."""
        if self.shares_inputs:
            return self.each()[0].inputs(batch, sites, features)
        return torch.cat([member.inputs(batch, sites, features) for member in self.each()], dim=1)

    def read_before(
        self, tokens: Int[Tensor, " N"], sequence: Int[Tensor, " N"]
    ) -> Float[Tensor, "N K"] | None:
        """As every member, whose token odds are the same."""
        return self.each()[0].read_before(tokens, sequence)

    def take_odds(self, token_odds: Float[Tensor, "V K"], mean: Float[Tensor, " K"]) -> None:
        """Give them to every member."""
        for member in self.each():
            member.take_odds(token_odds, mean)

    def step(self, now: Step) -> tuple[Float[Tensor, "B I"], Any]:
        """The same while decoding, each member with a memory of its own."""
        if self.shares_inputs:
            return self.each()[0].step(now)
        memories = now.memory or [None] * len(self.members)
        found = [
            member.step(Step(now.input_ids, now.attention_mask, now.features, memory))
            for member, memory in zip(self.each(), memories, strict=True)
        ]
        return torch.cat([inputs for inputs, _ in found], dim=1), [memory for _, memory in found]

    def select(self, memory: Any, rows: Tensor) -> Any:
        """The members' memories of some rows."""
        if self.shares_inputs:
            return self.each()[0].select(memory, rows)
        return [
            None if own is None else member.select(own, rows)
            for member, own in zip(self.each(), memory, strict=True)
        ]

    def _parts(self, inputs: Tensor) -> list[tuple[AuxiliaryModel, Tensor]]:
        members = self.each()
        parts = [inputs] * len(members) if self.shares_inputs else inputs.chunk(len(members), dim=1)
        return list(zip(members, parts, strict=True))

    def _mean(self, laws: list[Tensor]) -> Tensor:
        return torch.logsumexp(torch.stack(laws), dim=0) - torch.tensor(float(len(laws))).log()

    def all_tokens(self, inputs: Float[Tensor, "S I"]) -> Float[Tensor, "S V M"]:
        """Bin log-probabilities of the mean law after every next token."""
        return self._mean([member.all_tokens(part) for member, part in self._parts(inputs)])

    def one_token(self, inputs: Float[Tensor, "S I"], tokens: Int[Tensor, " S"]) -> Float[Tensor, "S M"]:
        """Bin log-probabilities of the mean law after the given next token."""
        return self._mean([member.one_token(part, tokens) for member, part in self._parts(inputs)])

    def prefix_law(
        self, inputs: Float[Tensor, "S I"], anchor_logits: Float[Tensor, "S V"]
    ) -> Float[Tensor, "S M"]:
        """The mean law at the prefix."""
        return self._mean([member.prefix_law(part, anchor_logits) for member, part in self._parts(inputs)])

    def log_values(
        self, inputs: Float[Tensor, "S I"], log_potential: Float[Tensor, "*S_or_1 M"]
    ) -> Float[Tensor, "S V"]:
        """The pessimistic log V(s·v): one member's values are held beside the smallest so far."""
        smallest: Tensor | None = None
        for member, part in self._parts(inputs):
            value = member.log_values(part, log_potential)
            smallest = value if smallest is None else torch.minimum(smallest, value)
        assert smallest is not None
        return smallest

    def record(self) -> dict[str, Any]:
        """The members' records."""
        return {"form": "ensemble", "members": [member.record() for member in self.each()]}
