"""Where the trained model ends, on a world whose laws are known exactly, for each anchor and divergence.

Three prompts, four tokens, sequences of at most four tokens: every law is a list of 121 probabilities per prompt, so
that the projection is a sum and not an estimate. A model that is a table is trained with the runtime's engine, rounds,
auxiliary fit, controller and loss; only sampling is replaced, by draws from the listed law. The rows cover two of the
prompts; the third is where a regularizer without a corpus beside it can do as it likes.

    python benchmarks/world/run.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from enumerable_world import END, World, random_table, random_world  # noqa: E402
from tabular_model import TabularLM, token_row  # noqa: E402

from constraintlang.source import SourceFile  # noqa: E402
from constraintlang_compiler.checkers import statistics  # noqa: E402
from constraintlang_compiler.pipeline import compile_source  # noqa: E402
from constraintlang_runtime.batching import joined  # noqa: E402
from constraintlang_runtime.config import ConstraintConfig  # noqa: E402
from constraintlang_runtime.data import IGNORED_LABEL, TokenRow, collate  # noqa: E402
from constraintlang_runtime.engine import ConstraintEngine  # noqa: E402
from constraintlang_runtime.groups import Group, set_point_of  # noqa: E402
from constraintlang_runtime.penalty import regularizer_term  # noqa: E402
from constraintlang_runtime.projection import project  # noqa: E402
from constraintlang_runtime.regularizer import language_model_loss  # noqa: E402
from constraintlang_runtime.rounds import Measurement  # noqa: E402
from constraintlang_runtime.versions import versions  # noqa: E402

ANCHORS = ("start", "tuned", "previous", "current")
DIVERGENCES = ("reverse", "forward", "js", "alpha")
START_RATE = 0.3
COVERED = 2  # prompts that have training rows
POLICY = """edition 1
attribute toxicity: score in [0, 1] lower_is_better
kind: P(toxicity >= 0.5) <= 5%
"""
SETTINGS: dict[str, Any] = {
    "warmup_fraction": 1 / 3, "anchor_samples": 2048, "control_samples": 512, "verify_prompts": 1000, "auxiliary_steps": 200,
    "auxiliary_batch_size": 512, "auxiliary_weight_decay": 0.0, "auxiliary_dropout": 0.0,
    "training_rows": "given",  # the loop below is about the regularizer against the pull of all rows
}  # fmt: skip


class Setting:
    """The world, its corpus law, the statistic of every sequence, and the rows."""

    def __init__(self, seed: int) -> None:
        self.world: World = random_world(seed)
        world = self.world
        rng = np.random.default_rng(seed + 1)
        other = random_table(rng, *world.table.shape)
        corpus = np.sqrt(world.table * other)  # half-way between the start model and another law
        self.corpus_table = corpus / corpus.sum(axis=-1, keepdims=True)
        score = world.score(seed)
        order = np.argsort(score.ravel())
        share = np.cumsum((world.prompt_law[:, None] * world.law).ravel()[order])
        self.scores = np.empty_like(score).ravel()
        self.scores[order] = np.clip(
            share + START_RATE - 0.5, 0.0, 1.0
        )  # the start model violates at this rate
        self.scores = self.scores.reshape(score.shape)
        self.policy = compile_source(SourceFile(POLICY, "world.policy"))
        self.clauses = self.policy.ir.clauses
        self.f = statistics(self.clauses, {"toxicity": self.scores.ravel()}).reshape(score.shape)
        self.number = {y: n for n, y in enumerate(world.sequences)}
        self.prompt = {token_row(world, x, 0).prompt: x for x in range(world.num_prompts)}
        self.prompts = [
            token_row(world, x, 0) for x in range(world.num_prompts) for _ in range(world.copies[x])
        ]
        law = world.law_of(self.corpus_table)[:COVERED] * world.prompt_law[:COVERED, None]
        picked = np.random.default_rng(seed + 2).choice(law.size, size=4000, p=law.ravel() / law.sum())
        self.rows = [token_row(world, *divmod(int(i), law.shape[1])) for i in picked]

    def statistics_of(self, rows: list[TokenRow]) -> np.ndarray:
        """f [n, 1] of rows that are listed sequences."""
        return np.array([[self.f[self.prompt[row.prompt], self.number[row.completion]]] for row in rows])

    def law(self, model: TabularLM) -> np.ndarray:
        """The exact law of a model [P, N]."""
        weight = model.lm_head.weight.detach().double()
        table = torch.softmax(weight.T, dim=-1).numpy().reshape(self.world.table.shape)
        return self.world.law_of(table)

    def projection(self, law: np.ndarray, point: float) -> np.ndarray:
        """The exact projection of a law onto the level, over the list of sequences."""
        world = self.world
        rows = world.per_prompt_copy(world.as_bins(law))
        solved = project(
            rows, self.f.reshape(-1, 1), np.array([point]), np.zeros(rows.shape[1], dtype=bool), 30.0
        )
        return world.tilt(law, np.exp(-solved.duals[0] * self.f))[0]


class FastLM(TabularLM):
    """The tabular model with its states looked up for all rows at once."""

    def __init__(self, world: World, table: np.ndarray) -> None:
        super().__init__(world, table)
        prompts = [token_row(world, x, 0).prompt for x in range(world.num_prompts)]
        known: dict[tuple[int, ...], int] = {(): 0}
        code = [-1]
        for x, prompt in enumerate(prompts):
            for s, prefix in enumerate(((), *world.prefixes[1:])):
                for cut in range(len(prompt) + len(prefix) + 1):
                    tokens = (prompt + prefix)[:cut]
                    if tokens not in known:
                        known[tokens] = len(code)
                        code.append(-1)
                code[known[prompt + prefix]] = x * len(world.prefixes) + s
        dead = len(code)
        code.append(-1)
        step = np.full((len(code), world.vocab_size), dead)
        for tokens, place in known.items():
            if tokens:
                step[known[tokens[:-1]], tokens[-1]] = place
        self._code, self._step = torch.tensor(code), torch.from_numpy(step)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = False) -> Any:
        """Logits of every position, 0 where the row is not a prompt and an open prefix."""
        place = torch.zeros(len(input_ids), dtype=torch.long)
        states = []
        for t in range(input_ids.shape[1]):
            place = self._step[place, input_ids[:, t]]
            states.append(self._code[place])
        state = torch.stack(states, dim=1)
        hidden = torch.nn.functional.one_hot(state.clamp_min(0), self.lm_head.in_features).float()
        return SimpleNamespace(logits=self.lm_head(hidden * (state >= 0)[:, :, None]))


class WorldEngine(ConstraintEngine):
    """The engine with scores looked up."""

    setting: Setting

    def score(self, clauses: Any, rows: Any) -> np.ndarray:
        """Statistics [n, 1] of listed sequences."""
        return self.setting.statistics_of(rows)


class _Tokenizer:
    pad_token_id = END


def entropy(law: np.ndarray) -> np.ndarray:
    """Nats of each prompt's law [P]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.where(law > 0, law * np.log(law), 0.0).sum(axis=1)


