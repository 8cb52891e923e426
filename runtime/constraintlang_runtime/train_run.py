"""One training run from settings to a saved model: load, check, train or resume, save with its provenance."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_runtime.card import write_card
from constraintlang_runtime.checkpoint import newest_checkpoint, save_groups, write_atomic
from constraintlang_runtime.config import ConstraintConfig, own_settings
from constraintlang_runtime.fingerprint import fingerprint_of, inputs_of
from constraintlang_runtime.mishaps import explained, require_whole, writing
from constraintlang_runtime.model_names import commit_of
from constraintlang_runtime.progress import Progress, RoundLines, StepProgress
from constraintlang_runtime.ranks import barrier, is_main
from constraintlang_runtime.report.provenance import train_command
from constraintlang_runtime.run_folder import check_output, claim
from constraintlang_runtime.run_parts import configured, load_parts
from constraintlang_runtime.run_settings import RunSettings
from constraintlang_runtime.schedule.remote import LaneWorld, lane_world, maybe, see_one_gpu
from constraintlang_runtime.schedule.serving import serve_lanes
from constraintlang_runtime.scorers.protocol import Scorer
from constraintlang_runtime.seen_prompts import write_seen
from constraintlang_runtime.settling import untrained_clauses
from constraintlang_runtime.trainer import ConstraintTrainer
from constraintlang_runtime.versions import versions as versions

RECORD = "run.json"


def train(
    policy: CompiledPolicy,
    settings: RunSettings,
    *,
    folder: Path,
    scorers: Mapping[str, Scorer] | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Train, save the model, and return the record of the run (also ``OUTPUT/constraint/run.json``).

    ``folder`` is where the policy stands. A finished run in the output folder is kept: it must be resumed (nothing is
    left to do) or overwritten explicitly. A rank that samples and fits for others returns an empty record.
    """
    with maybe(lane_world(settings.config)) as world:
        found = torch.cuda.device_count()
        if "WORLD_SIZE" not in os.environ and found > 1:
            see_one_gpu(0)
            tell(f"one of {found} GPUs is used: `accelerate launch` starts a process for each")
        config = configured(settings, output_dir=str(Path(settings.output) / "checkpoints"))
        if world is not None and world.is_lane:
            serve_lanes(world, policy, settings, config, folder=folder, scorers=scorers)
            return {}
        return _train(
            policy,
            settings,
            config,
            folder=folder,
            scorers=scorers,
            progress=progress,
            tell=tell,
            world=world,
        )


