"""One training run from settings to a saved model: load, check, train or resume, save with its provenance."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.scopes import utility_clauses
from constraintlang_runtime.adapters import with_adapter
from constraintlang_runtime.card import NAME as CARD
from constraintlang_runtime.card import user_text, write_card
from constraintlang_runtime.checkpoint import newest_checkpoint, save_groups, write_atomic
from constraintlang_runtime.config import ConstraintConfig, own_settings
from constraintlang_runtime.data import load_rows
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.errors import ConfigError, ModelError
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.mishaps import explained, require_whole, writing
from constraintlang_runtime.progress import Progress, StepProgress
from constraintlang_runtime.ranks import barrier, is_main
from constraintlang_runtime.report.provenance import train_command
from constraintlang_runtime.run_rows import RunRows
from constraintlang_runtime.run_settings import RunSettings, defaults
from constraintlang_runtime.schedule.remote import LaneWorld, lane_world, maybe
from constraintlang_runtime.schedule.work import Workbench
from constraintlang_runtime.scorers.binding import bind_scorers, parse_scorer_options
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.protocol import Scorer
from constraintlang_runtime.seen_prompts import write_seen
from constraintlang_runtime.settling import untrained_clauses
from constraintlang_runtime.trainer import ConstraintTrainer

RECORD = "run.json"
HARMLESS = frozenset(
    {
        "logging_steps",
        "logging_strategy",
        "logging_first_step",
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "report_to",
        "run_name",
        "scorer_timeout",
        "lane_timeout",
        "lane_ranks",
        "sampler_url",
        "sampler_folder",
        "sampler_timeout",
    }
)  # settings that may differ when a run is resumed: no weight depends on them
CHOOSING = frozenset({"save_steps", "save_strategy"})  # not harmless to a run that keeps its best checkpoint
PACKAGES = ("constraintlang", "torch", "transformers", "accelerate", "datasets", "peft", "numpy")


def versions() -> dict[str, str]:
    """Versions of what shapes a result, and the machine."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "python": platform.python_version(), "machine": platform.platform()}


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
        config = _config(settings, output_dir=str(Path(settings.output) / "checkpoints"))
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
        _check_output(output, settings)
    barrier()
    fingerprint = _fingerprint(policy, settings, config)
    record_path = output / "constraint" / RECORD
    if settings.resume and record_path.exists():
        record = json.loads(record_path.read_text())
        if record["fingerprint"] == fingerprint:
            tell(f"the run in {output} is finished; nothing to resume")
            return dict(record)
    trainer = build(
        policy, settings, config, folder=folder, scorers=scorers, progress=progress, tell=tell, world=world
    )
    untrained = [*untrained_clauses(policy.ir), *trainer.engine.budgets.unmeasured]
    if trainer.rows_held_out:
        tell(f"{trainer.rows_held_out:,} of the rows are kept out of training, to measure on")
    if untrained:
        tell(f"verified only, training does not act on {', '.join(f'`{name}`' for name in untrained)}")
    checkpoint = newest_checkpoint(Path(config.output_dir)) if settings.resume else None
    barrier()
    if is_main():
        _check_fingerprint(output, fingerprint, settings)
    barrier()
    if settings.resume:
        tell(
            f"resuming from {checkpoint}" if checkpoint else "no checkpoint yet; starting from the beginning"
        )
    started = time.perf_counter()
    if checkpoint is not None:
        require_whole(checkpoint, process=trainer.args.process_index, num_processes=trainer.args.world_size)
    with explained(lambda: trainer.state.global_step, tell):
        _run(trainer, checkpoint)
    seconds = time.perf_counter() - started
    record = {
        "fingerprint": fingerprint,
        "semantic_hash": policy.semantic_hash,
        "model": settings.model,
        "command": train_command(policy.source.name, settings),
        "method": config.method,
        "settings": own_settings(config),
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
        "verified_only": untrained,
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
    parts = _load(policy, settings, config, folder, scorers)
    trainer = ConstraintTrainer(
        parts.model, config, policy=policy, train_dataset=parts.rows.rows, processing_class=parts.tokenizer,
        scorers=parts.scorers, prompts=parts.rows.prompts, heldout=parts.rows.heldout, selection=parts.rows.selection,
        callbacks=[] if progress is None else [StepProgress(progress)], progress=progress, tell=tell,
        lane_world=world,
    )  # fmt: skip
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # it prints to standard output, which belongs to the command
    return trainer


@dataclass(frozen=True)
class _Parts:
    model: Any
    tokenizer: Any
    rows: RunRows
    scorers: Mapping[str, Scorer]


def _load(
    policy: CompiledPolicy,
    settings: RunSettings,
    config: ConstraintConfig,
    folder: Path,
    scorers: Mapping[str, Scorer] | None,
) -> _Parts:
    """What every rank of a run loads."""
    rows = load_rows(settings.data, role="--data")
    prompts = load_rows(settings.prompts, role="--prompts") if settings.prompts else None
    heldout = load_rows(settings.heldout, role="--heldout") if settings.heldout else None
    selection = load_rows(settings.selection, role="--selection") if settings.selection else None
    bound = bind_scorers(
        policy.ir,
        parse_scorer_options(settings.scorer),
        scorers,
        folder=folder,
        files=policy.files,
        allow_path=settings.allow_path,
    )
    tokenizer = load_tokenizer(settings.model)
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of `{settings.model}` has no end-of-sequence token, so no completion would have an end",
            help="name its `eos_token` in tokenizer_config.json",
        )
    model = with_adapter(load_model(settings.model, tokenizer=tokenizer), config, config.seed)
    return _Parts(model, tokenizer, RunRows(rows, prompts, heldout, selection), bound)


