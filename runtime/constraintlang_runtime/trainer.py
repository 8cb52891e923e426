"""``ConstraintTrainer``: transformers' Trainer with the regularizer added to its loss and rounds between its steps."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.domains import matches
from constraintlang_compiler.scopes import utility_clauses
from constraintlang_runtime import checkpoint
from constraintlang_runtime.baselines.filtering import compliant_rows
from constraintlang_runtime.batching import joined, pad_token
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import IGNORED_LABEL, Batch, Row, TokenRow, collate, encode_rows, prompt_rows
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.errors import ConfigError, DataError, TrainingError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.mishaps import reading, require_finite, require_whole, writing
from constraintlang_runtime.penalty import preservation_term, regularizer_term
from constraintlang_runtime.ranks import barrier
from constraintlang_runtime.regularizer import language_model_loss
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.protocol import Scorer

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
        self.constraint = args
        self.pad_id = pad_token(processing_class)
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
        pool = ScoringPool(policy.ir.attributes, scorers, timeout=args.scorer_timeout)
        self.engine, row_groups = ConstraintEngine.prepare(
            policy, rows, prompt_source, args, pool, processing_class,
            max_steps=args.max_steps, seed=args.seed, progress=progress,
        )  # fmt: skip
        self.engine.log = self.log
        self.policy = policy = self.engine.policy
        self.rows_dropped = 0
        if args.method == "filtering":
            kept = compliant_rows(
                rows, row_groups, self.groups, lambda group, chosen: self.engine.score(group.clauses, chosen)
            )
            self.rows_dropped = len(rows) - len(kept)
            rows, row_groups = [rows[i] for i in kept], [row_groups[i] for i in kept]
        preserved = [
            any(matches(clause.domain, row.tags) for clause in utility_clauses(policy.ir)) for row in rows
        ]
        self.engine.take_start(model, preserves=any(preserved))
        self._micro_step, self._num_micro_batches = 0, 1
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
        except OSError as error:
            raise ConfigError(
                f"--output: cannot write to `{args.output_dir}`: {error.strerror}", help="name another folder"
            ) from error
        except (ValueError, ImportError, RuntimeError) as error:
            raise ConfigError(
                f"transformers refuses the settings: {error}", help="change that setting"
            ) from error
        # The loss below is already divided by the tokens of the whole step, under either name of the switch.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    # ------------------------------------------------------------------------------------------ set-up
    @property
    def groups(self) -> list[Group]:
        """The groups of prompts that fall under the same clauses."""
        return self.engine.groups

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

    def before_step(self, step: int) -> None:
        """Run the round that is due at this step."""
        self._micro_step = 0
        if self.engine.is_round(step):
            self.engine.run_round(self.model, step)

    # ------------------------------------------------------------------------------------------ loss
    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of one optimizer step and N, its number of trained tokens over all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._num_micro_batches = max(1, len(batches))
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
        # a mean over the step's micro-batches and processes, so that neither changes what a sampled row weighs
        usual = num_tokens / (self._num_micro_batches * self.args.world_size)
        engine = self.engine
        active = engine.active()
        sampled = {g: self._draw_sampled(g, inputs["group"]) for g in active}
        batch, slices = joined(corpus, sampled, self.pad_id)
        outputs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        loss = language_model_loss(
            outputs.logits[: len(corpus.labels), : corpus.labels.shape[1]], corpus.labels, num_tokens
        )
        self._note("loss_lm", float(loss.detach()) * num_tokens / max(own, 1.0))
        for g in active:
            assert engine.anchor is not None
            term = regularizer_term(
                self.groups[g], engine.anchor, batch, outputs.logits,
                corpus_rows=torch.nonzero(inputs["group"] == g).squeeze(1),
                sampled_rows=slices[g], corpus_tokens=self.groups[g].corpus_share * usual,
                config=self.constraint.regularizer,
            )  # fmt: skip
            loss = loss + term / num_tokens
            self._note(f"loss_regularizer/{self.groups[g].name}", float(term.detach()) / max(own, 1.0))
        if (
            engine.start_anchor is not None
            and self.constraint.preserve_weight > 0
            and bool(inputs["preserved"].any())
        ):
            kept = torch.nonzero(inputs["preserved"]).squeeze(1)
            term = preservation_term(engine.start_anchor, corpus, outputs.logits, kept)
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
        """Sampled rows for this micro-batch: as many as the group has in the corpus, unless the settings say."""
        share = self.groups[number].corpus_share
        count = self.constraint.regularizer_rows
        if count is None:
            count = max(1, round(share * len(row_groups))) if share > 0 else len(row_groups)
        return self.engine.sampled_rows(number, count, self.state.global_step, self._micro_step)

    def _note(self, key: str, value: float) -> None:
        self._term_sums.setdefault(key, []).append(value)

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Add the means of the loss terms since the last log; lists, which no dashboard plots, go to the history."""
        if "loss" in logs:
            logs = {
                **logs,
                **{key: float(np.mean(values)) for key, values in self._term_sums.items() if values},
            }
            self._term_sums = {}
        lists = {key: value for key, value in logs.items() if isinstance(value, list)}
        super().log({key: value for key, value in logs.items() if key not in lists}, start_time)
        self.state.log_history[-1].update(lists)

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
        step = self.state.global_step
        require_finite(self.model, step)  # else it would push out the last checkpoint that can be resumed
        help = "free space there; --resume goes on from the checkpoint before it, which is whole"
        with writing(f"the checkpoint of step {step} below `{staging.parent}`", help=help, staging=staging):
            self._write_checkpoint(model, trial, staging, f"{PREFIX_CHECKPOINT_DIR}-{step}")

    def _write_checkpoint(self, model: Any, trial: Any, staging: Path, name: str) -> None:
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        barrier()
        super()._save_checkpoint(model, trial)
        barrier()  # each process has written its random state
        if not self.args.should_save:
            return
        self.engine.save(staging / name, {"term_sums": dict(self._term_sums)})
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
        folder = Path(resume_from_checkpoint)
        require_whole(folder, process=self.args.process_index, num_processes=self.args.world_size)
        with reading(folder, "its model"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        with reading(folder, "the constraint's state"):
            extra = self.engine.load(folder, self.model, self.args.device)
            self._term_sums = {key: list(values) for key, values in extra["term_sums"].items()}

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A checkpoint of other tensors than the model's is refused; tied ones are stored once."""
        tensors = self.model.state_dict(keep_vars=True)
        loaded = {tensors[name].data_ptr() for name in set(tensors) - set(load_result.missing_keys)}
        missing = [
            name
            for name in load_result.missing_keys
            if name not in tensors or tensors[name].data_ptr() not in loaded
        ]
        for what, names in (("lacks", missing), ("has other tensors", load_result.unexpected_keys)):
            if names:
                raise ValueError(f"it {what}: {', '.join(names[:3])}")  # `reading` names the checkpoint

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with reading(Path(checkpoint or ""), "the optimizer's state"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with reading(Path(checkpoint or ""), "the random state"):
            super()._load_rng_state(checkpoint)

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
        self.engine.run_round(self.model, self.engine.last_round_step)


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
