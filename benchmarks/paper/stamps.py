"""What a row was asked for, as hashes: a result that was made under other options is never taken for the present one's."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from job import Job, config_of, write_whole

FILE = "asked.json"
TRAINED_BY = (
    "classifier", "bound", "steps", "batch_size", "learning_rate", "max_length", "max_new_tokens", "oracle_calls", "bf16",
)  # fmt: skip


def training_stamp(job: Job, system: str | None = None) -> str:
    """The hash of what decides a row's training: function, options, scale, files, and the same of the rows it starts from."""
    config = config_of(system or job.system)
    scale = asdict(job.scale)
    return _digest(
        {
            "train": config["train"],
            "options": config.get("options") or {},
            "scale": {name: scale[name] for name in TRAINED_BY}
            | {"classifier": Path(scale["classifier"]).name},
            "files": [_file(path) for path in (job.rows, job.prompts, job.policy)],
            "after": [training_stamp(job, name) for name in config.get("after") or ()],
        }
    )


def row_stamp(job: Job) -> str:
    """The hash of what decides a row's measures: its training, and the protocols' sizes."""
    scale = asdict(job.scale)
    config = config_of(job.system)
    own = {
        name: value
        for name, value in scale.items()
        if name not in ("models", "classifier", "seeds", "device")
    }
    return _digest([training_stamp(job), own, config.get("measure"), config.get("protocols")])


def set_aside(job: Job) -> Path | None:
    """Move a row's folder away when it holds a training of other options; nothing is lost. Returns where it went."""
    path = job.folder / FILE
    if not job.folder.exists() or not path.exists():
        return None
    if json.loads(path.read_text())["training"] == training_stamp(job):
        return None
    number = 1
    while (aside := job.folder.with_name(f"other-{number}.{job.folder.name}")).exists():
        number += 1
    job.folder.rename(aside)
    return aside


def stamp(job: Job) -> None:
    """Say in the row's folder what is asked of it now."""
    job.folder.mkdir(parents=True, exist_ok=True)
    write_whole(job.folder / FILE, json.dumps({"training": training_stamp(job)}) + "\n")


def read_record(job: Job) -> dict[str, Any] | None:
    """What a finished row took; None for one that is not finished, or was asked for something else."""
    path = job.folder / "row.json"
    record = json.loads(path.read_text()) if path.exists() else None
    return record if record is not None and record["stamp"] == row_stamp(job) else None


@functools.lru_cache(maxsize=64)
def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
