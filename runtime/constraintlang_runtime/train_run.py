"""One training run from settings to a saved model: load, check, train or resume, save with its provenance."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_runtime.adapters import with_adapter
from constraintlang_runtime.checkpoint import newest_checkpoint, save_groups, write_atomic
from constraintlang_runtime.config import ConstraintConfig, own_settings
from constraintlang_runtime.data import load_rows
from constraintlang_runtime.errors import ConfigError, ModelError
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.mishaps import explained, require_whole, writing
from constraintlang_runtime.progress import Progress, StepProgress
from constraintlang_runtime.ranks import barrier, is_main
from constraintlang_runtime.run_settings import RunSettings, defaults
from constraintlang_runtime.scorers.binding import bind_scorers, parse_scorer_options
from constraintlang_runtime.scorers.protocol import Scorer
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
        "sampler_url",
        "sampler_folder",
        "sampler_timeout",
    }
)  # settings that may differ when a run is resumed: no weight depends on them
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
    left to do) or overwritten explicitly.
    """
    output = Path(settings.output)
    config = _config(settings, output_dir=str(output / "checkpoints"))
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
    untrained = untrained_clauses(policy.ir)
    if untrained:
        tell(f"verified only, training does not act on {', '.join(f'`{name}`' for name in untrained)}")
    trainer = build(policy, settings, config, folder=folder, scorers=scorers, progress=progress)
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
        "method": config.method,
        "settings": own_settings(config),
        "steps": trainer.state.global_step,
        "rows": len(trainer.train_dataset),
        "rows_dropped": trainer.rows_dropped,
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
) -> ConstraintTrainer:
    """The trainer of a run, everything loaded and checked."""
    rows = load_rows(settings.data, role="--data")
    prompts = load_rows(settings.prompts, role="--prompts") if settings.prompts else None
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
    trainer = ConstraintTrainer(
        model, config, policy=policy, train_dataset=rows, processing_class=tokenizer, scorers=bound,
        prompts=prompts, callbacks=[] if progress is None else [StepProgress(progress)], progress=progress,
    )  # fmt: skip
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # it prints to standard output, which belongs to the command
    return trainer


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
            "auxiliary_steps": 5, "save_strategy": "no", "set_point_share": 0.5,
            "anchor": "start" if wanted.anchor == "tuned" else wanted.anchor,
        }  # fmt: skip
        config = _config(replace(settings, config={**settings.config, **small}), output_dir=scratch)
        trainer = build(
            policy, replace(settings, resume=False), config, folder=folder, scorers=scorers, progress=progress
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

    import torch

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
        specs = (*settings.data, *settings.prompts, *(option.partition("#")[0] for option in settings.scorer))
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
    if settings.overwrite and not settings.resume:
        shutil.rmtree(output, ignore_errors=True)
    elif marker.exists() and marker.read_text().strip() != fingerprint:
        raise ConfigError(
            f"--resume: `{output}` belongs to a run with another policy, word list, model, data or settings",
            help="resume with the same command, or name another --output",
        )
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(marker, fingerprint + "\n")
    except OSError as error:
        raise ConfigError(
            f"--output: cannot write to `{output}`: {error.strerror}", help="name another folder"
        ) from error


def _fingerprint(policy: CompiledPolicy, settings: RunSettings, config: ConstraintConfig) -> str:
    """What must be equal for a resumed run to be the same run."""
    standard = defaults(ConstraintConfig)
    content = {
        "policy": policy.semantic_hash,
        "model": settings.model,
        "data": list(settings.data),
        "prompts": list(settings.prompts),
        "scorer": list(settings.scorer),
        "settings": {key: value for key, value in own_settings(config).items() if key not in HARMLESS},
        "changed": {
            key: value
            for key, value in settings.config.items()
            if key not in HARMLESS and value != standard[key]
        },
        "files": {
            spec: hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for spec in (*settings.data, *settings.prompts, *settings.scorer)
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
    write_atomic(own / RECORD, json.dumps(record, indent=1))