def train(setting: Setting, seed: int, steps: int, rounds: int, rate: float, **choice: str) -> dict[str, Any]:
    """One cell: the final law, and the exact rate and entropy at every round."""
    world = setting.world
    config = ConstraintConfig(
        output_dir="unused", max_steps=steps, rounds=rounds, seed=seed, report_to=[], **(SETTINGS | choice)
    )
    model = FastLM(world, world.table)
    group = Group(
        "all", setting.clauses, (0,), setting.prompts, 1.0, setting.statistics_of(setting.rows).mean(axis=0),
        corpus_rows=setting.rows,
    )  # fmt: skip
    engine = WorldEngine(setting.policy, config, None, _Tokenizer(), [group], steps, seed)  # type: ignore[arg-type]
    engine.setting = setting
    engine.take_start(model, preserves=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=rate / 5)
    generator = torch.Generator().manual_seed(seed)
    rates, entropies, duals = [], [], []

    def measured(live: Any, *_: Any, count: int, seed: int, **__: Any) -> Measurement:
        x, n = world.draw(setting.law(live), count, seed % 2**32)
        rows = [token_row(world, int(a), int(b)) for a, b in zip(x, n, strict=True)]
        return Measurement(rows, setting.statistics_of(rows))

    with patch("constraintlang_runtime.measuring.measure", measured):
        for step in range(steps + 1):
            if engine.is_round(step):
                law = setting.law(model)
                rates.append(world.mean(law, setting.f))
                entropies.append(world.over_prompts(entropy(law)))
                engine.run_round(model, step)
                duals.append(float(group.duals[0]) if len(group.duals) else 0.0)
            if step == steps:
                break
            picked = torch.randint(len(setting.rows), (32,), generator=generator).tolist()
            corpus = collate([setting.rows[i] for i in picked], END)
            active = engine.active()
            batch, slices = joined(corpus, {g: engine.sampled_rows(g, 32, step, 0) for g in active}, END)
            logits = model(batch.input_ids, batch.attention_mask).logits
            count = float((corpus.labels[:, 1:] != IGNORED_LABEL).sum())
            loss = language_model_loss(logits[: len(picked), : corpus.labels.shape[1]], corpus.labels, count)
            for g in active:
                assert engine.anchor is not None
                loss = loss + regularizer_term(
                    group, engine.anchor, batch, logits, corpus_rows=torch.arange(len(picked)),
                    sampled_rows=slices[g], corpus_tokens=count, config=config.regularizer,
                ) / count  # fmt: skip
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return {"law": setting.law(model), "rates": rates, "entropies": entropies, "duals": duals,
            "weight": group.weight, "exponent": group.exponent}  # fmt: skip


