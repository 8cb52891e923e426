"""A training stage on top of a finished model: its prompts, draws, scores, log-probabilities, optimizer and end.

What the rows of RL, DPO and DPG share. All start from the same finished row (``plain`` by default), draw with the
project's own sampler at temperature 1, have at most ``scale.oracle_calls`` texts scored, and write to ``job.folder``.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from job import Job, Scale, Trained
from numpy.typing import NDArray
from oracle import Oracle
from torch import Tensor

from constraintlang_compiler.checkers import statistics
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.data import (
    IGNORED_LABEL,
    Batch,
    TokenRow,
    collate,
    encode_rows,
    load_rows,
    next_tokens,
    prediction_sites,
    prompt_rows,
)
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.output_head import final_logits, scale_and_cap
from constraintlang_runtime.sampling import completion_texts, derived_seed, prompt_texts, sample
from constraintlang_runtime.sampling_law import SamplingLaw

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Completed rows and what the oracle says of them: ``scores`` [n] of the attribute, ``violations`` [n] the sum of
    the clauses' statistics (0 or 1 where one clause speaks of single responses); prompt and completion as texts.
    """

    rows: list[TokenRow]
    prompts: list[str]
    completions: list[str]
    scores: Floats
    violations: Floats

    @property
    def rewards(self) -> Floats:
        """The reward of ``PolicyReward`` with all weights 1: minus the statistics."""
        return 0.0 - self.violations

    @property
    def num_tokens(self) -> int:
        """Prompt and completion tokens."""
        return sum(len(row.ids) for row in self.rows)


