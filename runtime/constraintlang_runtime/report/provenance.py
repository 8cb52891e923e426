"""Where numbers come from: hashes, versions, seeds, and the commands that make them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from constraintlang_runtime.run_settings import LISTS, RunSettings

DASHED = {"allow_path": "allow-path"}  # flags that are not written as their setting
SWITCHES = frozenset({"allow_path", "chat", "sequential"})  # absent when they are off


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
    for key, value in settings.items():
        flag = f"--{DASHED.get(key, key)}"
        if value is True:
            words.append(flag)
        elif value is False and key not in SWITCHES:
            words += [flag, "false"]
        elif isinstance(value, list | tuple):
            words += [word for entry in value for word in (flag, str(entry))]
        elif value is not None and value is not False and value != "":
            words += [flag, str(value)]
    return shlex.join(words)
