"""``constraintc train --dry-run``: data, scorers, settings, memory and time from a few steps; nothing is kept."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.scopes import utility_clauses
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.fitting import check_forms, check_paths
from constraintlang_runtime.forecast import Rounds, StepWatch, forecast
from constraintlang_runtime.loading import load_tokenizer
from constraintlang_runtime.progress import Progress
from constraintlang_runtime.run_parts import configured, load_rows_of
from constraintlang_runtime.run_settings import RunSettings
from constraintlang_runtime.scorers.protocol import Scorer
from constraintlang_runtime.train_run import build
from constraintlang_runtime.trainer import ConstraintTrainer

STEPS: dict[str, Any] = {"max_steps": 3, "rounds": 1}  # the first is slower than the others
STEPS_OF_TUNED: dict[str, Any] = {"max_steps": 4, "rounds": 2, "warmup_fraction": 0.5}  # two of each kind
FIT_STEPS = 40
FEWEST = 64  # samples to fit to


def dry_run(
    policy: CompiledPolicy,
    settings: RunSettings,
    *,
    folder: Path,
    scorers: Mapping[str, Scorer] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Check data, scorers and memory and take a few regularized steps in a temporary folder; nothing is written.

    A round draws one batch of samples, so its rates mean nothing; times and memory do. What these samples cannot reach
    is a warning: of a `tuned` anchor nobody knows it yet.
    """
    wanted = configured(settings, output_dir=tempfile.gettempdir())
    _check_selection(policy, settings, wanted)
    watch, batch = StepWatch(progress), max(FEWEST, wanted.sampling_batch_size)
    with tempfile.TemporaryDirectory() as scratch:
        small = {
            **(STEPS_OF_TUNED if wanted.anchor == "tuned" else STEPS), "num_train_epochs": 0.0,
            "auxiliary_steps": min(wanted.auxiliary_steps, FIT_STEPS), "proposals": "none",
            "anchor_samples": min(wanted.anchor_samples, batch), "control_samples": min(wanted.control_samples, batch),
            "save_strategy": "no", "keep": "last", "set_point_share": 0.5,
            "schedule": "sequential", "staleness": 1, "lane_ranks": 1, "vargrad_weight": 0.0,
        }  # fmt: skip
        config = configured(replace(settings, config={**settings.config, **small}), output_dir=scratch)
        heldout = settings.heldout if utility_clauses(policy.ir) else ()
        trainer = build(
            policy,
            replace(settings, resume=False, heldout=heldout, selection=()),
            config,
            folder=folder,
            scorers=scorers,
            progress=watch.progress,
        )
        trainer.engine.is_rehearsal = True
        wanted = wanted.over(len(trainer.train_dataset))
        planned = _planned(trainer, wanted)
        trainer.paced_as = wanted
        trainer.add_callback(watch)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        stages = forecast(
            watch, trainer.state.log_history, (config, Rounds.of(trainer.engine)), (wanted, planned),
            processes=trainer.args.world_size,
        )  # fmt: skip
    return {
        "rows": len(trainer.train_dataset),
        "rows_dropped": trainer.rows_dropped,
        "groups": [
            {
                "name": group.name,
                "clauses": [clause.name for clause in group.clauses],
                "prompts": len(group.prompts),
                "share_of_tokens": round(group.corpus_share, 4),
                "corpus_means": [None if m != m else round(float(m), 4) for m in group.corpus_means],
            }
            for group in trainer.groups
        ],
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "peak_memory_gib": round(peak_memory_gib(trainer.args.device) + _lane_copies_gib(trainer, wanted), 3),
        "dry_run_seconds": round(seconds, 2),
        "planned_steps": wanted.max_steps,
        "planned_samples": (planned.starts is not None) * wanted.anchor_samples
        + planned.measured * wanted.control_samples,
        "planned_seconds": stages,
    }


def _planned(trainer: ConstraintTrainer, wanted: ConstraintConfig) -> Rounds:
    """The rounds of the run as asked for.

    Raises: ConfigError for what that run would refuse, and the one step does not meet.
    """
    own = trainer.engine
    engine = ConstraintEngine(
        own.policy, wanted, own.pool, own.tokenizer, own.groups, wanted.max_steps, wanted.seed
    )
    check_forms(engine.groups, wanted)
    check_paths(engine.groups, wanted)
    return Rounds.of(engine)


def _check_selection(policy: CompiledPolicy, settings: RunSettings, wanted: ConstraintConfig) -> None:
    """Raise ConfigError or DataError for rows that choose a checkpoint, as the run would; the step chooses none."""
    if wanted.keep != "best" and not settings.selection and not settings.heldout:
        return
    load_rows_of(settings).split(policy.ir, load_tokenizer(settings.model), wanted)


def _lane_copies_gib(trainer: ConstraintTrainer, wanted: ConstraintConfig) -> float:
    """The two copies of the weights with which lanes sample and fit in this process; the one step has none."""
    if wanted.schedule != "parallel" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return 0.0
    return 2 * sum(p.numel() * p.element_size() for p in trainer.model.parameters()) / 2**30


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory of a GPU, or of this process, in GiB."""
    import resource

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if platform.system() == "Darwin" else 2**20)
