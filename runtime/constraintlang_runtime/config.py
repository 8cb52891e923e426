"""One configuration for a training run: transformers' arguments plus the constraint's settings."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.run_length import MAX_STEPS, checked_steps, steps_of
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.sharding import check_fsdp, is_fsdp, require_known_engine

logger = logging.getLogger(__name__)

EVALUATING = ("load_best_model_at_end", "eval_on_start")  # ask transformers for an evaluation
OF_EVALUATION = ("eval_steps", "metric_for_best_model", "greater_is_better")  # say how, and ask for nothing
INSTEAD = "leave it out; --keep best measures every checkpoint and keeps the one that holds the policy at least loss"


@dataclass
class ConstraintConfig(ConstraintSettings, TrainingArguments):
    """``TrainingArguments`` with the constraint's settings.

    Changed defaults of transformers: ``max_steps`` 1000 (``num_train_epochs`` in its place, where given),
    ``learning_rate`` 1e-4, ``logging_steps`` 10, ``save_steps`` 200, ``save_total_limit`` 2, ``report_to`` none,
    ``remove_unused_columns`` False.
    Raises: ConfigError for a wrong value of ours, ValueError for one of transformers'.
    """

    max_steps: int = field(default=MAX_STEPS, metadata={"help": "optimizer steps"})
    num_train_epochs: float = field(
        default=0.0, metadata={"help": "passes over the training rows, in place of max_steps; 0 for none"}
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "peak learning rate"})
    logging_steps: float = field(default=10, metadata={"help": "log every so many steps"})
    save_steps: float = field(default=200, metadata={"help": "write a checkpoint every so many steps"})
    save_total_limit: int | None = field(default=2, metadata={"help": "checkpoints kept"})
    report_to: str | list[str] | None = field(
        default="none", metadata={"help": "trackers, as in transformers"}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "kept False: tags reach scorers"})

    def __post_init__(self) -> None:
        require_known_engine(self)
        asked: Any = getattr(self, "fsdp", None)
        if str(asked).lower() in ("true", "false"):  # as a command line has it
            asked = str(asked).lower() == "true" or None
            self.fsdp = asked
        for name in EVALUATING:
            if getattr(self, name):
                raise ConfigError(f"{name}: no rows are evaluated in training", help=INSTEAD)
        unread = [name for name in OF_EVALUATION if getattr(self, name) is not None]
        if unread and self.eval_strategy == "no":
            logger.warning(
                "%s: no rows are evaluated in training, so that nothing reads it", ", ".join(unread)
            )
        super().__post_init__()
        if self.save_strategy == "best":
            raise ConfigError("save_strategy: `best` saves by an evaluation, and there is none", help=INSTEAD)
        self.max_steps = checked_steps(self.max_steps, self.num_train_epochs)
        if not 0 <= self.learning_rate < math.inf:
            raise ConfigError(f"learning_rate: got {self.learning_rate}, expected 0 or more")
        if self.label_smoothing_factor != 0:
            raise ConfigError(
                f"label_smoothing_factor: got {self.label_smoothing_factor}; the loss is the language model's own",
                help="leave it out",
            )
        if self.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
            raise ConfigError(
                f"train_sampling_strategy: `{self.train_sampling_strategy}` is not supported: rows are drawn at random",
                help="leave it out; --packing saves what is lost to padding",
            )
        if self.eval_strategy != "no":
            raise ConfigError(
                f"eval_strategy: got `{IntervalStrategy(self.eval_strategy).value}`; no rows are evaluated in training",
                help="leave it out: rounds measure the policy, `keep: best` held-out loss, `constraintc eval` the rest",
            )
        if self.full_determinism and not self.use_cpu and torch.cuda.is_available():
            raise ConfigError(
                "full_determinism: cumulative sums, which we take, have no deterministic form on a GPU",
                help="leave it out: runs of one seed draw alike, and differ by the rounding of sums",
            )
        if self.auto_find_batch_size:
            raise ConfigError(
                "auto_find_batch_size: a run that begins anew in the middle keeps the rounds that it has had",
                help="leave it out; `constraintc estimate` says which batch fits",
            )
        if self.remove_unused_columns:
            raise ConfigError(
                "remove_unused_columns: got True; tags reach scorers by their columns", help="leave it out"
            )
        for name in ("save_only_model", "ignore_data_skip"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name}: a run that is resumed would end in other weights", help=f"leave `{name}` out"
                )
        self.check()
        check_fsdp(self)
        if self.keep == "best" and self.save_strategy == "no":
            raise ConfigError(
                "keep: `best` chooses among checkpoints, and save_strategy `no` writes none",
                help="leave `save_strategy` out, or use --keep last",
            )

    @property
    def places_on(self) -> str | None:
        """The device of every model that a run loads: the CPU where it is asked for, else the first GPU if any."""
        return "cpu" if self.use_cpu else None

    @property
    def model_on(self) -> str | None:
        """The device on which the model to train is loaded: the CPU also under FSDP, which moves what it divides."""
        return "cpu" if is_fsdp(self) else self.places_on

    def over(self, rows: int, *, processes: int | None = None) -> ConstraintConfig:
        """These settings with the steps that ``num_train_epochs`` passes over ``rows`` take; unchanged without epochs.

        ``processes`` are those that train, each with one device; this one's world and devices when not given.
        """
        if not self.num_train_epochs:
            return self
        found = copy.copy(self)
        found.max_steps = steps_of(
            self.num_train_epochs, rows, processes=processes or self.world_size,
            batch=self.train_batch_size if processes is None else self.per_device_train_batch_size,
            accumulation=self.gradient_accumulation_steps, drop_last=self.dataloader_drop_last,
        )  # fmt: skip
        return found


def own_settings(config: ConstraintConfig) -> dict[str, Any]:
    """The constraint's own settings and the few of transformers that shape a result, for provenance."""
    own = {f.name: getattr(config, f.name) for f in fields(ConstraintSettings)}
    shared = (
        "max_steps", "num_train_epochs", "learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps",
        "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm", "seed", "bf16",
    )  # fmt: skip
    return own | {
        key: str(getattr(config, key)) if key == "lr_scheduler_type" else getattr(config, key)
        for key in shared
    }
