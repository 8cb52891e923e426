"""``ConstraintTrainer``: transformers' Trainer with the regularizer added to its loss and rounds between its steps."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.domains import matches
from constraintlang_compiler.scopes import sample_clauses, utility_clauses
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime import checkpoint
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.baselines.filtering import compliant_rows
from constraintlang_runtime.batching import joined, pad_token
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import IGNORED_LABEL, Batch, Row, TokenRow, collate, encode_rows, prompt_rows
from constraintlang_runtime.errors import ConfigError, DataError, TrainingError
from constraintlang_runtime.fitting import explained_share, fit_auxiliary, potential_exponent, set_exponent
from constraintlang_runtime.grouping import check_scopes, make_groups
from constraintlang_runtime.groups import Group
from constraintlang_runtime.penalty import preservation_term, regularizer_term
from constraintlang_runtime.regularizer import language_model_loss
from constraintlang_runtime.rounds import (
    control_group,
    keep_samples,
    measure,
    score_rows,
    start_controllers,
)
from constraintlang_runtime.sampling import derived_seed
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.protocol import Scorer
from constraintlang_runtime.settling import settle, untrained_clauses

logger = logging.getLogger(__name__)


class ConstraintTrainer(Trainer):
    """Fine-tune a causal LM on rows while a token-level KL regularizer pulls it to the policy's projection.

    Equation: L = (1/N) [Σ_corpus -log p + Σ_d ρ_d Σ_sites D(q̂_d, p) + Σ_d κ_d Σ KL(p_0 ‖ p)], N the corpus tokens of
    the whole optimizer step (method.md section 4).

    Args:
        model: a causal LM (``PreTrainedModel`` or ``PeftModel``).
        args: ``ConstraintConfig``.
        policy: a compiled policy.
        train_dataset: rows (mappings or a ``datasets.Dataset``) with ``text`` | ``prompt``+``completion`` |
            ``messages`` and tags such as ``domain``.
        processing_class: the tokenizer.
        scorers: one callable per attribute of the policy.
        prompts: rows whose prompts are sampled in training; the training rows' own prompts when not given.
        progress: called with (what, done, total) during long work between steps.

    Raises: ConfigError, DataError at construction; ScorerError, TrainingError while training.
    """

    def __init__(
        self,
        model: Any,
        args: ConstraintConfig,
        *,
        policy: CompiledPolicy,
        train_dataset: Sequence[Row],
        processing_class: Any,
        scorers: Mapping[str, Scorer],
        prompts: Sequence[Row] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        **trainer_options: Any,
    ) -> None:
        untrained_clauses(policy.ir)
        self.policy = policy
        self.constraint = args
        self.progress = progress
        self.pad_id = pad_token(processing_class)
        self.clauses = sample_clauses(policy.ir)
        if args.method == "constraint" and self.activation_step >= args.max_steps:
            raise ConfigError(
                f"the regularizer would start at step {self.activation_step} of {args.max_steps}, so the policy would "
                "never act",
                help="raise --rounds or --max_steps, lower --warmup_fraction, or use --anchor start",
            )
        self.pool = ScoringPool(policy.ir.attributes, scorers)
        rows = encode_rows(list(train_dataset), processing_class, max_length=args.max_length, seed=args.seed)
        if not rows:
            raise DataError("there are no training rows", help="give --data at least one row")
        prompt_source = (
            prompt_rows(rows)
            if prompts is None
            else prompt_rows(
                encode_rows(
                    list(prompts),
                    processing_class,
                    max_length=args.max_length,
                    seed=args.seed,
                    need_completion=False,
                )
            )
        )
        tags = [row.tags for row in prompt_source]
        self.policy = policy = replace(policy, ir=expand_strata(policy.ir, tags))
        self.clauses = sample_clauses(policy.ir)
        check_scopes(policy.ir, tags)
        self.groups, row_groups = make_groups(
            policy.ir, rows, prompt_source, args,
            score=lambda clauses, chosen: score_rows(
                self.pool, clauses, chosen, processing_class, self._stage("scoring")
            ),
        )  # fmt: skip
        self.rows_dropped = 0
        if args.method == "filtering":
            kept = compliant_rows(
                rows,
                row_groups,
                self.groups,
                lambda group, chosen: score_rows(
                    self.pool, group.clauses, chosen, processing_class, self._stage("scoring")
                ),
            )
            self.rows_dropped = len(rows) - len(kept)
            rows, row_groups = [rows[i] for i in kept], [row_groups[i] for i in kept]
        preserved = [
            any(matches(clause.domain, row.tags) for clause in utility_clauses(policy.ir)) for row in rows
        ]
        self.anchor: Anchor | None = None
        self.start_anchor = self._start_anchor(model, any(preserved))
        self._micro_step = 0
        self._term_sums: dict[str, list[float]] = {}
        examples = [
            {"row": row, "group": group, "preserved": kept}
            for row, group, kept in zip(rows, row_groups, preserved, strict=True)
        ]
        try:
            super().__init__(
                model=model,
                args=args,
                train_dataset=examples,
                processing_class=processing_class,
                data_collator=self._collate,
                callbacks=[_Rounds(self), *(callbacks or [])],
                **trainer_options,
            )
        except (ValueError, ImportError, RuntimeError) as error:
            raise ConfigError(
                f"transformers refuses the settings: {error}", help="change that setting"
            ) from error
        # The loss below is already divided by the tokens of the whole step, under either name of the switch.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    # ------------------------------------------------------------------------------------------ set-up
    def _start_anchor(self, model: Any, preserves: bool) -> Anchor | None:
        """The start model as a reference, when the settings need it."""
        constrained = self.constraint.method == "constraint"
        if not constrained or not (preserves or self.constraint.anchor == "start"):
            return None
        if hasattr(model, "disable_adapter"):
            return Anchor(model, disable_adapter=True)
        return Anchor.frozen_copy(model)

    def _stage(self, what: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)

    def _collate(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        batch = collate([example["row"] for example in examples], self.pad_id)
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "labels": batch.labels,
            "region": batch.region,
            "group": torch.tensor([example["group"] for example in examples]),
            "preserved": torch.tensor([example["preserved"] for example in examples]),
        }

    # ------------------------------------------------------------------------------------------ rounds
    @property
    def round_length(self) -> int:
        """Steps from one round to the next."""
        return max(1, -(-self.constraint.max_steps // self.constraint.rounds))

    @property
    def activation_step(self) -> int:
        """The step at which the regularizer is switched on: a round boundary."""
        if self.constraint.anchor != "tuned":
            return 0
        wanted = self.constraint.warmup_fraction * self.constraint.max_steps
        return self.round_length * max(1, round(wanted / self.round_length))

    def before_step(self, step: int) -> None:
        """Run the round that is due at this step, from a seed of its own."""
        self._micro_step = 0
        if step % self.round_length == 0:
            self.run_round(step)

    def run_round(self, step: int) -> None:
        """Measure every group; fit, start or move its controllers (the method's own rounds only)."""
        number = step // self.round_length
        constrained = self.constraint.method == "constraint"
        starts = constrained and step == self.activation_step and step < self.constraint.max_steps
        if starts or (constrained and self.constraint.anchor == "previous" and self.anchor is not None):
            self._take_anchor()
        for group in self.groups:
            seed = derived_seed(self.args.seed, "round", number, group.name)
            refits = starts or (group.is_active and self.constraint.regularizer.is_moving)
            count = self.constraint.anchor_samples if starts else self.constraint.control_samples
            found = measure(
                self.model, self.processing_class, self.pool, group, self.constraint,
                count=count, seed=seed, progress=self.progress,
            )  # fmt: skip
            found = settle(
                group, [self.clauses[i] for i in group.indexes], found,
                partial(score_rows, self.pool, rows=found.rows, tokenizer=self.processing_class),
                first=number == 0, starts=starts,
            )  # fmt: skip
            logs: dict[str, float] = {}
            if group.is_active and not starts:
                control_group(group, found)
            if refits and step < self.constraint.max_steps:
                logs |= self._fit(group, found, seed, starts)
            if group.is_active and self.constraint.prefixes != "corpus":
                keep_samples(group, found.rows, self.constraint.anchor_samples)
            self._log_round(group, found.statistics, number, logs)

    def _take_anchor(self) -> None:
        """Set p_ref: the start model, a frozen copy of the model as it is now, or the live model."""
        kind = self.constraint.anchor
        if kind == "start":
            self.anchor = self.start_anchor
        elif kind == "current":
            self.anchor = Anchor(self.model)
        else:
            self.anchor = Anchor.frozen_copy(self.model)

    def _fit(self, group: Group, found: Any, seed: int, starts: bool) -> dict[str, float]:
        assert self.anchor is not None
        config = self.constraint
        fitted = fit_auxiliary(
            group, self.anchor, found.rows, found.statistics, config, self.pad_id, seed=seed, progress=self.progress,
            score_corpus=lambda rows: score_rows(
                self.pool, group.clauses, rows, self.processing_class, self._stage("scoring")
            ),
        )  # fmt: skip
        logs = {
            "auxiliary/heldout_loss": fitted.report.heldout_loss,
            "auxiliary/constant_loss": fitted.report.constant_loss,
            "auxiliary/calibration_error": fitted.report.calibration_error,
        }
        if starts:
            logs |= start_controllers(group, fitted.law, found, config, len(self.policy.ir.clauses))
        if starts and not group.is_vacuous():
            assert group.head is not None
            share = explained_share(group.head, fitted.heldout, self.anchor, -group.log_potential())
            # a moving anchor tilts again in every round, which makes up for a weak auxiliary model by itself
            by_rule = 1.0 if config.regularizer.is_moving else potential_exponent(share)
            set_exponent(group, config.potential_exponent or by_rule)
            logs |= {"auxiliary/explained_share": share, "exponent": group.fitted_exponent}
        return logs

    def _log_round(
        self, group: Group, statistics: np.ndarray[Any, Any], number: int, logs: dict[str, float]
    ) -> None:
        """One log record per group, with a family of keys per clause."""
        record: dict[str, Any] = {f"{group.name}/{key}": value for key, value in logs.items()}
        states = (
            {soft.clause: state for soft, state in zip(group.target.soft, group.controllers, strict=True)}
            if group.target is not None and group.controllers
            else {}
        )
        for column, clause in enumerate(group.clauses):
            values = statistics[:, column]
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
        self.log({**record, "round": number})

    # ------------------------------------------------------------------------------------------ loss
    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of one optimizer step and N, its number of trained tokens over all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = sum(int((batch["labels"][:, 1:] != IGNORED_LABEL).sum()) for batch in batches)
        total = torch.tensor(float(max(count, 1)), device=device)
        if self.args.world_size > 1:
            total = self.accelerator.gather(total[None]).sum()
        return batches, total

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """LM loss plus the regularizer and preservation terms, all over one N."""
        corpus = Batch(inputs["input_ids"], inputs["attention_mask"], inputs["labels"], inputs["region"])
        own = float((corpus.labels[:, 1:] != IGNORED_LABEL).sum())
        num_tokens = float(num_items_in_batch) if num_items_in_batch is not None else max(own, 1.0)
        active = [
            g
            for g, group in enumerate(self.groups)
            # per prompt the controlled value is not a dual: at 0 it still tilts where R(x) < 1/2
            if group.is_active and (self.constraint.adaptive == "prompt" or not group.is_vacuous())
        ]
        if self.constraint.method != "constraint" or self.anchor is None:
            active = []
        sampled = {g: self._draw_sampled(g, inputs["group"]) for g in active}
        batch, slices = joined(corpus, sampled, self.pad_id)
        outputs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        loss = language_model_loss(
            outputs.logits[: len(corpus.labels), : corpus.labels.shape[1]], corpus.labels, num_tokens
        )
        self._note("loss_lm", float(loss.detach()) * num_tokens / max(own, 1.0))
        for g in active:
            assert self.anchor is not None
            term = regularizer_term(
                self.groups[g], self.anchor, batch, outputs.logits,
                corpus_rows=torch.nonzero(inputs["group"] == g).squeeze(1),
                sampled_rows=slices[g], corpus_tokens=self.groups[g].corpus_share * own,
                config=self.constraint.regularizer,
            )  # fmt: skip
            loss = loss + term / num_tokens
            self._note(f"loss_regularizer/{self.groups[g].name}", float(term.detach()) / max(own, 1.0))
        if (
            self.start_anchor is not None
            and self.constraint.preserve_weight > 0
            and bool(inputs["preserved"].any())
        ):
            kept = torch.nonzero(inputs["preserved"]).squeeze(1)
            term = preservation_term(self.start_anchor, corpus, outputs.logits, kept)
            loss = loss + self.constraint.preserve_weight * term / num_tokens
            self._note("loss_preserve", float(term.detach()) / max(own, 1.0))
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {float(loss.detach())} at step {self.state.global_step}",
                help="lower --learning_rate or --regularizer_weight, and check the rows",
            )
        self._micro_step += 1
        loss = loss * self.accelerator.num_processes  # gradients are averaged over ranks, N is their sum
        return (loss, outputs) if return_outputs else loss

    def _draw_sampled(self, number: int, row_groups: Tensor) -> list[TokenRow]:
        """Sampled rows for this micro-batch, from a seed of their own: the same after a resume."""
        group = self.groups[number]
        if self.constraint.prefixes == "corpus" or not group.store:
            return []
        count = self.constraint.regularizer_rows
        if count is None:
            count = (
                max(1, round(group.corpus_share * len(row_groups)))
                if group.corpus_share > 0
                else len(row_groups)
            )
        seed = derived_seed(
            self.args.seed,
            "sampled",
            self.state.global_step,
            self._micro_step,
            number,
            self.args.process_index,
        )
        generator = torch.Generator().manual_seed(seed)
        picked = torch.randint(len(group.store), (count,), generator=generator).tolist()
        return [group.store[i] for i in picked]

    def _note(self, key: str, value: float) -> None:
        self._term_sums.setdefault(key, []).append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the loss terms since the last log."""
        if "loss" in logs:
            logs = {
                **logs,
                **{key: float(np.mean(values)) for key, values in self._term_sums.items() if values},
            }
            self._term_sums = {}
        super().log(logs, start_time)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """transformers takes one step too many when it resumes from the checkpoint of the last step."""
        if self.state.global_step >= self.args.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    # ------------------------------------------------------------------------------------------ checkpoints
    def _get_output_dir(self, trial: Any) -> str:
        """Checkpoints are written in a staging folder and renamed when whole."""
        return str(Path(super()._get_output_dir(trial)) / checkpoint.STAGING)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """transformers' checkpoint plus ours, published in one step: a killed run never leaves a half checkpoint."""
        staging = Path(self._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        super()._save_checkpoint(model, trial)
        if not self.args.should_save:
            return
        frozen = self.anchor is not None and self.constraint.anchor in ("tuned", "previous")
        if frozen:
            assert self.anchor is not None
            self.anchor.model.save_pretrained(staging / name / "anchor")
        sums = {key: values for key, values in self._term_sums.items()}
        checkpoint.save_groups(
            staging / name, self.groups,
            {"semantic_hash": self.policy.semantic_hash, "has_anchor": self.anchor is not None, "term_sums": sums},
        )  # fmt: skip
        checkpoint.publish(staging / name, staging.parent / name)
        shutil.rmtree(staging, ignore_errors=True)
        self._drop_old(staging.parent)

    def _drop_old(self, output_dir: Path) -> None:
        limit = self.args.save_total_limit
        found = sorted(
            (p for p in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if p.name.split("-")[-1].isdigit()),
            key=lambda path: int(path.name.split("-")[-1]),
        )
        for path in found[: -limit if limit else None] if limit else []:
            shutil.rmtree(path, ignore_errors=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Weights by transformers, then the constraint's own state."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        extra = checkpoint.load_groups(folder, self.groups, self.args.device)
        if extra["semantic_hash"] != self.policy.semantic_hash:
            raise ConfigError(
                f"the checkpoint `{folder}` was made under another policy ({extra['semantic_hash']})",
                help="resume with the policy of the run, or start a new output folder",
            )
        self._term_sums = {key: list(values) for key, values in extra["term_sums"].items()}
        if extra["has_anchor"]:
            self._restore_anchor(folder / "anchor")

    def restore_finished(self, folder: Path) -> None:
        """Take the state of a checkpoint of the last step: what a run killed before its final save still needs.

        ``train`` would take one step too many, because transformers looks at the step count only after a step.
        """
        self.state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
        self._load_from_checkpoint(str(folder))
        self.model.to(self.args.device)
        self.run_last_round()

    def run_last_round(self) -> None:
        """The measurement after the last step."""
        self.run_round(self.round_length * (-(-self.constraint.max_steps // self.round_length)))

    def _restore_anchor(self, folder: Path) -> None:
        if self.constraint.anchor in ("start", "current"):
            self._take_anchor()
            return
        frozen = Anchor.frozen_copy(self.model)
        loaded = type(self.model).from_pretrained(folder)
        frozen.model.load_state_dict(loaded.state_dict())
        self.anchor = frozen


class _Rounds(TrainerCallback):
    """Runs the round that is due before each optimizer step, and a last measurement at the end."""

    def __init__(self, trainer: ConstraintTrainer) -> None:
        self._trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the first micro-batch of a step."""
        self._trainer.before_step(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the last step."""
        if state.global_step >= args.max_steps:
            self._trainer.run_last_round()
