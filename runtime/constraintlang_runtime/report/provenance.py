"""Where numbers come from: hashes, versions, seeds, and the commands that make them again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from constraintlang_runtime.run_settings import LISTS, RunSettings

DASHED = {  # flags that are not written as their setting
    "allow_path": "allow-path", "allow_code": "allow-code", "allow_plugins": "allow-plugins",
}  # fmt: skip
SWITCHES = frozenset(
    {"allow_path", "allow_code", "allow_plugins", "chat", "sequential"}
)  # absent when they are off
JOINED = frozenset({"tasks"})  # one flag with all names, where others are repeated


def run_provenance(record: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.json`` says of a training run."""
    found = {
        "policy": record["semantic_hash"],
        "start model": record["model"],
        "steps": record["steps"],
        "training rows": record["rows"],
        "training seconds": record["seconds"],
        "training command": record.get("command"),
        "settings": record["settings"],
        "versions": record["versions"],
    }
    return {key: value for key, value in found.items() if value is not None}


def evaluation_provenance(verdict: Mapping[str, Any], policy: str = "POLICY") -> dict[str, Any]:
    """What ``verdict.json`` says of how it was made."""
    sampling = verdict.get("sampling") or {}
    settings = verdict.get("settings")
    found: dict[str, Any] = {
        "policy": verdict.get("policy"),
        "command": None if settings is None else command_line("eval", policy, settings),
        "sampling": ", ".join(f"{key} {value}" for key, value in sampling.items()) or None,
        "seconds": verdict.get("seconds"),
        "versions": ", ".join(f"{key} {value}" for key, value in (verdict.get("versions") or {}).items())
        or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def run_fingerprint(model: str) -> str | None:
    """The fingerprint of the run that wrote a model; None for a model that `constraintc train` did not write."""
    try:
        found = json.loads((Path(model) / "constraint" / "run.json").read_text(encoding="utf-8"))[
            "fingerprint"
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


def train_command(policy: str, settings: RunSettings) -> str:
    """The command that makes a run again, from its start."""
    given = {key: getattr(settings, key) for key in ("model", *LISTS, "allow_path")}
    return command_line("train", policy, {**given, **settings.config, "output": settings.output})


def command_line(verb: str, policy: str, settings: Mapping[str, Any]) -> str:
    """A command with settings as flags; what is empty or absent is left out, and so is a switch that is off.

    >>> command_line("eval", "my.policy", {"model": "gpt2", "prompts": ["a b.jsonl"], "seed": 0, "chat": False})
    "constraintc eval my.policy --model gpt2 --prompts 'a b.jsonl' --seed 0"
    """
    words = ["constraintc", verb, policy]
    for key, value in _flat(settings):
        flag = f"--{DASHED.get(key, key)}"
        if value is True:
            words.append(flag)
        elif value is False and key not in SWITCHES:
            words += [flag, "false"]
        elif isinstance(value, list | tuple) and key in JOINED:
            words += [flag, ",".join(map(str, value))] if value else []
        elif isinstance(value, list | tuple):
            words += [word for entry in value for word in (flag, str(entry))]
        elif value is not None and value is not False and value != "":
            words += [flag, str(value)]
    return shlex.join(words)


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings that have settings of their own as flags ``NAME_PART``."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}_{name}", part) for name, part in value.items())
        else:
            yield key, value