def serve_lanes(
    world: LaneWorld,
    policy: CompiledPolicy,
    settings: RunSettings,
    config: ConstraintConfig,
    *,
    folder: Path,
    scorers: Mapping[str, Scorer] | None,
) -> None:
    """Sample and fit for the training ranks until they are done; each lane of this rank has a model of its own."""
    one_at_a_time, device = threading.Lock(), torch.device("cpu")
    if torch.cuda.is_available() and not config.use_cpu:
        device = torch.device("cuda", world.local_rank % torch.cuda.device_count())

    def workbench(lane: str) -> Workbench:
        with one_at_a_time:
            parts = _load(policy, settings, config, folder, scorers)
            split, _ = parts.rows.split(policy.ir, parts.tokenizer, config)
            pool = ScoringPool(policy.ir.attributes, parts.scorers, timeout=config.scorer_timeout)
            engine, _ = ConstraintEngine.prepare(
                policy, split.rows, split.prompts, config, pool, parts.tokenizer, max_steps=config.max_steps,
                seed=config.seed, heldout=split.heldout, scores_corpus=False,
            )  # fmt: skip
            return Workbench(engine, parts.model.to(device))

    world.serve(workbench)


def dry_run(
    policy: CompiledPolicy,
    settings: RunSettings,
    *,
    folder: Path,
    scorers: Mapping[str, Scorer] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Check data, scorers and memory and take one regularized step in a temporary folder; nothing is written.

    The step uses the start model as its anchor and few samples, so its rates mean nothing; its times and memory do.
    """
    wanted = _config(settings, output_dir=tempfile.gettempdir())
    with tempfile.TemporaryDirectory() as scratch:
        small = {
            "max_steps": 1, "rounds": 1, "anchor_samples": 64, "control_samples": 32,
            "auxiliary_steps": 5, "save_strategy": "no", "keep": "last", "set_point_share": 0.5,
            "anchor": "start" if wanted.anchor == "tuned" else wanted.anchor, "schedule": "sequential",
            "staleness": 1, "lane_ranks": 1,
        }  # fmt: skip
        config = _config(replace(settings, config={**settings.config, **small}), output_dir=scratch)
        heldout = settings.heldout if utility_clauses(policy.ir) else ()
        trainer = build(
            policy,
            replace(settings, resume=False, heldout=heldout, selection=()),
            config,
            folder=folder,
            scorers=scorers,
            progress=progress,
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
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
        "peak_memory_gib": round(peak_memory_gib(), 3),
        "one_round_and_step_seconds": round(seconds, 2),
        "planned_steps": wanted.max_steps,
        "planned_samples": wanted.anchor_samples + wanted.rounds * wanted.control_samples,
    }


def _config(settings: RunSettings, output_dir: str) -> ConstraintConfig:
    """The checked configuration; what transformers refuses is a ConfigError too."""
    try:
        return ConstraintConfig(output_dir=output_dir, disable_tqdm=True, **settings.config)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"transformers refuses the settings: {error}", help="change that setting"
        ) from error


def peak_memory_gib() -> float:
    """Peak memory of the device when there is one, else of this process, in GiB."""
    import resource

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if platform.system() == "Darwin" else 2**20)


def _check_output(output: Path, settings: RunSettings) -> None:
    for path in (output, *output.parents):
        if path.exists() and not path.is_dir():
            raise ConfigError(f"--output: `{path}` is a file", help="name a folder")
    occupied = output.is_dir() and any(output.iterdir())
    if occupied and not (settings.resume or settings.overwrite):
        raise ConfigError(
            f"--output: `{output}` is not empty",
            help="add --resume to go on with the run in it, --overwrite to start over, or name another folder",
        )
    if occupied and not _is_run(output):
        raise ConfigError(
            f"--output: `{output}` is not empty and not the output of `constraintc train`",
            help="name another folder",
        )
    if occupied and settings.overwrite and not settings.resume:
        files = (*settings.data, *settings.prompts, *settings.heldout, *settings.selection)
        specs = (*files, *(option.partition("#")[0] for option in settings.scorer))
        for what, name in (
            ("start model", settings.model),
            *(("file", spec.split("=", 1)[-1]) for spec in specs),
        ):
            if Path(name).exists() and Path(name).resolve().is_relative_to(output.resolve()):
                raise ConfigError(
                    f"--overwrite: the {what} `{name}` lies in `{output}`, which would be cleared",
                    help="name another --output",
                )


def _is_run(output: Path) -> bool:
    """Whether a folder is ours: it has a fingerprint, or a kill left nothing but the folder made for one."""
    return (output / "constraint" / "fingerprint.txt").exists() or [p.name for p in output.iterdir()] == [
        "constraint"
    ]


def _check_fingerprint(output: Path, fingerprint: str, settings: RunSettings) -> None:
    """A folder belongs to one run: refuse to resume another, clear it only when told to."""
    marker = output / "constraint" / "fingerprint.txt"
    kept = None
    if settings.overwrite and not settings.resume:
        kept = user_text(output)
        shutil.rmtree(output, ignore_errors=True)
    elif marker.exists() and marker.read_text().strip() != fingerprint:
        raise ConfigError(
            f"--resume: `{output}` belongs to a run with another policy, word list, model, data or settings",
            help="resume with the same command, or name another --output",
        )
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(marker, fingerprint + "\n")
        if kept is not None:
            (output / CARD).write_bytes(kept)
    except OSError as error:
        raise ConfigError(
            f"--output: cannot write to `{output}`: {error.strerror}", help="name another folder"
        ) from error


def _fingerprint(policy: CompiledPolicy, settings: RunSettings, config: ConstraintConfig) -> str:
    """What must be equal for a resumed run to be the same run."""
    standard = defaults(ConstraintConfig)
    harmless = HARMLESS - CHOOSING if config.keep == "best" else HARMLESS
    content = {
        "policy": policy.semantic_hash,
        "model": settings.model,
        "data": list(settings.data),
        "prompts": list(settings.prompts),
        "heldout": list(settings.heldout),
        "selection": list(settings.selection),
        "scorer": list(settings.scorer),
        "settings": {key: value for key, value in own_settings(config).items() if key not in harmless},
        "changed": {
            key: value
            for key, value in settings.config.items()
            if key not in harmless and value != standard[key]
        },
        "files": {
            spec: hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for spec in (
                *settings.data,
                *settings.prompts,
                *settings.heldout,
                *settings.selection,
                *settings.scorer,
            )
            if (path := spec.split("=", 1)[-1]) and Path(path).is_file()
        },
        "word lists": {
            name: hashlib.sha256(content).hexdigest() for name, content in sorted(policy.contents.items())
        },
        "start model": _model_digests(Path(settings.model)),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _model_digests(folder: Path) -> dict[str, str]:
    """What a start model in a folder consists of; one of the hub is known by its id."""
    found = {}
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.json"))) if folder.is_dir() else ():
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


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
