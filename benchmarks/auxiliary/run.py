"""How well does the auxiliary head know what a token does? Fits on samples of the testbed model, judged on others.

    python benchmarks/auxiliary/run.py --shared ../shared

For each fit: the correlation of the verdict f with the summed advantages Σ_t V(s_t·y_t) - E_v V(s_t·v) of the response, squared.
A tilt's divergence, to first order and for the same fall of the rate, is its inverse times that of the exact projection,
whose sum is f - V(x). Beside it the cross-entropy at the sites of the same responses, and seconds.

Needs the corpora and models beside the checkout (--shared).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from constraintlang_compiler.pipeline import compile_path
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.auxiliary import AuxiliaryData, AuxiliaryHead, fit, heldout_sequences, site_inputs
from constraintlang_runtime.auxiliary.token_odds import give_token_odds
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.data import encode_rows, load_rows, prompt_rows
from constraintlang_runtime.draws import own_draws
from constraintlang_runtime.fitting import read_features
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.rounds import draw_prompts, score_alone
from constraintlang_runtime.sampling import derived_seed, sample
from constraintlang_runtime.scorers.binding import bind_scorers, parse_scorer_options
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.versions import versions

HERE = Path(__file__).parent
POLICY = "toxicity < 0.5 for domain=toxigen under tolerance=5%\n"
SETTINGS = ConstraintSettings(max_length=96, max_new_tokens=32)
DEFAULT = {"steps": SETTINGS.auxiliary_steps, "batch_size": SETTINGS.auxiliary_batch_size}
FITS: dict[str, dict[str, Any]] = {
    "labels of samples": {"odds": False, "steps": 800, "batch_size": 2048},
    "labels of twice the samples": {"odds": False, "steps": 800, "batch_size": 2048, "twice": True},
    "labels of samples and of training rows": {
        "odds": False,
        "corpus": True,
        "steps": 800,
        "batch_size": 2048,
    },
    "token odds of samples, next guess": {"odds": True, **DEFAULT},
    "token odds of samples and training rows, next guess (default)": {
        "odds": True,
        "corpus": True,
        **DEFAULT,
    },
    "the same, half the steps": {"odds": True, "corpus": True, **DEFAULT, "steps": DEFAULT["steps"] // 2},
}


def main() -> None:
    """Sample, score, fit, judge; print the table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="folder with data/ and testbed/"
    )
    parser.add_argument("--samples", type=int, default=4096, help="samples of a fit")
    parser.add_argument("--judged", type=int, default=3072, help="other samples that it is judged on")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    world = World(args.shared.resolve(), args.samples, args.judged, args.seed)
    print(
        f"{args.samples:,} samples ({world.rate:.1%} violate), {len(world.corpus.rows):,} training rows; judged on "
        f"{args.judged:,} other samples, seed {args.seed}, one thread of {platform.processor() or platform.machine()}\n"
    )
    print(
        f"{'fit':64s} {'corr(f, sum A)^2':>16s} {'cross-entropy':>14s} {'constant':>9s} {'seconds':>8s}",
        flush=True,
    )
    rows = []
    for name, options in FITS.items():
        rows.append({"fit": name, **options, **world.judge(options, args.seed)})
        one = rows[-1]
        print(
            f"{name:64s} {one['efficiency']:16.3f} {one['loss']:14.4f} {one['constant']:9.4f} {one['seconds']:8.1f}",
            flush=True,
        )
    result = {
        "rows": rows, "samples": args.samples, "judged": args.judged, "seed": args.seed, "violating": world.rate,
        "command": f"python benchmarks/auxiliary/run.py --samples {args.samples} --judged {args.judged} --seed {args.seed}",
        "versions": versions(), "device": {"kind": "cpu", "threads": 1},
    }  # fmt: skip
    path = HERE / "results" / "auxiliary.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwrote {path}")


