"""``ConstraintTrainer``: transformers' Trainer with the regularizer added to its loss and rounds between its steps."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from constraintlang_runtime.baselines.filtering import compliant_rows
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.cached_anchor import AnchorStates
from constraintlang_runtime.columns import Row
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import collate
from constraintlang_runtime.divided import whole_weights
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.integrations.policy import ScorerLike
from constraintlang_runtime.loss_trainer import LossTrainer
from constraintlang_runtime.model_checks import require_positions
from constraintlang_runtime.ranks import from_main
from constraintlang_runtime.row_weights import RowWeights
from constraintlang_runtime.run_rows import RunRows
from constraintlang_runtime.schedule.parallel import ParallelSchedule
from constraintlang_runtime.schedule.remote import LaneWorld
from constraintlang_runtime.schedule.work import Workbench
from constraintlang_runtime.scorers.cache import open_cache
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.seen_prompts import prompt_hashes
from constraintlang_runtime.selection import Selection
from constraintlang_runtime.sharding import is_fsdp
from constraintlang_runtime.trainer_inputs import (
    MEASURED_BY,
    NO_EVALUATION,
    PolicyLike,
    arguments,
    listed_rows,
    model_and_tokenizer,
    policy_and_scorers,
    require_used,
)

logger = logging.getLogger(__name__)


class ConstraintTrainer(LossTrainer):
    """Fine-tune a causal LM on rows while a token-level KL regularizer pulls it to the policy's projection.

    Equation: L = (1/N) [Σ_corpus -log p + Σ_d ρ_d Σ_sites D(q̂_d, p) + Σ_d κ_d Σ KL(p_0 ‖ p)], N the corpus tokens of
    the whole optimizer step (docs/method.md, "The regularizer").

    Args:
        model: a causal LM (``PreTrainedModel`` or ``PeftModel``), or the folder or hub id of one.
        args: ``ConstraintConfig``; its defaults when not given.
        policy: a ``.policy`` file, a compiled folder, a ``Policy`` with its scorers, or a compiled policy.
        train_dataset: rows (mappings or a ``datasets.Dataset``) with ``text`` | ``prompt``+``completion`` |
            ``messages`` and tags such as ``domain``.
        processing_class: the tokenizer; the one beside the model when not given.
        scorers: what measures attributes of the policy: a callable, or what ``--scorer`` takes
            (``"unitary/toxic-bert#toxic"``, a word list). What is not named is measured by the policy's own backend.
        prompts: rows whose prompts are sampled in training; the training rows' own prompts when not given.
        heldout: rows that measure `preserve` clauses and, with ``keep: best``, the loss; a few of the training rows,
            which are then not trained on, when not given.
        selection: rows whose prompts judge checkpoints for ``keep: best``; a few of the prompts when not given.
        progress: called with (what, done, total) during long work between steps.
        lane_world: the ranks that sample and fit, for ``schedule: parallel`` on several; without them its lanes are
            threads of this process.
        tell: called with what a person should know at once, such as a `preserve` clause that is broken.

    ``seen_prompts`` are hashes of every prompt that training or the choice of a checkpoint saw.

    Raises: PolicyError, ConfigError, ModelError, DataError at construction; ScorerError, TrainingError while training.
    """

    def __init__(
        self,
        model: Any,
        args: ConstraintConfig | None = None,
        *,
        policy: PolicyLike,
        train_dataset: Sequence[Row],
        processing_class: Any = None,
        scorers: Mapping[str, ScorerLike] | None = None,
        prompts: Sequence[Row] | None = None,
        heldout: Sequence[Row] | None = None,
        selection: Sequence[Row] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        lane_world: LaneWorld | None = None,
        tell: Callable[[str], None] = logger.warning,
        **trainer_options: Any,
    ) -> None:
        args = arguments(args)
        require_used(trainer_options)
        if args.n_gpu > 1:
            raise ConfigError(
                f"{args.n_gpu} GPUs in one process: transformers would train on batches as many times as large",
                help="set CUDA_VISIBLE_DEVICES to one of them, or start a process for each with `accelerate launch`",
            )
        policy, measured_by = policy_and_scorers(policy, scorers, model=model, args=args)
        others = {"prompts": prompts, "heldout": heldout, "selection": selection}
        given = RunRows(
            listed_rows(train_dataset, "train_dataset"),
            *(None if part is None else listed_rows(part, name) for name, part in others.items()),
        )
        model, processing_class = model_and_tokenizer(model, processing_class, args)
        self.pad_id = pad_token(processing_class)
        self.seen_prompts = prompt_hashes(given.with_prompts())
        parts, self.rows_held_out = given.split(policy.ir, processing_class, args)
        rows = parts.rows
        self.constraint = args = args.over(len(rows))
        longest = max((len(row.ids) for row in rows), default=0)
        require_positions(model, longest, "rows have up to", "lower --max_length, which cuts them")
        self.selection = Selection(parts.selection, parts.heldout) if args.keep == "best" else None
        pool = ScoringPool(
            policy.ir.attributes, measured_by, timeout=args.scorer_timeout, cache=open_cache(args.score_cache),
            seed=args.seed,
        )  # fmt: skip
        self.engine, row_groups = ConstraintEngine.prepare(
            policy, rows, parts.prompts, args, pool, processing_class,
            max_steps=args.max_steps, seed=args.seed, progress=progress, heldout=parts.heldout,
        )  # fmt: skip
        self.engine.log, self.engine.tell = self.log, tell
        # of divided weights every process has a part in every pass, also where it knows the row
        cache_gib = 0 if is_fsdp(args) else args.anchor_cache_gib
        self.engine.states = AnchorStates.below(args.output_dir, cache_gib)
        self.policy = policy = self.engine.policy
        self.rows_dropped = 0
        if args.method == "filtering":
            kept = compliant_rows(
                rows, row_groups, self.groups, lambda group, chosen: self.engine.score(group.clauses, chosen)
            )
            self.rows_dropped = len(rows) - len(kept)
            if not kept:
                raise DataError(
                    f"filtering leaves nothing to train on: none of the {len(rows)} rows satisfies the policy",
                    help="add rows that comply, check the scorers by `constraintc score`, or use --method constraint",
                )
            rows, row_groups = [rows[i] for i in kept], [row_groups[i] for i in kept]
            self.constraint = args = args.over(len(rows))  # epochs are passes over the rows that are left
            self.engine.max_steps = args.max_steps
        self.row_weights: RowWeights | None = None
        if args.method == "constraint" and args.training_rows == "projected":
            self.row_weights = RowWeights(
                rows, row_groups, law=args.law, tokenizer=processing_class, seed=args.seed
            )
        preserved = [self.engine.budgets.covers(row.tags) for row in rows]
        self._preserves = any(map(any, preserved))
        self.engine.take_start(model, preserves=self._preserves)
        self.start_losses()
        self._has_run = False
        examples = [
            {"row": row, "number": number, "group": group, "preserved": kept}
            for number, (row, group, kept) in enumerate(zip(rows, row_groups, preserved, strict=True))
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
                f"cannot write to `{args.output_dir}`: {error.strerror}",
                help="name another folder",
                parameter="output",
            ) from error
        except (ValueError, ImportError, RuntimeError) as error:
            raise ConfigError(
                f"transformers refuses the settings: {error}", help="change that setting"
            ) from error
        # The loss below is already divided by the tokens of the whole step, under either name of the switch.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self.parallel = self._parallel(lane_world) if args.schedule == "parallel" else None

    # ------------------------------------------------------------------------------------------ set-up
    def _parallel(self, lane_world: LaneWorld | None) -> ParallelSchedule:
        args, engine = self.constraint, self.engine
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ConfigError(
                "schedule: the lanes of `parallel` need whole weights, FSDP and DeepSpeed divide them",
                help="use --schedule sequential",
            )
        if lane_world is None and self.args.world_size > 1:
            raise ConfigError(
                "schedule: `parallel` gives ranks to lanes before the training ranks are set up",
                help="start the ranks with `constraintc train`, or use --schedule sequential",
            )
        if lane_world is None:
            # copied before training wraps anything around the model's own forward
            benches: Any = tuple(
                Workbench(engine, copy.deepcopy(self.model)) for _ in ("sampling", "fitting")
            )
            return ParallelSchedule(engine, benches, staleness=args.staleness, timeout=args.lane_timeout)
        schedule = ParallelSchedule(
            engine, lane_world.benches, staleness=args.staleness, timeout=args.lane_timeout
        )
        lane_world.watch(schedule.lanes)
        return schedule

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As transformers'; the lanes end with it.

        Called again, it is a new run from the weights as they are, or from those of the checkpoint that is resumed.
        """
        if self._has_run:
            self._restart(resumes=bool(resume_from_checkpoint))
        self._has_run = True
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            if self.parallel is not None:
                self.parallel.close()

    def evaluate(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise ConfigError: rows are measured by ``heldout``, and responses by ``Policy.verify``."""
        raise ConfigError(NO_EVALUATION, help=MEASURED_BY, parameter="evaluate")

    def predict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise ConfigError, as ``evaluate`` does."""
        raise ConfigError(NO_EVALUATION, help=MEASURED_BY, parameter="predict")

    def _restart(self, *, resumes: bool) -> None:
        """The constraint's state as before the first step; a run that is resumed keeps the start model of the last."""
        self.engine.restart()
        if not resumes:
            self.engine.take_start(self.model, preserves=self._preserves)
        self.start_losses()
        if self.row_weights is not None:
            self.row_weights.restart()
        if self.selection is not None:
            self.selection.records = []

    def _collate(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        batch = collate([example["row"] for example in examples], self.pad_id)
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "labels": batch.labels,
            "region": batch.region,
            "number": torch.tensor([example["number"] for example in examples]),
            "group": torch.tensor([example["group"] for example in examples]),
            "preserved": torch.tensor([example["preserved"] for example in examples]),
        }

    def before_step(self, step: int) -> None:
        """Run the round that is due at this step."""
        self._micro_step = 0
        if self.engine.states is not None:
            self.engine.states.at(step)
        if self.parallel is not None:
            self.parallel.before_step(self.model, step)
        elif self.engine.is_round(step):
            self.engine.run_round(self.model, step)
        self.leave_out()

    # ------------------------------------------------------------------------------------------ checkpoints
    def before_checkpoint(self, step: int) -> None:
        """Judge the checkpoint, for ``keep: best``."""
        if self.selection is not None:
            with whole_weights(self.model):
                self.selection.measure(self.engine, self.model, step)

    def write_state(self, folder: Path) -> None:
        """The constraint's own state."""
        records = [] if self.selection is None else self.selection.records
        own = {
            "term_sums": dict(self._term_sums), "selection": records, "rows_weighed": self._rows_weighed,
        }  # fmt: skip
        self.engine.save(folder, own)
        if self.parallel is not None and self.args.should_save:
            self.parallel.save(folder)

    def read_state(self, folder: Path) -> None:
        """Inverse of ``write_state``."""
        extra = self.engine.load(folder, self.model, self.args.device)
        self._term_sums = {key: list(values) for key, values in extra["term_sums"].items()}
        self._rows_weighed = bool(extra["rows_weighed"])
        if self.parallel is not None:
            self.parallel.load(folder, self.args.device)
        if self.selection is not None:
            self.selection.records = list(extra["selection"])

    def best_checkpoint(self) -> int | None:
        """The best so far, for ``keep: best``."""
        return None if self.selection is None else self.selection.best

    def restore_finished(self, folder: Path) -> None:
        """Take the state of a checkpoint of the last step: what a run killed before its final save still needs.

        ``train`` would take one step too many, because transformers looks at the step count only after a step.
        """
        self._has_run = True
        self.state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
        self._load_from_checkpoint(str(folder))
        self.model.to(self.args.device)
        # what training does before its first step: the last measurement is made in the run's precision
        self.accelerator.prepare_model(self.model, evaluation_mode=True)
        self.finish()

    def finish(self) -> None:
        """The measurement after the last step, then the checkpoint to keep."""
        if self.parallel is not None:
            self.parallel.finish(self.model)
        else:
            self.engine.run_round(self.model, self.engine.last_round_step)
        if self.engine.states is not None:
            self.engine.states.remove()
        self.take_best()

    def take_best(self) -> None:
        """The weights and state of the checkpoint to keep, where it is not the last."""
        best = None if self.selection is None else from_main(self.selection.best)
        if self.selection is None or best is None or best == self.state.global_step:
            return
        records = self.selection.records
        self._load_from_checkpoint(str(Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{best}"))
        self.model.to(self.args.device)
        self.selection.records = records  # those of the chosen checkpoint end with it


class _Rounds(TrainerCallback):
    """Runs the round that is due before each optimizer step, and a last measurement at the end."""

    def __init__(self, trainer: ConstraintTrainer) -> None:
        self._trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the first micro-batch of a step."""
        self._trainer.before_step(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the last step, or where another callback ended the run before it."""
        if state.global_step >= args.max_steps:
            self._trainer.finish()
        else:
            self._trainer.take_best()
        if self._trainer.engine.states is not None:
            self._trainer.engine.states.remove()