def _train(
    policy: CompiledPolicy,
    settings: RunSettings,
    config: ConstraintConfig,
    *,
    folder: Path,
    scorers: Mapping[str, Scorer] | None,
    progress: Progress | None,
    tell: Callable[[str], None],
    world: LaneWorld | None,
) -> dict[str, Any]:
    output = Path(settings.output)
    if is_main():
        check_output(output, settings)
    barrier()
    inputs = inputs_of(policy, settings, config)
    fingerprint = fingerprint_of(inputs)
    record_path = output / "constraint" / RECORD
    if settings.resume and record_path.exists():
        record = json.loads(record_path.read_text())
        if record["fingerprint"] == fingerprint:
            tell(f"the run in {output} is finished; nothing to resume")
            return dict(record)
    trainer = build(
        policy, settings, config, folder=folder, scorers=scorers, progress=progress, tell=tell, world=world
    )
    commit = commit_of(settings.model)  # as it was loaded now
    untrained, budgets = untrained_clauses(policy.ir), trainer.engine.budgets
    if trainer.rows_held_out:
        tell(f"held out of training, to measure on: {trainer.rows_held_out:,} of the rows")
    if untrained:
        tell(f"verified only, training does not act on {', '.join(f'`{name}`' for name in untrained)}")
    for line in budgets.unmeasured_because([example["row"].tags for example in trainer.train_dataset]):
        tell(f"warning: {line}")
    for name, reason in trainer.engine.unmasked.items():
        tell(f"`{name}` has no token masks, training makes its violations rare but forbids none: {reason}")
    checkpoint = newest_checkpoint(Path(config.output_dir)) if settings.resume else None
    barrier()
    if is_main():
        claim(output, inputs, settings, commit)
    barrier()
    if settings.resume:
        tell(
            f"resuming from {checkpoint}" if checkpoint else "no checkpoint yet; starting from the beginning"
        )
    started = time.perf_counter()
    if checkpoint is not None:
        require_whole(checkpoint, process=trainer.args.process_index, num_processes=trainer.args.world_size)
    kept = lambda: newest_checkpoint(Path(config.output_dir)) is not None  # noqa: E731
    with explained(lambda: trainer.state.global_step, tell, kept):
        _run(trainer, checkpoint)
    seconds = time.perf_counter() - started
    record = {
        "fingerprint": fingerprint,
        "semantic_hash": policy.semantic_hash,
        "model": settings.model,
        "model_commit": commit,
        "command": train_command(policy.source.name, settings),
        "method": config.method,
        "settings": own_settings(trainer.constraint),
        "steps": trainer.state.global_step,
        "rows": len(trainer.train_dataset),
        "rows_dropped": trainer.rows_dropped,
        "rows_held_out": trainer.rows_held_out,
        "groups": [
            {
                "name": group.name,
                "clauses": [clause.name for clause in group.clauses],
                "prompts": len(group.prompts),
                "duals": [float(x) for x in group.duals],
                "weight": group.weight,
            }
            for group in trainer.groups
        ],
        "history": trainer.state.log_history,
        "verified_only": [*untrained, *budgets.unmeasured],
        "preserve": [budget.report() for budget in trainer.engine.budgets.budgets if budget.rows],
        "selection": [] if trainer.selection is None else trainer.selection.report(),
        "seconds": round(seconds, 2),
        "resumed": checkpoint is not None,
        "versions": versions(),
    }
    help = "free space there; --resume goes on from the last checkpoint"
    with (
        explained(lambda: trainer.state.global_step, tell),
        writing(f"the trained model to `{output}`", help=help),
    ):
        _save(trainer, policy, output, record)
    return record


def _run(trainer: ConstraintTrainer, checkpoint: Path | None) -> None:
    if checkpoint is not None and int(checkpoint.name.rpartition("-")[2]) >= trainer.args.max_steps:
        trainer.restore_finished(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def build(
    policy: CompiledPolicy,
    settings: RunSettings,
    config: ConstraintConfig,
    *,
    folder: Path,
    scorers: Mapping[str, Scorer] | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda message: None,
    world: LaneWorld | None = None,
) -> ConstraintTrainer:
    """The trainer of a run, everything loaded and checked; ``world`` when other ranks are its lanes."""
    parts = load_parts(policy, settings, config, folder, scorers)
    trainer = ConstraintTrainer(
        parts.model, config, policy=policy, train_dataset=parts.rows.rows, processing_class=parts.tokenizer,
        scorers=parts.scorers, prompts=parts.rows.prompts, heldout=parts.rows.heldout, selection=parts.rows.selection,
        progress=progress, tell=tell, lane_world=world,
    )  # fmt: skip
    if progress is not None:
        trainer.add_callback(StepProgress(progress))
        trainer.add_callback(RoundLines(tell, lambda: trainer.engine.clauses))
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # it prints to standard output, which belongs to the command
    return trainer


def _save(trainer: ConstraintTrainer, policy: CompiledPolicy, output: Path, record: dict[str, Any]) -> None:
    """The model at the top of the output folder, ours in ``constraint/``; the record last, as the sign of an end."""
    trainer.save_model(str(output))
    if not is_main():
        return
    (output / "training_args.bin").unlink(missing_ok=True)  # a pickle, and the record says what it holds
    trainer.processing_class.save_pretrained(output)
    own = output / "constraint"  # holds the run's fingerprint since its start
    save_groups(own, trainer.groups, {"semantic_hash": policy.semantic_hash})
    policy.save(own / "policy")
    write_seen(output, trainer.seen_prompts)
    write_card(output, policy.source.text, record)
    write_atomic(own / RECORD, json.dumps(record, indent=1))
