"""What a run knows of its policy and does between steps: groups, reference distribution, rounds; knows no trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.scopes import sample_clauses, utility_clauses
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime import checkpoint
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.anchor_weights import load_anchor, save_anchor
from constraintlang_runtime.cached_anchor import AnchorStates
from constraintlang_runtime.controlling import control_groups, control_hard, look_ahead
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.divided import whole_weights
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.fingerprint import harmless_to, require_same_run
from constraintlang_runtime.fit_once import fit_groups
from constraintlang_runtime.fitting import ScoredCorpus, check_forms, check_paths, corpus_sample
from constraintlang_runtime.grouping import check_scopes, make_groups
from constraintlang_runtime.groups import Group
from constraintlang_runtime.hard_masks import hard_masks
from constraintlang_runtime.measuring import measure_groups
from constraintlang_runtime.mishaps import damaged, require_finite
from constraintlang_runtime.pooling import pool
from constraintlang_runtime.preserve import Budgets, hold_groups
from constraintlang_runtime.ranks import rank_and_size
from constraintlang_runtime.round_records import round_record
from constraintlang_runtime.rounds import (
    FitRecord,
    Measured,
    RoundPlan,
    draw_stored,
    keep_samples,
    score_alone,
    score_rows,
)
from constraintlang_runtime.samplers.http import Server
from constraintlang_runtime.samplers.protocol import Sampler
from constraintlang_runtime.samplers.vllm import VllmSampler
from constraintlang_runtime.sampling import derived_seed
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.settling import untrained_clauses

Progress = Callable[[str, int, int], None]


@dataclass
class ConstraintEngine:
    """The state of a constrained run; ``policy`` has its strata written out, ``max_steps`` are optimizer steps.

    ``anchor`` is p_ref while the regularizer acts, ``start_anchor`` the model before the first step where the settings
    need it. ``log`` receives one record per group and round, ``tell`` what a person should know at once; ``budgets``
    are those of `preserve` clauses. ``keeps_start`` puts the start model into checkpoints, for a caller that does not
    have it again when a run is resumed. ``sampler`` draws instead of transformers when set. ``states`` keeps the hidden
    states of frozen anchors when set. ``is_rehearsal``: its samples are too few to say what the run can reach.
    ``unmasked`` are the hard clauses without token masks, each with the reason.
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
    sampler: Sampler | None = None
    states: AnchorStates | None = None
    is_rehearsal: bool = False
    unmasked: dict[str, str] = field(default_factory=dict)
    clauses: tuple[Clause, ...] = field(init=False)
    _as_made: list[Group] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.clauses = sample_clauses(self.policy.ir)
        acts = self.activation_step + (self.config.delay * self.round_length if self.activation_step else 0)
        if self.config.method == "constraint" and acts >= self.max_steps:
            raise ConfigError(
                f"the regularizer would start at step {acts} of {self.max_steps}, so the policy would never act",
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
        scores_corpus: bool = True,
    ) -> tuple[ConstraintEngine, list[int]]:
        """The engine of a run, and the group of each row; ``prompts`` are those that are sampled.

        ``heldout`` rows measure the budgets of `preserve` clauses; a caller without such budgets passes None.
        ``scores_corpus``: not where another process does, and tells what it found.
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
        if config.sampler_url is not None:
            engine.sampler = VllmSampler(
                Server(config.sampler_url, config.sampler_timeout), config.sampler_folder
            )
        check_scopes(policy.ir, tags)
        score = engine.score if scores_corpus else _unscored
        engine.groups, row_groups = make_groups(policy.ir, rows, prompts, config, tokenizer, score=score)
        check_forms(engine.groups, config)
        check_paths(engine.groups, config)
        if config.method == "constraint" and config.token_masks == "auto":
            for group in engine.groups:
                group.masks, left = hard_masks(policy, group.clauses, tokenizer, pool)
                engine.unmasked |= left
        engine._as_made = [group.copied() for group in engine.groups]
        return engine, row_groups

    def restart(self) -> None:
        """Forget what a run has learned and measured, for another one; the start model stays."""
        self.groups[:] = [group.copied() for group in self._as_made]
        self.budgets = self.budgets.restarted()
        self.anchor = None
        self.attach()

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

    def is_waiting(self, step: int) -> bool:
        """Whether nothing would be made of samples at the round of this step: the regularizer has not acted yet.

        A tuned anchor has samples of its own; before it only the start model is measured, to look ahead.
        """
        start = self.activation_step
        acts = start + self.config.delay * self.round_length  # before it the regularizer has moved nothing
        return self.config.method == "constraint" and 0 < start != step and 0 < step <= acts

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
        return score_rows(
            self.pool, clauses, rows, self.tokenizer, self._stage("scoring"), self.config.law.stop
        )

    def score_alone(self, clauses: Sequence[Clause], rows: Sequence[TokenRow]) -> np.ndarray[Any, Any]:
        """``score`` by this process alone, of rows that the others do not have."""
        return score_alone(self.pool, clauses, rows, self.tokenizer, stop=self.config.law.stop)

    def take_start(self, model: Any, *, preserves: bool) -> None:
        """Record the start model, when the settings need it."""
        if self.config.method == "constraint" and (preserves or self.config.anchor == "start"):
            self.start_anchor = Anchor.snapshot(model)
            self.attach()

    def run_round(self, model: Any, step: int) -> None:
        """The phases of a round one after the other: measure, control, fit; budgets alone while it is waited for."""
        require_finite(model, step)
        plan = self.plan_round(step)
        self.measure_budgets(model, plan, step)
        if self.is_waiting(step):
            return
        if plan.takes_anchor:
            self.take_anchor(model)
        measured = self.measure_groups(model, plan)
        if not plan.starts:
            self.control_groups(measured, step)
        fits = self.fit_groups(plan, measured)
        self.end_round(measured, fits, applied=plan.number)

    def plan_round(self, step: int) -> RoundPlan:
        """What the round at this step does (the method's own rounds only fit)."""
        constrained, moving = self.config.method == "constraint", self.config.regularizer.is_moving
        starts = constrained and step == self.activation_step and step < self.max_steps
        again = constrained and moving and self.anchor is not None
        return RoundPlan(
            step // self.round_length,
            self.config.anchor_samples if starts else self.config.control_samples,
            starts=starts,
            refits=again and not starts and step < self.max_steps,
            takes_anchor=starts or (again and self.config.anchor == "previous"),
        )

    def measure_budgets(self, model: Any, plan: RoundPlan, step: int) -> None:
        """Measure the budgets of `preserve` clauses on the model as it is, and move their weights."""
        acts = plan.starts or any(group.is_active for group in self.groups)
        with whole_weights(model):
            spent = self.budgets.measure(model, self.tokenizer, step, acts=acts, tell=self.tell)
        if spent:
            self.log({**spent, "round": plan.number})

    def measure_groups(self, model: Any, plan: RoundPlan) -> list[Measured]:
        """Phase A: sample the model on the prompts of each group and score; settle clauses that depend on responses.

        Changes the ``clauses`` and ``corpus_means`` of groups with clauses that are settled, nothing else.
        """
        with whole_weights(model):
            return measure_groups(
                model, plan, self.groups, self.clauses, self.config, self.tokenizer, self.pool, self.score,
                seeds=[self._round_seed(plan, group) for group in self.groups],
                num_statements=len(self.policy.ir.clauses), progress=self.progress, sampler=self.sampler,
            )  # fmt: skip

    def control_groups(self, measured: Sequence[Measured], step: int) -> None:
        """Phase B: move the controller of every clause by what all its active groups measured.

        What would cost a budget that is overdrawn is not raised.
        """
        active = [(group, one) for group, one in zip(self.groups, measured, strict=True) if group.is_active]
        if active:
            groups = [group for group, _ in active]
            before = [group.controllers for group in groups]
            control_groups(groups, [one.found for _, one in active])
            control_hard(groups, [one.found for _, one in active], self.config)
            held = hold_groups(groups, before, self.budgets, step, self.tell)
            if held:
                self.log({**held, "round": active[0][1].round})
        for group, one in active:
            group.stamps["duals"] = one.round

    def fit_groups(self, plan: RoundPlan, measured: Sequence[Measured]) -> list[FitRecord]:
        """Phase C: fit the auxiliary model of each group on its samples; start the controllers of all, as planned."""
        if not plan.starts and not plan.refits:
            return [FitRecord() for _ in measured]
        assert self.anchor is not None
        seeds = [self._round_seed(plan, group) for group in self.groups]
        with self.anchor.everywhere():
            return fit_groups(
                plan, self.groups, [one.found for one in measured], self.anchor, self.config, self.tokenizer,
                seeds=seeds, corpus_of=self._scored_corpus, num_statements=len(self.policy.ir.clauses),
                progress=self.progress, rehearsal=self.is_rehearsal,
            )  # fmt: skip

    def end_round(self, measured: Sequence[Measured], fits: Sequence[FitRecord], *, applied: int) -> None:
        """Keep the samples on whose prefixes the regularizer acts, and log the round of each group.

        ``applied`` is the round from which the results are used; later than that of the samples when lanes made them.
        """
        waits = self.config.method == "constraint" and self.config.anchor == "tuned"
        if waits and measured and measured[0].round == 0 and rank_and_size()[0] == 0:
            look_ahead(self.groups, [one.found for one in measured])
        pooled = pool(
            self.groups, [one.found.statistics for one in measured], [one.found.rows for one in measured]
        )
        counts = {index: len(found.values) for index, found in pooled.items()}
        for group, one, fit in zip(self.groups, measured, fits, strict=True):
            if group.is_active and self.config.prefixes != "corpus":
                keep_samples(group, one.found.rows, self.config.anchor_samples)
                group.stamps["samples"] = one.round
            spent = one.seconds | fit.seconds
            stamps = group.stamps | {"applied": applied}
            self.log(
                round_record(group, pooled, counts, fit.logs)
                | {f"{group.name}/seconds/{stage}": seconds for stage, seconds in spent.items()}
                | {f"{group.name}/stamp/{what}": number for what, number in stamps.items()}
                | {"round": one.round}
            )

    def _round_seed(self, plan: RoundPlan, group: Group) -> int:
        return derived_seed(self.seed, "round", plan.number, group.name)

    def take_anchor(self, model: Any) -> None:
        """Set p_ref: the start model, the model as it is now, or the live model."""
        kind = self.config.anchor
        if kind == "start":
            self.anchor = self.start_anchor
        elif kind == "current":
            self.anchor = Anchor(model)
        else:
            self.anchor = Anchor.snapshot(model)
        self.attach()

    def attach(self) -> None:
        """Tell every auxiliary model which anchor it stands beside; what frozen anchors compute is kept."""
        if self.states is not None:
            self.start_anchor = self.states.of(self.start_anchor)
            if not self.config.regularizer.is_moving:
                self.anchor = self.states.of(self.anchor)
            self.states.use(self.anchor, self.start_anchor)
        for group in self.groups:
            if group.head is not None and self.anchor is not None:
                group.head.attach(self.anchor)

    def _scored_corpus(self, group: Group, count: int, seed: int) -> ScoredCorpus | None:
        """At most ``count`` training rows to fit beside the samples."""
        chosen = corpus_sample(group, self.config, count, seed)
        return ScoredCorpus(chosen, self.score(group.clauses, chosen)) if chosen else None

    def _stage(self, what: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)

    # ------------------------------------------------------------ sampled rows
    def sampled_rows(self, number: int, count: int, step: int, part: int) -> list[TokenRow]:
        """Rows of a group's store, from a seed of their own: the same after a resume.

        ``part`` counts the draws of a step, all of ``count`` rows. They and the processes take their shares of one
        sequence, so that neither accumulation nor processes change which rows a step sees.
        """
        group = self.groups[number]
        if self.config.prefixes == "corpus" or not group.store:
            return []
        return draw_stored(group, count, derived_seed(self.seed, "sampled", step, 0, number, 0), part)

    # ------------------------------------------------------------ checkpoints
    def save(self, folder: Path, extra: dict[str, Any] | None = None) -> None:
        """Write the engine's state into a folder of a checkpoint; the main process, after all have called it."""
        if self.anchor is not None and self._keeps_anchor():
            save_anchor(folder, self.anchor)
        if rank_and_size()[0] != 0:
            return
        checkpoint.save_groups(
            folder, self.groups,
            {
                "semantic_hash": self.policy.semantic_hash,
                "settings": self._shaping(),
                "has_anchor": self.anchor is not None,
                "budgets": self.budgets.state(),
                **(extra or {}),
            },
        )  # fmt: skip

    def load(self, folder: Path, model: Any, device: torch.device) -> dict[str, Any]:
        """Restore what ``save`` wrote; returns its ``extra``.

        Raises: ConfigError for a checkpoint of another policy or of other settings, TrainingError for a damaged one.
        """
        extra = checkpoint.load_groups(folder, self.groups, device)
        for name in ("semantic_hash", "settings", "has_anchor", "budgets"):
            if name not in extra:
                raise damaged(folder, f"`{checkpoint.STATE_FILE}` has no `{name}`")
        require_same_run(folder, extra, self.policy.semantic_hash, self._shaping())
        self.budgets.load(extra["budgets"])
        if extra["has_anchor"]:
            if self._keeps_anchor():
                self.anchor = load_anchor(folder, model)
                self.attach()
            else:
                self.take_anchor(model)
        return extra

    def _shaping(self) -> dict[str, Any]:
        """The settings on which groups, rounds and their targets depend."""
        own = {f.name: getattr(self.config, f.name) for f in fields(ConstraintSettings)}
        harmless = harmless_to(self.config)
        shaping = {name: value for name, value in own.items() if name not in harmless}
        return shaping | {"max_steps": self.max_steps, "seed": self.seed}

    def _keeps_anchor(self) -> bool:
        return self.config.anchor in ("tuned", "previous") or (
            self.config.anchor == "start" and self.keeps_start
        )


def _unscored(clauses: Sequence[Clause], rows: Sequence[TokenRow]) -> np.ndarray[Any, Any]:
    return np.full((len(rows), len(clauses)), np.nan)
