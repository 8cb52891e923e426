"""Where numbers come from: hashes, versions, seeds, and the commands that make them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

DASHED = {"allow_path": "allow-path"}  # flags that are not written as their setting


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


def command_line(verb: str, policy: str, settings: Mapping[str, Any]) -> str:
    """A command with settings as flags; what is empty, absent or false is left out.

    >>> command_line("eval", "my.policy", {"model": "gpt2", "prompts": ["a b.jsonl"], "seed": 0, "chat": False})
    "constraintc eval my.policy --model gpt2 --prompts 'a b.jsonl' --seed 0"
    """
    words = ["constraintc", verb, policy]
    for key, value in settings.items():
        flag = f"--{DASHED.get(key, key)}"
        if value is True:
            words.append(flag)
        elif isinstance(value, list | tuple):
            words += [word for entry in value for word in (flag, str(entry))]
        elif value is not None and value is not False and value != "":
            words += [flag, str(value)]
    return shlex.join(words)