@dataclass
class Stage:
    """The state of a stage; ``seconds_before`` is what an earlier process spent on it."""

    job: Job
    before: Trained
    model: Any
    tokenizer: Any
    prompts: list[TokenRow]
    oracle: Oracle
    started: float
    stages: tuple[str, ...]
    seconds_before: float = 0.0
    tokens: int = 0
    _corpus: list[TokenRow] = field(default_factory=list)

    @classmethod
    def start(cls, job: Job, after: str = "plain", *, resumes: bool = False) -> Stage:
        """Begin a stage of ``job`` on the finished model of another row with the same seed.

        With ``resumes`` the caller goes on with ``resume`` or ``went_on``; else what a broken-off run asked is dropped.
        """
        started = time.perf_counter()
        before = job.trained(after)
        tokenizer = load_tokenizer(before.model)
        model = load_model(before.model, device=job.scale.device, tokenizer=tokenizer)
        rows = load_rows([str(job.prompts)], role="prompts")
        encoded = encode_rows(
            rows, tokenizer, max_length=job.scale.max_length, seed=job.seed, need_completion=False
        )
        oracle = Oracle.open(job, keeps=resumes)
        torch.manual_seed(derived_seed(job.seed, job.system))
        return cls(job, before, model, tokenizer, prompt_rows(encoded), oracle, started, (after,))

    def reference(self) -> Any:
        """A frozen copy of the model that the stage starts from."""
        model = load_model(self.before.model, device=self.job.scale.device, tokenizer=self.tokenizer)
        return model.eval().requires_grad_(False)

    # ------------------------------------------------------------ a stage that was broken off
    @property
    def checkpoint(self) -> Path:
        """The folder of the last checkpoint of ``save``."""
        return self.job.folder / "checkpoint"

    def save(self, step: int, **parts: Any) -> None:
        """Keep the state before ``step``, and that of ``parts`` (optimizers, modules) by their names.

        The checkpoint of before is replaced once this one is whole.
        """
        new, old = self.job.folder / "checkpoint.new", self.job.folder / "checkpoint.old"
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)
        self.model.save_pretrained(new)
        for name, part in parts.items():
            torch.save(part.state_dict(), new / f"{name}.pt")
        (new / "stage.json").write_text(json.dumps(self.spent(step)))
        if self.checkpoint.exists():
            self.checkpoint.rename(old)
        new.rename(self.checkpoint)
        shutil.rmtree(old, ignore_errors=True)

    def resume(self, **parts: Any) -> int:
        """Go back to the last checkpoint; the step to go on from, 0 when there is none."""
        if not (self.checkpoint / "stage.json").exists():
            self.oracle.rewind(0)
            return 0
        state = load_model(str(self.checkpoint), device=self.job.scale.device).state_dict()
        self.model.load_state_dict(state)
        for name, part in parts.items():
            part.load_state_dict(torch.load(self.checkpoint / f"{name}.pt", weights_only=True))
        return self.went_on(json.loads((self.checkpoint / "stage.json").read_text()))

    def spent(self, step: int) -> dict[str, float]:
        """What a checkpoint before ``step`` has to remember beside model and optimizer."""
        seconds = self.seconds_before + time.perf_counter() - self.started
        return {"step": step, "seconds": seconds, "tokens": self.tokens}

    def went_on(self, spent: Mapping[str, float]) -> int:
        """Take up what ``spent`` said; returns its step."""
        self.seconds_before, self.tokens = spent["seconds"], int(spent["tokens"])
        self.oracle.rewind(int(spent["step"]))
        return int(spent["step"])

    # ------------------------------------------------------------ draws
    def prompt_batch(self, step: int, count: int, copies: int = 1) -> list[TokenRow]:
        """The prompts of a step, ``copies`` in a row of each: epochs in a random order that the seed decides."""
        return [row for row in shuffled(self.prompts, step, count, self.job.seed) for _ in range(copies)]

    def corpus_batch(self, step: int, count: int) -> list[TokenRow]:
        """Training rows of a step, for a language-model term."""
        if not self._corpus:
            rows = load_rows([str(self.job.rows)], role="data")
            self._corpus = encode_rows(
                rows, self.tokenizer, max_length=self.job.scale.max_length, seed=self.job.seed
            )
        return shuffled(self._corpus, step, count, self.job.seed + 1)

    def draw(self, prompts: Sequence[TokenRow], step: int, model: Any = None, batch_size: int = 256) -> Drawn:
        """Complete prompts by the model as it is (or another) and have the completions scored."""
        self.oracle.step = step
        rows = sample(
            self.model if model is None else model, self.tokenizer, prompts,
            SamplingLaw(self.job.scale.max_new_tokens), seed=derived_seed(self.job.seed, self.job.system, step),
            batch_size=batch_size,
        )  # fmt: skip
        return self.judged(rows)

    def judged(self, rows: Sequence[TokenRow]) -> Drawn:
        """Rows with the oracle's scores; each row is one oracle call."""
        prompts, completions = prompt_texts(rows, self.tokenizer), completion_texts(rows, self.tokenizer)
        tags = [row.tags for row in rows]
        clauses = self.oracle.clauses
        scores, parts = self.oracle.scored(clauses, completions, prompts, tags)
        values = np.asarray(statistics(clauses, scores, parts), dtype=np.float64).sum(axis=1)
        own = next(iter(scores.values()))
        return Drawn(list(rows), prompts, completions, np.asarray(own, dtype=np.float64), values)

    # ------------------------------------------------------------ tensors
    def collate(self, rows: Sequence[TokenRow]) -> Batch:
        """Rows padded on the right, on the device."""
        return collate(rows, pad_token(self.tokenizer)).to(torch.device(self.job.scale.device))

    def autocast(self) -> torch.autocast:
        """The precision of the scale."""
        return torch.autocast(
            self.job.scale.device.split(":")[0], torch.bfloat16, enabled=self.job.scale.bf16
        )

    def log_probs(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """log p(y_t | x, y_<t) [B, T] at the sites of completion tokens, 0 elsewhere; and the sites [B, T]."""
        with self.autocast():
            logits, sites = site_logits(model, batch)
        return at_sites(token_log_probs(logits, next_tokens(batch.input_ids, sites)), sites), sites

    def lm_loss(self, batch: Batch) -> Tensor:
        """Mean negative log-likelihood per trained token of corpus rows, as plain fine-tuning has it."""
        with self.autocast():
            logits = self.model(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
            ).logits
        return torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), batch.labels[:, 1:], ignore_index=IGNORED_LABEL
        )

    # ------------------------------------------------------------ steps
    def optimizer(self, learning_rate: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
        """AdamW over the trained parameters of the model."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay)

    def tell(self, step: int, steps: int, **numbers: float) -> None:
        """A line of progress on stderr."""
        said = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        print(f"{self.job.system}-{self.job.seed} step {step}/{steps}  {said}", file=sys.stderr, flush=True)

    def finish(self, steps: int, details: Mapping[str, Any] | None = None) -> Trained:
        """Write the model with its tokenizer, and say what the row took, the stage before it included."""
        folder = self.job.folder / "model"
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        own = self.seconds_before + time.perf_counter() - self.started
        trained = Trained(
            model=str(folder), seconds=self.before.seconds + own,
            device_seconds=self.before.device_seconds + own, oracle_calls=self.before.oracle_calls + self.oracle.calls,
            steps=self.before.steps + steps, tokens=self.before.tokens + self.tokens, stages=self.stages,
            details={"stage_seconds": own, "stage_steps": steps} | dict(details or {}),
        )  # fmt: skip
        trained.write(self.job.folder)
        return trained


# ------------------------------------------------------------ functions of tensors
def optimizer_step(
    loss: Tensor, optimizer: torch.optim.Optimizer, learning_rate: float, max_norm: float = 1.0
) -> float:
    """One step at a learning rate, the gradient clipped; returns the gradient's norm."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(trained, max_norm)
    optimizer.step()
    return float(norm)


def site_logits(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits [S, V] in float32 of the positions before completion tokens, and these sites [B, T].

    The output embeddings are applied at the sites alone: prompts and padding cost no vocabulary work.
    """
    sites = prediction_sites(batch.region)
    hidden = model.base_model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
    ).last_hidden_state
    raw = model.get_output_embeddings()(hidden[sites])
    return final_logits(raw.float(), *scale_and_cap(model)), sites


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log softmax(logits)[token] [S] from logits [S, V] and tokens [S]."""
    return logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)


def at_sites(values: Tensor, sites: Tensor) -> Tensor:
    """Values [S] of the sites, row-major, as [B, T] with 0 elsewhere."""
    spread = torch.zeros(sites.shape, dtype=values.dtype, device=values.device)
    return spread.masked_scatter(sites, values)


def shuffled(rows: Sequence[TokenRow], step: int, count: int, seed: int) -> list[TokenRow]:
    """``count`` rows of a step; every epoch goes once through all rows in an order of its own."""
    found: list[TokenRow] = []
    place = step * count
    while len(found) < count:
        epoch, start = divmod(place + len(found), len(rows))
        order = list(range(len(rows)))
        random.Random(derived_seed(seed, "epoch", epoch)).shuffle(order)
        found += [rows[i] for i in order[start : start + count - len(found)]]
    return found


def budgeted(scale: Scale, group: int) -> tuple[int, int]:
    """Optimizer steps and texts per step, a multiple of ``group``, that the scale's steps and oracle calls allow."""
    count = scale.oracle_calls // scale.steps // group * group
    if count:
        return scale.steps, count
    return max(1, scale.oracle_calls // group), group


def warm_cosine(step: int, steps: int, peak: float, warmup: int = 10) -> float:
    """The learning rate of a step (from 0): linear warm-up, then a cosine down to 0."""
    warmup = min(warmup, max(1, steps // 10))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