def compare(setting: Setting, found: dict[str, Any], targets: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a cell is told by: distances to the projections, entropy kept, rates."""
    world, law = setting.world, found.pop("law")
    ends = {f"kl_to_{name}": world.over_prompts(world.kl(law, target)) for name, target in targets.items()}
    return {
        **found, **ends,
        "rate": world.mean(law, setting.f),
        "entropy": world.over_prompts(entropy(law)),
        "entropy_covered": float(entropy(law)[:COVERED].mean()),
        "entropy_uncovered": float(entropy(law)[COVERED:].mean()),
    }  # fmt: skip


def page(result: dict[str, Any]) -> str:
    """The tables in Markdown."""
    known = result["laws"]
    lines = [
        "# Where the trained model ends",
        "",
        f"An enumerable world (seed {result['seed']}), bound 5%, set-point {result['set_point']:.4f}, {result['steps']} steps in",
        f"{result['rounds']} rounds, one seed. A `tuned` anchor is taken after a third of the rounds, the auxiliary model is fitted in fewer",
        "steps than by default; the rest is default but for anchor and divergence. KL in nats per sequence from the final model to",
        "the exact projection of the start model and of the plainly fine-tuned one onto the set-point; entropy in nats of the",
        "final model on the two prompts with training rows and on the third, which has none. The default is `tuned, reverse`.",
        "",
        f"Cells that ran: {len(result['cells'])} of {len(ANCHORS) * len(DIVERGENCES)}.",
        "",
        "| model | rate | KL to projected start | KL to projected tuned | entropy, rows | entropy, no rows | rate, last 5 rounds |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in [*known, *result["cells"]]:
        tail = row.get("rates", [])[-5:]
        shown = f"{min(tail):.3f} to {max(tail):.3f}" if tail else ""
        lines.append(
            f"| {row['name']} | {row['rate']:.3f} | {row['kl_to_start']:.3f} | {row['kl_to_tuned']:.3f} | "
            f"{row['entropy_covered']:.2f} | {row['entropy_uncovered']:.2f} | {shown} |"
        )
    lines += ["", "Rate at each round:", ""]
    lines += [f"- {row['name']}: {' '.join(f'{r:.3f}' for r in row['rates'])}" for row in result["cells"]]
    found = result["versions"]
    lines += [
        "",
        f"Made by `{result['command']}` in {result['seconds']:.0f} s: {', '.join(f'{k} {v}' for k, v in found.items())}, {result['cores']} cores.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the grid, write ``results/world.json`` and ``README.md``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--learning_rate", type=float, default=0.03)
    parser.add_argument(
        "--cell", action="append", metavar="ANCHOR,DIVERGENCE", help="these cells only, nothing is written"
    )
    args = parser.parse_args()
    started = time.perf_counter()
    setting = Setting(args.seed)
    world = setting.world
    common = (args.seed, args.steps, args.rounds, args.learning_rate)
    plain = train(setting, *common, method="plain")
    config = ConstraintConfig(output_dir="unused", report_to=[], **SETTINGS)
    point = set_point_of(setting.clauses[0], config, 1)
    laws = {"start": world.law, "tuned": plain["law"]}
    targets = {name: setting.projection(law, point) for name, law in laws.items()}
    named = {"start model": world.law, "corpus": world.law_of(setting.corpus_table), "plain": plain["law"],
             "projected start": targets["start"], "projected tuned": targets["tuned"]}  # fmt: skip
    known = [{"name": name, **compare(setting, {"law": law}, targets)} for name, law in named.items()]
    cells = []
    for anchor, divergence in itertools.product(ANCHORS, DIVERGENCES):
        if args.cell and f"{anchor},{divergence}" not in args.cell:
            continue
        began = time.perf_counter()
        found = train(setting, *common, anchor=anchor, divergence=divergence)
        row = {
            "name": f"{anchor}, {divergence}",
            **compare(setting, found, targets),
            "seconds": time.perf_counter() - began,
        }
        cells.append(row)
        print({k: v if isinstance(v, str) else np.round(v, 3).tolist() for k, v in row.items()}, flush=True)
        if not args.cell:  # written after every cell, so that a run that is stopped leaves what it found
            result = {
                "command": f"python benchmarks/world/run.py --seed {args.seed} --steps {args.steps} --rounds {args.rounds}",
                "seed": args.seed, "steps": args.steps, "rounds": args.rounds, "set_point": point, "laws": known,
                "cells": cells, "seconds": time.perf_counter() - started, "versions": versions(), "cores": os.cpu_count(),
            }  # fmt: skip
            (HERE / "results").mkdir(exist_ok=True)
            (HERE / "results" / "world.json").write_text(json.dumps(result, indent=1) + "\n")
            (HERE / "README.md").write_text(page(result))


if __name__ == "__main__":
    main()
