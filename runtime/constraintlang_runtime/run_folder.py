"""The output folder of a training run: it belongs to one run, and is cleared only when told to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constraintlang_runtime.card import NAME as CARD
from constraintlang_runtime.card import user_text
from constraintlang_runtime.checkpoint import write_atomic
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.fingerprint import differences, fingerprint_of
from constraintlang_runtime.model_names import split_revision
from constraintlang_runtime.run_settings import RunSettings


def check_output(output: Path, settings: RunSettings) -> None:
    """Raise ConfigError for a folder that this run may not write to."""
    for path in (output, *output.parents):
        if path.exists() and not path.is_dir():
            raise ConfigError(f"`{path}` is a file", help="name a folder", parameter="output")
    occupied = output.is_dir() and any(not path.is_dir() for path in output.rglob("*"))
    if occupied and not (settings.resume or settings.overwrite):
        raise ConfigError(
            f"`{output}` is not empty",
            help="add --resume to go on with the run in it, --overwrite to start over, or name another folder",
            parameter="output",
        )
    if occupied and not _is_run(output):
        raise ConfigError(
            f"`{output}` is not empty and not the output of `constraintc train`",
            help="name another folder",
            parameter="output",
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
                    f"the {what} `{name}` lies in `{output}`, which would be cleared",
                    help="name another --output",
                    parameter="overwrite",
                )


def _is_run(output: Path) -> bool:
    """Whether a folder is ours: it has a fingerprint, or a kill left nothing but the folder made for one."""
    return (output / "constraint" / "fingerprint.txt").exists() or [p.name for p in output.iterdir()] == [
        "constraint"
    ]


def claim(output: Path, inputs: Mapping[str, Any], settings: RunSettings, commit: str | None = None) -> None:
    """A folder belongs to one run: refuse to resume another, clear it only when told to.

    ``commit`` is that of a start model of the hub, which a resumed run must have, too.
    """
    fingerprint = fingerprint_of(inputs)
    marker = output / "constraint" / "fingerprint.txt"
    record = output / "constraint" / "inputs.json"
    kept = None
    if settings.overwrite and not settings.resume:
        kept = user_text(output)
        shutil.rmtree(output, ignore_errors=True)
    elif marker.exists() and marker.read_text().strip() != fingerprint:
        try:
            there = json.loads(record.read_text(encoding="utf-8"))
            there.pop("commit", None)
            differ = differences(there, inputs)
        except (OSError, ValueError):
            differ = []
        what = f": {'; '.join(differ[:5])}" if differ else ""
        raise ConfigError(
            f"`{output}` belongs to a run with another policy, word list, model, data or settings{what}",
            help="resume with the same command, or name another --output",
            parameter="resume",
        )
    elif marker.exists() and (before := _commit_in(record)) and commit is not None and before != commit:
        raise ConfigError(
            f"the run in `{output}` was started from commit {before} of `{settings.model}`, which is at {commit} now",
            help=f"resume it with --model {split_revision(settings.model)[0]}@{before}",
            parameter="model",
        )
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(record, json.dumps({**inputs, "commit": commit}, indent=1) + "\n")
        write_atomic(marker, fingerprint + "\n")
        if kept is not None:
            (output / CARD).write_bytes(kept)
    except OSError as error:
        raise ConfigError(
            f"cannot write to `{output}`: {error.strerror}", help="name another folder", parameter="output"
        ) from error


def _commit_in(record: Path) -> str | None:
    try:
        found = json.loads(record.read_text(encoding="utf-8")).get("commit")
    except (OSError, ValueError, AttributeError):
        return None
    return None if found is None else str(found)
