"""What a run does, as counts: steps, rounds, samples, rows, sites and bins, from the settings and the policy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from constraintlang_compiler.hinges import at_eta
from constraintlang_compiler.ir import (
    Clause,
    DomainAll,
    DomainAny,
    DomainIs,
    DomainNot,
    DomainPredicate,
    Hinge,
    PolicyIR,
)
from constraintlang_compiler.scopes import sample_clauses, scopes_of, utility_clauses
from constraintlang_compiler.targets import build_target
from constraintlang_runtime.balance import most_refit_steps
from constraintlang_runtime.early_checks import TRAINING, check_settings
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.run_length import checked_steps, steps_of
from constraintlang_runtime.settings import ConstraintSettings

SCORED_ROWS = 1024  # `grouping.CORPUS_SCORED`; a test holds them equal
MAX_DOMAINS = 4096


@dataclass(frozen=True)
class Training:
    """The arguments of transformers that cost something."""

    max_steps: int
    batch: int
    accumulation: int
    checkpointing: bool
    half: bool
    optimizer: str
    save_steps: float = 200.0
    epochs: float = 0.0


def read_settings(merged: Mapping[str, Any]) -> tuple[ConstraintSettings, Training, tuple[str, ...]]:
    """The constraint's settings, transformers' and the scorer options from flags over YAML, checked as `train` does.

    Raises: ConfigError for an unknown key or a wrong value.
    """
    placed = {key: merged.get(key) or "-" for key in ("model", "data", "output")}
    given, constraint = check_settings({**merged, **placed})
    theirs = TRAINING | {key: value for key, value in given.config.items() if key in TRAINING}
    theirs["max_steps"] = checked_steps(theirs["max_steps"], theirs["num_train_epochs"])
    for key in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        if theirs[key] < 1:
            raise ConfigError(f"{key}: got {theirs[key]}, expected at least 1")
    training = Training(
        theirs["max_steps"], theirs["per_device_train_batch_size"], theirs["gradient_accumulation_steps"],
        theirs["gradient_checkpointing"], theirs["bf16"] or theirs["fp16"], str(theirs["optim"]),
        theirs["save_steps"], theirs["num_train_epochs"],
    )  # fmt: skip
    return constraint, training, given.scorer


@dataclass(frozen=True)
class Workload:
    """Counts of one run; ``bins`` has one entry per group of prompts.

    ``constrained`` and ``preserved`` are shares of the rows; ``steps`` are optimizer steps, and the regularizer acts in
    ``active_steps`` of them; ``fits`` has (completions, steps) of each fit of a group's auxiliary model.
    """

    rows: int
    prompt_tokens: int
    completion_tokens: int
    new_tokens: int
    steps: int
    active_steps: int
    micro_batches: int
    batch: int
    bins: tuple[int, ...]
    constrained: float
    preserved: float
    sampled_rows: int
    corpus_prefixes: bool
    control_rounds: int
    control_samples: int
    start_rounds: int
    start_samples: int
    selection_samples: int
    fits: tuple[tuple[int, int], ...]
    snapshots: int
    preserves: bool
    corpus_in_fit: bool
    filters: bool
    weighs_rows: bool

    @property
    def row_tokens(self) -> int:
        """Tokens of a training row."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def sample_tokens(self) -> int:
        """Tokens of a sampled row."""
        return self.prompt_tokens + self.new_tokens

    @property
    def width(self) -> int:
        """Tokens to which a batch with sampled rows is padded."""
        return max(self.row_tokens, self.sample_tokens) if self.sampled_rows else self.row_tokens

    @property
    def constrained_rows(self) -> float:
        """Training rows of a micro-batch on which the regularizer acts."""
        return self.batch * self.constrained if self.corpus_prefixes else 0.0

    @property
    def sites(self) -> float:
        """Prediction sites of the regularizer in a micro-batch."""
        return self.constrained_rows * self.completion_tokens + self.sampled_rows * self.new_tokens

    @property
    def samples(self) -> int:
        """Completions drawn in training."""
        per_group = self.control_rounds * self.control_samples + self.start_rounds * self.start_samples
        return per_group * len(self.bins) + self.selection_samples

    @property
    def scored_corpus(self) -> int:
        """Training rows that are scored: before the run, beside the samples of each fit, and when a step weighs them.

        A row that was scored before is not scored again; how many of those that steps read were is not known, so that
        this is the most.
        """
        first = len(self.bins) * min(self.rows, SCORED_ROWS) + (self.rows if self.filters else 0)
        read = self.active_steps * self.micro_batches * self.batch if self.weighs_rows else 0
        most = math.ceil(self.rows * self.constrained)
        beside = sum(rows for rows, _ in self.corpus_fits())
        return first + max(beside, min(beside + math.ceil(read * self.constrained), most))

    def corpus_fits(self) -> list[tuple[int, int]]:
        """(corpus rows, steps) of each fit of each group."""
        most = self.own_rows if self.corpus_in_fit else 0
        each = [(min(count, most), steps) for count, steps in self.fits]
        return each * len(self.bins)

    @property
    def own_rows(self) -> int:
        """Training rows of one group."""
        return math.ceil(self.rows * self.constrained / max(1, len(self.bins)))