class World:
    """Scored samples of the start model and scored training rows, with the model's features."""

    def __init__(self, shared: Path, samples: int, judged: int, seed: int) -> None:
        sys.path.insert(0, str(HERE.parent / "paper"))
        from data import prepare

        name = str(shared / "testbed" / "lm")
        self.tokenizer = load_tokenizer(name)
        self.model = load_model(name, tokenizer=self.tokenizer, dtype="float32", device="cpu").eval()
        self.anchor = Anchor(self.model)
        with tempfile.TemporaryDirectory() as folder:
            files = prepare(POLICY, shared, Path(folder) / "data")
            policy = compile_path(files.policy)
            self.clauses = policy.ir.clauses
            scorer = parse_scorer_options([f"toxicity={shared / 'testbed' / 'toxicity-classifier'}#toxic"])
            self.pool = ScoringPool(
                policy.ir.attributes, bind_scorers(policy.ir, scorer, folder=Path(folder))
            )
            prompts = prompt_rows(self._encoded(files.prompts, need_completion=False))
            corpus = [row for row in self._encoded(files.rows) if row.tags.get("domain") == "toxigen"]
        drawn = draw_prompts(prompts, 2 * samples + judged, derived_seed(seed, "prompts"))
        rows = sample(self.model, self.tokenizer, drawn, SETTINGS.law, seed=seed, batch_size=256)
        self.own = self._read(rows[:samples])
        self.more = self._read(rows[samples : 2 * samples])
        self.judged = self._read(rows[2 * samples :])
        self.corpus = self._read(
            [replace(row, completion=row.completion[: SETTINGS.max_new_tokens]) for row in corpus]
        )
        self.rate = float(self.own.bins[self.own.follows < 0].double().mean())

    def _encoded(self, path: Path, *, need_completion: bool = True) -> list[Any]:
        rows = load_rows([str(path)], role="data")
        return encode_rows(
            rows, self.tokenizer, max_length=96, seed=0, need_completion=need_completion, chat=SETTINGS.chat
        )

    def _read(self, rows: list[Any]) -> AuxiliaryData:
        found = score_alone(self.pool, self.clauses, rows, self.tokenizer)
        bins = found[:, 0].astype(np.int64)
        return read_features(self.anchor, rows, bins, pad_token(self.tokenizer), 128)

    def judge(self, options: dict[str, Any], seed: int) -> dict[str, float]:
        """Fit a head, and what it is worth on the other samples."""
        started = time.perf_counter()
        data = self.own.followed_by(self.more) if options.get("twice") else self.own
        corpus = self.corpus if options.get("corpus") else None
        with own_draws(derived_seed(seed, "auxiliary")):
            head = AuxiliaryHead(
                self.anchor.feature_size, self.anchor.vocab_size, 2, rank=SETTINGS.auxiliary_rank,
                width=SETTINGS.auxiliary_width, dropout=SETTINGS.auxiliary_dropout, token_odds=options["odds"],
                embeddings=self.anchor.head.weight.detach(),
            )  # fmt: skip
        beside = None if corpus is None else (corpus.rows, corpus.bins[corpus.follows < 0])
        kept_out = heldout_sequences(data, seed)
        give_token_odds(head, data, kept_out, beside, vocab_size=self.anchor.vocab_size)
        fit(
            head, data, self.anchor.logits_from, steps=options["steps"], batch_size=options["batch_size"], seed=seed,
            learning_rate=SETTINGS.auxiliary_learning_rate, weight_decay=SETTINGS.auxiliary_weight_decay,
            consistency_weight=0.0, corpus=None if options["odds"] else corpus, corpus_weight=1.0,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        return {**worth(head.eval().requires_grad_(False), self.judged, self.anchor), "seconds": seconds}


@torch.no_grad()
def worth(head: AuxiliaryHead, data: AuxiliaryData, anchor: Anchor) -> dict[str, float]:
    """Squared correlation of f and Σ_t A_t over responses, and cross-entropies at their sites."""
    advantages, losses = [], []
    every = site_inputs(head, data, torch.arange(len(data.tokens)))
    for sites in torch.arange(len(data.tokens)).split(512):
        law = torch.softmax(anchor.logits_from(data.features[sites]).float(), dim=-1)
        value = head.all_tokens(every[sites]).exp()[..., 1]
        own = value.gather(1, data.tokens[sites, None]).squeeze(1)
        advantages.append(own - (law * value).sum(-1))
        label = data.bins[sites].float()
        losses.append(-(label * own.log() + (1 - label) * (-own).log1p()))
    summed = torch.zeros(len(data.rows)).index_add(0, data.sequence, torch.cat(advantages))
    verdict = data.bins[data.follows < 0].float()
    share = data.bins.float().mean()
    constant = -(share * share.log() + (1 - share) * (1 - share).log())
    return {
        "efficiency": float(torch.corrcoef(torch.stack([verdict, summed]))[0, 1] ** 2),
        "loss": float(torch.cat(losses).mean()),
        "constant": float(constant),
    }


if __name__ == "__main__":
    main()
