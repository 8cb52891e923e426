"""A small language model whose laws are all listed, a clause on it of any rate, and fits to samples that it draws."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from enumerable_world import END, Floats, World, tree
from tabular_model import PROMPTS, all_rows, token_row
from world_policy import rarely

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.auxiliary import site_inputs
from constraintlang_runtime.clock import Clock
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.fitting import fit_auxiliary, read_features
from constraintlang_runtime.groups import Group
from constraintlang_runtime.proposals import draw_proposals, measure_start
from constraintlang_runtime.rounds import Measurement
from constraintlang_runtime.settings import ConstraintSettings

LENGTH, VOCAB = 5, 4
TOKENIZER = SimpleNamespace(pad_token_id=END, eos_token_id=END, bos_token_id=None)


@dataclass(frozen=True)
class RareWorld:
    """A model and its world; a completion violates when it contains ``pattern``."""

    model: Any
    world: World
    pattern: tuple[int, ...]

    def violates(self, completion: tuple[int, ...]) -> float:
        """1 where the pattern stands somewhere in the completion."""
        n = len(self.pattern)
        return float(any(completion[i : i + n] == self.pattern for i in range(len(completion))))

    @property
    def f(self) -> Floats:
        """The statistic of every listed completion [P, N]."""
        row = [self.violates(y) for y in self.world.sequences]
        return np.tile(row, (self.world.num_prompts, 1))

    def score(self, rows: list[TokenRow]) -> Floats:
        """Statistics [n, 1] of rows."""
        return np.array([[self.violates(row.completion)] for row in rows])

    def group(self) -> Group:
        """A group with the prompts of the world, in its shares."""
        prompts = [
            TokenRow(PROMPTS[x], (), {}, False)
            for x, k in enumerate(self.world.copies)
            for _ in range(int(k))
        ]
        return Group("all", (rarely("a", 0.5),), (0,), prompts, 0.0, np.zeros(1))

    def sampled(self, config: ConstraintSettings, seed: int) -> Measurement:
        """What the first round measures."""
        group = self.group()
        found, left = measure_start(
            self.model,
            TOKENIZER,
            group,
            config,
            self.score,
            count=config.anchor_samples,
            seed=seed,
            clock=Clock(),
        )
        if left is None:
            return found
        proposals = draw_proposals(
            self.model, TOKENIZER, left, group, found, config, self.score, seed=seed, num_statements=1
        )
        return Measurement(found.rows, found.statistics, proposals)

    def errors(self, found: Measurement, config: ConstraintSettings, seed: int, dual: float = 4.0) -> Floats:
        """Of a fit to samples: mean total variation of the law, and mean error of log V at a dual, over prefixes."""
        anchor, group = Anchor(self.model), self.group()
        fit_auxiliary(
            group, anchor, found.rows, found.statistics, config, END, seed=seed, proposals=found.proposals
        )
        assert group.head is not None
        pairs = all_rows(self.world)
        rows = [token_row(self.world, x, n) for x, n in pairs]
        data = read_features(anchor, rows, np.zeros(len(rows), dtype=np.int64), END, 512)
        with torch.no_grad():
            inputs = site_inputs(group.head.eval(), data, torch.arange(len(data.tokens)))
            law = group.head.one_token(inputs, data.tokens).exp().double().numpy()
        node = [
            (x, self.world.node[self.world.sequences[n][: t + 1]])
            for x, n in pairs
            for t in range(len(self.world.sequences[n]))
        ]
        exact = self.world.bin_law(self.world.law, self.f.astype(np.int64), 2)
        mass = self.world.mass(self.world.law)
        seen: dict[tuple[int, int], int] = {where: i for i, where in enumerate(node)}
        keys = list(seen)
        first, second = np.array(keys).T
        weight = self.world.prompt_law[first] * mass[first, second]
        weight = weight / weight.sum()
        fitted, true = law[[seen[key] for key in keys]], exact[first, second]
        psi = np.exp(-dual * np.array([0.0, 1.0]))
        return np.array([
            weight @ (np.abs(fitted - true).sum(-1) / 2),
            weight @ np.abs(np.log(fitted @ psi) - np.log(true @ psi)),
        ])  # fmt: skip


def rare_world(seed: int, pattern: tuple[int, ...]) -> RareWorld:
    """A model drawn from a seed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=16, bos_token_id=None, eos_token_id=END,
        initializer_range=0.25,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config).eval()
    prefixes, sequences = tree(VOCAB, LENGTH)
    table = np.empty((len(PROMPTS), len(prefixes), VOCAB))
    for x, prompt in enumerate(PROMPTS):
        for length in range(LENGTH):
            some = [s for s, prefix in enumerate(prefixes) if len(prefix) == length]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*prompt, *prefixes[s]] for s in some])).logits[:, -1]
            table[x, some] = torch.softmax(logits.double(), -1).numpy()
    return RareWorld(model, World(np.array([2, 1, 1]), prefixes, sequences, table), pattern)