def workload(
    ir: PolicyIR,
    config: ConstraintSettings,
    training: Training,
    *,
    rows: int,
    tokens_per_row: int,
    prompt_tokens: int,
    constrained: float | None,
    devices: int,
) -> Workload:
    """Count what ``train`` does with these settings (``engine.py``, ``rounds.py``, ``trainer.py``).

    Raises: ConfigError for counts that cannot be, and when the regularizer would never act.
    """
    length = min(tokens_per_row, config.max_length)
    if rows < 1 or tokens_per_row < 2 or not 0 < prompt_tokens < length:
        raise ConfigError(
            f"got {rows} rows of {tokens_per_row} tokens (cut at {config.max_length}), {prompt_tokens} of them the "
            "prompt's; expected at least one row and one token on either side",
            help="give --rows, --tokens_per_row and --prompt_tokens, and --max_length where rows are longer",
        )
    bins = group_bins(ir, config.adaptive)
    preserves = bool(utility_clauses(ir)) and config.method == "constraint" and config.preserve_weight > 0
    if constrained is None:
        constrained = 0.5 if preserves and bins else 1.0 if bins else 0.0
    if not 0 <= constrained <= 1:
        raise ConfigError(
            f"got {constrained:g}, expected a share between 0 and 1", parameter="constrained_share"
        )
    steps = training.max_steps
    if training.epochs:
        steps = steps_of(
            training.epochs, rows, batch=training.batch, processes=devices, accumulation=training.accumulation
        )
    length_of_round = max(1, -(-steps // config.rounds))
    rounds = -(-steps // length_of_round)
    is_method = config.method == "constraint"
    start, waiting = 0, 0
    if is_method and config.anchor == "tuned":
        before = max(1, round(config.warmup_fraction * steps / length_of_round))
        waiting = before - 1 + config.delay  # rounds that measure nothing (``ConstraintEngine.is_waiting``)
        start = length_of_round * (before + config.delay)
        if start >= steps:
            raise ConfigError(
                f"the regularizer would start at step {start} of {steps}, so the policy would never act",
                help="raise --rounds or the number of steps, lower --warmup_fraction, or use --anchor start",
            )
    acts = is_method and bool(bins)
    fits = [(config.anchor_samples, config.auxiliary_steps)] if acts else []
    if acts and config.regularizer.is_moving:  # in every later round, as many steps at most
        fits += [(config.control_samples, most_refit_steps(config.auxiliary_steps))] * (rounds - 1)
    per_group = config.rows_beside(
        training.batch * constrained / max(1, len(bins)), steps=steps, parts=training.accumulation * devices
    )
    uses_start = preserves or config.anchor == "start"
    own_anchor = acts and config.anchor in ("tuned", "previous")
    return Workload(
        rows=rows,
        corpus_in_fit=config.auxiliary_corpus_weight > 0,
        filters=config.method == "filtering",
        weighs_rows=acts and config.training_rows == "projected",
        prompt_tokens=prompt_tokens,
        completion_tokens=length - prompt_tokens,
        new_tokens=config.max_new_tokens,
        steps=steps,
        active_steps=steps - start if acts else 0,
        micro_batches=training.accumulation,
        batch=training.batch,
        bins=bins,
        constrained=constrained,
        preserved=1 - constrained if preserves else 0.0,
        sampled_rows=per_group * len(bins) if acts and config.prefixes != "corpus" else 0,
        corpus_prefixes=config.prefixes != "sampled",
        control_rounds=rounds + 1 - (1 if acts else 0) - waiting,
        control_samples=config.control_samples,
        start_rounds=1 if acts else 0,
        start_samples=config.anchor_samples,
        selection_samples=_candidates(training, steps, start) * config.selection_prompts
        if bins and config.keep == "best"
        else 0,
        fits=tuple(fits),
        snapshots=int(is_method and uses_start) + int(own_anchor),
        preserves=preserves,
    )


def _candidates(training: Training, steps: int, start: int) -> int:
    """Checkpoints that a run could keep: those since the regularizer acts, and the last."""
    every = training.save_steps if training.save_steps >= 1 else math.ceil(training.save_steps * steps)
    saved = {*range(int(every), steps, max(1, int(every))), steps}
    return sum(step > start for step in saved)


def group_bins(ir: PolicyIR, adaptive: str) -> tuple[int, ...]:
    """Bins of the auxiliary model of every group: one group per set of statements that apply together.

    The rows are not known, so the tags are those that the policy names, in every combination.
    """
    clauses = [at_eta(c, Fraction(0)) if isinstance(c.statistic, Hinge) else c for c in sample_clauses(ir)]
    if not clauses:
        return ()
    if adaptive == "none":
        scopes = [tuple(range(len(clauses)))]
    else:
        scopes = list(dict.fromkeys(scope for scope in scopes_of(ir, _tags(clauses)) if scope))
    # Where a bin ends does not matter here; values that all differ get as many bins as there are.
    sample = np.linspace(0.0, 1.0, 200)[:, None] * np.ones(len(clauses))
    return tuple(build_target(clauses, scope, samples=sample).num_bins for scope in scopes)


def _tags(clauses: Sequence[Clause]) -> list[dict[str, str]]:
    """Rows with every combination of the tag values that the clauses name."""
    values: dict[str, dict[str, None]] = {}
    for clause in clauses:
        _collect(clause.domain, values)
    combinations = itertools.product(*([(key, value) for value in named] for key, named in values.items()))
    return [dict(chosen) for chosen in itertools.islice(combinations, MAX_DOMAINS)]


def _collect(domain: DomainPredicate | None, values: dict[str, dict[str, None]]) -> None:
    match domain:
        case DomainIs(key=key, values=named):
            values.setdefault(key, {}).update(dict.fromkeys(named))
        case DomainNot(operand=operand):
            _collect(operand, values)
        case DomainAll(operands=operands) | DomainAny(operands=operands):
            for operand in operands:
                _collect(operand, values)
        case None:
            pass
