"""What a run knows of its policy and does between steps: groups, reference distribution, rounds; knows no trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.scopes import sample_clauses, utility_clauses
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime import checkpoint
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.clock import Clock
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ConfigError, TrainingError
from constraintlang_runtime.fitting import (
    ScoredCorpus,
    corpus_sample,
    explained_share,
    fit_auxiliary,
    potential_exponent,
    set_exponent,
)
from constraintlang_runtime.grouping import check_scopes, make_groups
from constraintlang_runtime.groups import Group
from constraintlang_runtime.mishaps import damaged, require_finite
from constraintlang_runtime.preserve import Budgets, hold_groups
from constraintlang_runtime.ranks import from_main, rank_and_size
from constraintlang_runtime.rounds import (
    Measurement,
    control_group,
    keep_samples,
    measure,
    score_rows,
    start_controllers,
)
from constraintlang_runtime.sampling import derived_seed
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.settling import settle, untrained_clauses

ANCHOR_FILE = "anchor.safetensors"
Progress = Callable[[str, int, int], None]


@dataclass
class ConstraintEngine:
    """The state of a constrained run; ``policy`` has its strata written out, ``max_steps`` are optimizer steps.

    ``anchor`` is p_ref while the regularizer acts, ``start_anchor`` the model before the first step where the settings
    need it. ``log`` receives one record per group and round, ``tell`` what a person should know at once; ``budgets``
    are those of `preserve` clauses. ``keeps_start`` puts the start model into checkpoints, for a caller that does not
    have it again when a run is resumed.
    """

    policy: CompiledPolicy
    config: ConstraintSettings
    pool: ScoringPool
    tokenizer: Any
    groups: list[Group]
    max_steps: int
    seed: int
    progress: Progress | None = None
    log: Callable[[dict[str, Any]], None] = lambda record: None
    tell: Callable[[str], None] = lambda message: None
    anchor: Anchor | None = None
    start_anchor: Anchor | None = None
    keeps_start: bool = False
    budgets: Budgets = field(default_factory=Budgets)
    clauses: tuple[Clause, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.clauses = sample_clauses(self.policy.ir)
        if self.config.method == "constraint" and self.activation_step >= self.max_steps:
            raise ConfigError(
                f"the regularizer would start at step {self.activation_step} of {self.max_steps}, so the policy would "
                "never act",
                help="raise --rounds or --max_steps, lower --warmup_fraction, or use --anchor start",
            )

    @classmethod
    def prepare(
        cls,
        policy: CompiledPolicy,
        rows: list[TokenRow],
        prompts: list[TokenRow],
        config: ConstraintSettings,
        pool: ScoringPool,
        tokenizer: Any,
        *,
        max_steps: int,
        seed: int,
        progress: Progress | None = None,
        heldout: Sequence[TokenRow] | None = None,
    ) -> tuple[ConstraintEngine, list[int]]:
        """The engine of a run, and the group of each row; ``prompts`` are those that are sampled.

        ``heldout`` rows measure the budgets of `preserve` clauses; a caller without such budgets passes None.

        Raises: ConfigError for settings that contradict each other, DataError for a clause that no prompt falls under,
        ScorerError when the rows cannot be scored.
        """
        untrained_clauses(policy.ir)
        tags = [row.tags for row in prompts]
        policy = replace(
            policy, ir=expand_strata(policy.ir, tags, [row.tags for row in heldout or ()] or None)
        )
        engine = cls(policy, config, pool, tokenizer, [], max_steps, seed, progress)
        if heldout is not None:
            engine.budgets = Budgets.of(utility_clauses(policy.ir), heldout, config.preserve_weight)
        check_scopes(policy.ir, tags)
        engine.groups, row_groups = make_groups(policy.ir, rows, prompts, config, score=engine.score)
        return engine, row_groups

    # ------------------------------------------------------------ schedule
    @property
    def round_length(self) -> int:
        """Steps from one round to the next."""
        return max(1, -(-self.max_steps // self.config.rounds))

    @property
    def activation_step(self) -> int:
        """The step at which the regularizer is switched on: a round boundary."""
        if self.config.anchor != "tuned":
            return 0
        wanted = self.config.warmup_fraction * self.max_steps
        return self.round_length * max(1, round(wanted / self.round_length))

    @property
    def last_round_step(self) -> int:
        """The step of the measurement after the last one."""
        return self.round_length * (-(-self.max_steps // self.round_length))

    def is_round(self, step: int) -> bool:
        """Whether a round is due before this step."""
        return step % self.round_length == 0

    def active(self) -> list[int]:
        """Numbers of the groups that the regularizer acts on now."""
        if self.config.method != "constraint" or self.anchor is None:
            return []
        return [
            number
            for number, group in enumerate(self.groups)
            # per prompt the controlled value is not a dual: at 0 it still tilts where R(x) < 1/2
            if group.is_active and (self.config.adaptive == "prompt" or not group.is_vacuous())
        ]

    # ------------------------------------------------------------ rounds
    def score(self, clauses: Sequence[Clause], rows: Sequence[TokenRow]) -> np.ndarray[Any, Any]:
        """Statistics [n, K] of rows under clauses."""
        return score_rows(self.pool, clauses, rows, self.tokenizer, self._stage("scoring"))

    def take_start(self, model: Any, *, preserves: bool) -> None:
        """Record the start model, when the settings need it."""
        if self.config.method == "constraint" and (preserves or self.config.anchor == "start"):
            self.start_anchor = Anchor.snapshot(model)

    def run_round(self, model: Any, step: int) -> None:
        """Measure every group; fit, start or move its controllers (the method's own rounds only)."""
        require_finite(model, step)
        number = step // self.round_length
        constrained = self.config.method == "constraint"
        starts = constrained and step == self.activation_step and step < self.max_steps
        if starts or (constrained and self.config.anchor == "previous" and self.anchor is not None):
            self._take_anchor(model)
        self.measure_budgets(model, step, starts=starts)
        for group in self.groups:
            seed = derived_seed(self.seed, "round", number, group.name)
            clock = Clock()
            refits = starts or (group.is_active and self.config.regularizer.is_moving)
            count = self.config.anchor_samples if starts else self.config.control_samples
            found = measure(
                model, self.tokenizer, self.pool, group, self.config, count=count, seed=seed,
                progress=self.progress, clock=clock,
            )  # fmt: skip
            found = settle(
                group, [self.clauses[i] for i in group.indexes], found,
                partial(score_rows, self.pool, rows=found.rows, tokenizer=self.tokenizer),
                first=number == 0, starts=starts,
            )  # fmt: skip
            clock.lap("scoring")
            logs: dict[str, float] = {}
            if group.is_active and not starts:
                before = group.controllers
                control_group(group, found)
                logs |= hold_groups([group], [before], self.budgets, self.tell)
            if refits and step < self.max_steps:
                logs |= self._fit_once(group, found, seed, starts)
                clock.lap("fitting")
            if group.is_active and self.config.prefixes != "corpus":
                keep_samples(group, found.rows, self.config.anchor_samples)
            seconds = {f"{group.name}/seconds/{stage}": spent for stage, spent in clock.laps.items()}
            self.log({**round_record(group, found, logs), **seconds, "round": number})

    def measure_budgets(self, model: Any, step: int, *, starts: bool) -> None:
        """Measure what the model has lost of each `preserve` clause, and move the weights that keep it."""
        acts = starts or any(group.is_active for group in self.groups)
        spent = self.budgets.measure(model, self.tokenizer, step, acts=acts, tell=self.tell)
        if spent:
            self.log({**spent, "round": step // self.round_length})

    def _take_anchor(self, model: Any) -> None:
        """Set p_ref: the start model, the model as it is now, or the live model."""
        kind = self.config.anchor
        if kind == "start":
            self.anchor = self.start_anchor
        elif kind == "current":
            self.anchor = Anchor(model)
        else:
            self.anchor = Anchor.snapshot(model)

    def _fit_once(self, group: Group, found: Measurement, seed: int, starts: bool) -> dict[str, float]:
        """``_fit`` in one process and its outcome in all, so that no rounding sets them apart."""
        chosen = corpus_sample(group, self.config, len(found.rows), seed)
        corpus = ScoredCorpus(chosen, self.score(group.clauses, chosen)) if chosen else None
        outcome: dict[str, float] | Exception = {}
        if rank_and_size()[0] == 0:
            try:
                outcome = self._fit(group, found, corpus, seed, starts)
            except Exception as error:  # the other processes wait for it
                outcome = error
        outcome, state = from_main((outcome, group.fitted_state()))
        if isinstance(outcome, Exception):
            raise outcome
        assert self.anchor is not None
        group.take_fitted(state, next(self.anchor.model.parameters()).device)
        return outcome

    def _fit(
        self, group: Group, found: Measurement, corpus: ScoredCorpus | None, seed: int, starts: bool
    ) -> dict[str, float]:
        assert self.anchor is not None
        fitted = fit_auxiliary(
            group, self.anchor, found.rows, found.statistics, self.config, pad_token(self.tokenizer), seed=seed,
            progress=self.progress, corpus=corpus,
        )  # fmt: skip
        logs = {
            "auxiliary/heldout_loss": fitted.report.heldout_loss,
            "auxiliary/constant_loss": fitted.report.constant_loss,
            "auxiliary/calibration_error": fitted.report.calibration_error,
        }
        if starts:
            logs |= start_controllers(group, fitted.law, found, self.config, len(self.policy.ir.clauses))
        if starts and not group.is_vacuous():
            assert group.head is not None
            share = explained_share(group.head, fitted.heldout, self.anchor, -group.log_potential())
            # a moving anchor tilts again in every round, which makes up for a weak auxiliary model by itself
            by_rule = 1.0 if self.config.regularizer.is_moving else potential_exponent(share)
            set_exponent(group, self.config.potential_exponent or by_rule)
            logs |= {"auxiliary/explained_share": share, "exponent": group.fitted_exponent}
        return logs

    def _stage(self, what: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)

    # ------------------------------------------------------------ sampled rows
    def sampled_rows(self, number: int, count: int, *where: int) -> list[TokenRow]:
        """Rows of a group's store, from a seed of their own: the same after a resume.

        ``where`` are numbers that tell this draw from others, such as step and micro-step. Processes draw the rows of
        all of them and take every n-th, so that n processes see together what one would.
        """
        group = self.groups[number]
        if self.config.prefixes == "corpus" or not group.store:
            return []
        rank, num_ranks = rank_and_size()
        seed = derived_seed(self.seed, "sampled", *where, number, 0)
        generator = torch.Generator().manual_seed(seed)
        picked = torch.randint(len(group.store), (count * num_ranks,), generator=generator).tolist()
        return [group.store[i] for i in picked[rank::num_ranks]]

    # ------------------------------------------------------------ checkpoints
    def save(self, folder: Path, extra: dict[str, Any] | None = None) -> None:
        """Write the engine's state into a folder of a checkpoint."""
        if self.anchor is not None and self._keeps_anchor():
            assert self.anchor.weights is not None
            weights = {name: w.cpu().contiguous() for name, w in self.anchor.weights.items()}
            save_file(weights, folder / ANCHOR_FILE)
        checkpoint.save_groups(
            folder, self.groups,
            {
                "semantic_hash": self.policy.semantic_hash,
                "has_anchor": self.anchor is not None,
                "budgets": self.budgets.state(),
                **(extra or {}),
            },
        )  # fmt: skip

    def load(self, folder: Path, model: Any, device: torch.device) -> dict[str, Any]:
        """Restore what ``save`` wrote; returns its ``extra``.

        Raises: ConfigError for a checkpoint of another policy, TrainingError for a damaged one.
        """
        extra = checkpoint.load_groups(folder, self.groups, device)
        if extra["semantic_hash"] != self.policy.semantic_hash:
            raise ConfigError(
                f"the checkpoint `{folder}` was made under another policy ({extra['semantic_hash']})",
                help="resume with the policy of the run, or start a new output folder",
            )
        self.budgets.load(extra["budgets"])
        if extra["has_anchor"]:
            if self._keeps_anchor():
                self.anchor = Anchor(model, _load_weights(folder / ANCHOR_FILE, model))
            else:
                self._take_anchor(model)
        return extra

    def _keeps_anchor(self) -> bool:
        return self.config.anchor in ("tuned", "previous") or (
            self.config.anchor == "start" and self.keeps_start
        )


def _load_weights(path: Path, model: Any) -> dict[str, torch.Tensor]:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise damaged(path.parent, f"the reference model `{path}` cannot be read: {error}") from error
    expected = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
    if {name: tuple(w.shape) for name, w in weights.items()} != expected:
        raise TrainingError(
            f"`{path}` holds {len(weights)} trained tensors, the model trains {len(expected)} (or of other shapes)",
            help="resume with the model and adapter settings that the run was started with",
        )
    return weights


def round_record(group: Group, found: Measurement, logs: dict[str, float]) -> dict[str, Any]:
    """What a round logs of one group: its own keys under its name, and a family of keys per clause."""
    record: dict[str, Any] = {f"{group.name}/{key}": value for key, value in logs.items()}
    states = (
        {soft.clause: state for soft, state in zip(group.target.soft, group.controllers, strict=True)}
        if group.target is not None and group.controllers
        else {}
    )
    for column, clause in enumerate(group.clauses):
        values = found.statistics[:, column]
        prefix = f"constraint/{clause.name}"
        record |= {
            f"{prefix}/value": float(values.mean()),
            f"{prefix}/standard_error": float(values.std() / max(1, len(values)) ** 0.5),
            f"{prefix}/samples": len(values),
            f"{prefix}/bound": float(clause.bound),
        }
        if column in states:
            record |= {
                f"{prefix}/dual": states[column].dual,
                f"{prefix}/weight": states[column].weight,
                f"{prefix}/set_point": states[column].set_point,
            }
    return record
