"""What every form of the auxiliary model offers to those who fit it, train against it and decode with it.

Axes: ``S`` sites, ``V`` vocabulary, ``M`` bins, ``F`` features (the anchor's two halves), ``I`` inputs of the form.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from constraintlang_runtime.data import Batch
from constraintlang_runtime.regularizer import log_values

if TYPE_CHECKING:
    from constraintlang_runtime.anchor import Anchor


@dataclass
class Step:
    """What guided decoding shows a form before each new token.

    ``input_ids`` [B, L] so far, left-padded; ``attention_mask`` [B, L]; ``features`` [B, F] of the anchor at the last
    position; ``memory`` is what the form kept of the step before, None at the first.
    """

    input_ids: Tensor
    attention_mask: Tensor
    features: Tensor
    memory: Any


class AuxiliaryModel(nn.Module):
    """π(s·v), the law of the bin after every next token.

    A caller turns sites into ``inputs`` once, whole rows at a time, and asks for laws chunk by chunk: ``inputs`` is
    [S, I] and small, ``all_tokens`` is [S, V, M] and large. After a fit no parameter asks for a gradient.
    """

    num_bins: int
    reads_rows: ClassVar[bool] = False  # whether ``inputs`` needs whole rows, or the features alone
    reads_tokens: bool = (
        False  # whether something of the tokens so far stands beside the features (``read_before``)
    )
    max_grad_norm: ClassVar[float | None] = None

    def attach(self, anchor: Anchor) -> None:
        """Tell the form which anchor it stands beside; called whenever that changes."""

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """What has to hold while gradients flow into the form's own parameters."""
        yield

    def inputs(
        self, batch: Batch, sites: Bool[Tensor, "B T"], features: Float[Tensor, "S F"]
    ) -> Float[Tensor, "S I"]:
        """What the form reads at the sites, row-major; ``features`` are the anchor's there.

        The sites of a row follow each other from its first completion token on. Gradient: to the form's parameters.
        """
        return features

    def read_before(
        self, tokens: Int[Tensor, " N"], sequence: Int[Tensor, " N"]
    ) -> Float[Tensor, "N K"] | None:
        """What ``inputs`` has beside the features, at all sites of some sequences; None where that is nothing.

        ``tokens`` are those after the sites. Not asked of a form that reads rows.
        """
        return None

    def step(self, now: Step) -> tuple[Float[Tensor, "B I"], Any]:
        """``inputs`` at the last position while decoding, and what to keep for the next step."""
        return now.features, None

    def select(self, memory: Any, rows: Tensor) -> Any:
        """What was kept of a step, for some rows of its batch, in any order and number."""
        return memory

    def take_odds(self, token_odds: Float[Tensor, "V K"], mean: Float[Tensor, " K"]) -> None:
        """Weights of the tokens and the mean over sites of what they sum to; of a form that ``reads_tokens``."""
        raise NotImplementedError

    def value_law(self, inputs: Float[Tensor, "S I"]) -> Float[Tensor, "S M"]:
        """The law at the prefix itself, by a guess of its own and not by p_ref; of a form that ``reads_tokens``."""
        raise NotImplementedError

    def all_tokens(self, inputs: Float[Tensor, "S I"]) -> Float[Tensor, "S V M"]:
        """Bin log-probabilities after every next token. Gradient: to the parameters."""
        raise NotImplementedError

    def one_token(self, inputs: Float[Tensor, "S I"], tokens: Int[Tensor, " S"]) -> Float[Tensor, "S M"]:
        """Bin log-probabilities after the given next token of each site; equals ``all_tokens`` at those tokens."""
        raise NotImplementedError

    def observed_laws(
        self, inputs: Float[Tensor, "S I"], tokens: Int[Tensor, " S"]
    ) -> tuple[Float[Tensor, "S M"], Float[Tensor, "S M"]]:
        """``one_token`` and ``value_law``, which a form may find in one pass."""
        return self.one_token(inputs, tokens), self.value_law(inputs)

    def prefix_law(
        self, inputs: Float[Tensor, "S I"], anchor_logits: Float[Tensor, "S V"]
    ) -> Float[Tensor, "S M"]:
        """The law at the prefix itself, π(s) = Σ_v p_ref(v|s) π(s·v), as log-probabilities."""
        return torch.logsumexp(
            self.all_tokens(inputs) + torch.log_softmax(anchor_logits.float(), dim=-1)[:, :, None], dim=1
        )

    def log_values(
        self, inputs: Float[Tensor, "S I"], log_potential: Float[Tensor, "*S_or_1 M"]
    ) -> Float[Tensor, "S V"]:
        """log V(s·v) = log Σ_m π_m(s·v) ψ_m; see ``regularizer.log_values``."""
        return log_values(self.all_tokens(inputs), log_potential)

    def start_at(self, log_law: Float[Tensor, " M"]) -> None:
        """Start a first fit at a constant law; a model that was fitted before stays where it is."""
        raise NotImplementedError

    def record(self) -> dict[str, Any]:
        """What ``make.from_record`` builds an equal model from, weights aside; JSON."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        first = next(self.parameters(), None)
        return torch.device("cpu") if first is None else first.device
