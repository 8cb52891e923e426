"""A causal language model and an auxiliary head that *are* the tables of an enumerable world.

The hidden state of a position is the one-hot of (prompt, prefix), the output embeddings are the log-table, so
that the runtime's anchor, penalty, features and guidance run unchanged on laws that are known exactly.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from enumerable_world import Floats, World
from torch import Tensor, nn

from constraintlang_runtime.auxiliary import AuxiliaryHead, AuxiliaryModel
from constraintlang_runtime.data import TokenRow

torch.set_num_threads(1)  # tables of a few dozen numbers: a second thread only waits for the first

# No prompt begins another, two lengths, so that a shifted or misread prompt length shows.
PROMPTS: tuple[tuple[int, ...], ...] = ((1,), (2, 1), (2, 2))


class _Config:
    """As much of a model's configuration as the anchor asks for."""

    def get_text_config(self) -> SimpleNamespace:
        return SimpleNamespace()


class TabularLM(nn.Module):
    """p(v | x, s) of a table [P, S, V] behind the interface of a causal language model."""

    def __init__(self, world: World, table: Floats) -> None:
        super().__init__()
        self._world = world
        num_prompts, num_prefixes, vocab_size = table.shape
        self.lm_head = nn.Linear(num_prompts * num_prefixes, vocab_size, bias=False)
        self.lm_head.weight.data = torch.from_numpy(np.log(table).reshape(-1, vocab_size).T.copy()).float()
        self.config = _Config()

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = False) -> Any:
        hidden = self.lm_head.weight.new_zeros((*input_ids.shape, self.lm_head.in_features))
        for i, row in enumerate(input_ids.tolist()):
            for t in range(len(row)):
                state = state_of(self._world, tuple(row[: t + 1]))
                if state is not None:
                    hidden[i, t, state] = 1.0
        return SimpleNamespace(logits=self.lm_head(hidden))


def state_of(world: World, ids: tuple[int, ...]) -> int | None:
    """The number x·S + s of a prompt followed by an open prefix, or None."""
    for x, prompt in enumerate(PROMPTS[: world.num_prompts]):
        number = world.node.get(ids[len(prompt) :]) if ids[: len(prompt)] == prompt else None
        if number is not None and number < len(world.prefixes):
            return x * len(world.prefixes) + number
    return None


def token_row(world: World, x: int, sequence: int, *, train_prompt: bool = False) -> TokenRow:
    """A listed sequence as the runtime's row."""
    return TokenRow(PROMPTS[x], world.sequences[sequence], {}, train_prompt)


def all_rows(world: World) -> list[tuple[int, int]]:
    """Every pair of a prompt and a sequence, shuffled so that lengths mix."""
    pairs = [(x, n) for x in range(world.num_prompts) for n in range(len(world.sequences))]
    return [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]


class ExactHead(AuxiliaryHead):
    """The exact law π(s·v) read from a table; everything else is the runtime's own head."""

    def __init__(self, world: World, bin_law: Floats) -> None:
        nn.Module.__init__(self)
        after = bin_law[:, world.child]  # [P, S, V, M]
        self.num_bins = after.shape[-1]
        with np.errstate(divide="ignore"):
            flat = np.log(after).reshape(-1, *after.shape[2:])
        self.register_buffer("table", torch.from_numpy(flat).float())

    def all_tokens(self, features: Tensor) -> Tensor:
        return self.table[self._state(features)]

    def one_token(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self.table[self._state(features), tokens]

    log_values = AuxiliaryModel.log_values  # from the table above, not from the head's own parameters

    @staticmethod
    def _state(features: Tensor) -> Tensor:
        """The state's number: the first half of the features is its one-hot code, the second the running mean."""
        return features[..., : features.shape[-1] // 2].argmax(dim=-1)


def state_features(world: World) -> Tensor:
    """What the anchor's features are at every state [P·S, F]: its one-hot code and the mean of its path's codes."""
    number = {prefix: s for s, prefix in enumerate(world.prefixes)}
    states = len(world.prefixes)
    codes = torch.eye(world.num_prompts * states)
    rows = []
    for x in range(world.num_prompts):
        for prefix in world.prefixes:
            path = [x * states + number[prefix[:t]] for t in range(len(prefix) + 1)]
            rows.append(torch.cat([codes[path[-1]], codes[path].mean(0)]))
    return torch.stack(rows)
