"""What a row was asked for, as hashes: a result that was made under other options is never taken for the present one's."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from job import Job, config_of, write_whole

FILE = "asked.json"
TRAINED_BY = (
    "classifier", "bound", "steps", "batch_size", "learning_rate", "max_length", "max_new_tokens", "oracle_calls", "bf16",
)  # fmt: skip
ON_CHOSEN_ROWS = (
    "filtering_own:train",
    "corpus_projection:train",
)  # the row `plain` on rows that they choose


def training_stamp(job: Job, system: str | None = None) -> str:
    """The hash of what decides a row's training: function, options, settings, scale, files, the record of a start model that
    was made on the spot, and the same of the rows it starts from. Code, and defaults that no setting names, are not in it.
    """
    config = config_of(system or job.system)
    scale = asdict(job.scale)
    return _digest(
        {
            "train": config["train"],
            "options": config.get("options") or {},
            "settings": _settings(job, config),
            "start": [Path(job.start).name, _start_model(job)],
            "scale": {name: scale[name] for name in TRAINED_BY}
            | {"classifier": Path(scale["classifier"]).name},
            "files": [_file(path) for path in (job.rows, job.prompts, job.policy)],
            "after": [training_stamp(job, name) for name in config.get("after") or ()],
        }
    )


def _settings(job: Job, config: dict[str, Any]) -> dict[str, Any]:
    """What our command is told, but for paths, to train a row; nothing of a row that it does not train."""
    from ours import settings_of

    own = replace(job, options=config.get("options") or {})
    if config["train"] == "jigsaw:train":
        from jigsaw import as_ours

        own = as_ours(own)
    elif config["train"] in ON_CHOSEN_ROWS:
        own = replace(job, options=config_of("plain")["options"])
    elif config["train"] != "ours:train":
        return {}
    return settings_of(own, own.folder).config


def _start_model(job: Job) -> dict[str, Any] | None:
    """The record of the start model, which holds its settings; None for one that was not made on the spot."""
    from pretrain import RECORD

    path = Path(job.start) / RECORD
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    return {name: value for name, value in record.items() if name != "seconds"}


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


def left_to_measure(record: Mapping[str, Any], later: Collection[str]) -> list[str]:
    """The protocols that the run of a finished row left for later, without those of ``later``."""
    return sorted(set(record.get("later", ())) - set(later))


@functools.lru_cache(maxsize=64)
def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
