"""The form `transformer`: a small decoder of its own with the model's tokens, and the head's output on its states."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from constraintlang_runtime.auxiliary.head import AuxiliaryHead, token_factors
from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel, Step
from constraintlang_runtime.data import Batch
from constraintlang_runtime.errors import ConfigError


class TransformerAuxiliary(AuxiliaryModel):
    """π(s·v) from a Llama decoder of ``layers`` layers and ``width`` that reads the tokens themselves.

    It does not depend on what the anchor's hidden states keep, and costs its own forward pass. Token embeddings start
    at the leading singular directions of the anchor's output embeddings and are learned; a vector added to completion
    tokens tells them from the prompt's. The output is that of ``AuxiliaryHead``, low-rank over the vocabulary. It
    starts with q̂ = p_ref.
    """

    reads_rows: ClassVar[bool] = True
    max_grad_norm: ClassVar[float | None] = 1.0

    def __init__(
        self,
        vocab_size: int,
        num_bins: int,
        *,
        layers: int,
        rank: int,
        width: int,
        dropout: float = 0.0,
        embeddings: Tensor | None = None,
    ) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaModel

        if width % 2:
            raise ConfigError(
                f"auxiliary_width: got {width}, a transformer needs an even one", help="use a multiple of 32"
            )
        heads = next(h for h in range(max(1, width // 32), 0, -1) if width % (2 * h) == 0)
        self.num_bins, self.layers, self.dropout = num_bins, layers, dropout
        # no dropout in attention: its kernel would draw from torch's common state
        config = LlamaConfig(
            vocab_size=vocab_size, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=heads,
            initializer_range=width**-0.5, max_position_embeddings=1 << 20, pad_token_id=None, bos_token_id=None,
            eos_token_id=None,
        )  # fmt: skip
        self.decoder = LlamaModel(config)
        self.completion = nn.Parameter(torch.randn(1, width) / width**0.5)
        if embeddings is not None:
            table = self.decoder.embed_tokens.weight
            table.data.copy_(token_factors(embeddings, width))
        self.output = AuxiliaryHead(
            width, vocab_size, num_bins, rank=rank, width=width, dropout=dropout, embeddings=embeddings
        )

    def inputs(
        self, batch: Batch, sites: Bool[Tensor, "B T"], features: Float[Tensor, "S F"]
    ) -> Float[Tensor, "S I"]:
        """The decoder's last hidden states at the sites. Gradient: to the decoder."""
        states = self.decoder(
            inputs_embeds=self._embedded(batch.input_ids, batch.region),
            attention_mask=batch.attention_mask,
            use_cache=False,
        ).last_hidden_state
        return states[sites]

    def _embedded(self, input_ids: Int[Tensor, "B T"], region: Bool[Tensor, "B T"]) -> Float[Tensor, "B T W"]:
        return self.decoder.embed_tokens(input_ids) + region[..., None] * self.completion

    def step(self, now: Step) -> tuple[Float[Tensor, "B I"], Any]:
        """The same at the last position; the cache of keys and values is kept, so that decoding stays linear."""
        new = now.input_ids if now.memory is None else now.input_ids[:, -1:]
        position = (now.attention_mask.cumsum(1) - 1).clamp_min(0)[:, -new.shape[1] :]
        region = torch.full_like(new, now.memory is not None, dtype=torch.bool)
        out = self.decoder(
            inputs_embeds=self._embedded(new, region), attention_mask=now.attention_mask, position_ids=position,
            past_key_values=now.memory, use_cache=True,
        )  # fmt: skip
        return out.last_hidden_state[:, -1], out.past_key_values

    def select(self, memory: Any, rows: Tensor) -> Any:
        """The cache of some rows."""
        memory.reorder_cache(rows)
        return memory

    def all_tokens(self, inputs: Float[Tensor, "S I"]) -> Float[Tensor, "S V M"]:
        """Bin log-probabilities after every next token."""
        return self.output.all_tokens(inputs)

    def one_token(self, inputs: Float[Tensor, "S I"], tokens: Int[Tensor, " S"]) -> Float[Tensor, "S M"]:
        """Bin log-probabilities after the given next token of each site."""
        return self.output.one_token(inputs, tokens)

    def start_at(self, log_law: Float[Tensor, " M"]) -> None:
        """Put the constant law into the output's bias."""
        self.output.start_at(log_law)

    def record(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "form": "transformer",
            "vocab_size": self.decoder.config.vocab_size,
            "num_bins": self.num_bins,
            "layers": self.layers,
            "rank": self.output.token_factors.shape[1],
            "width": self.decoder.config.hidden_size,
            "dropout": self.dropout,
        }
