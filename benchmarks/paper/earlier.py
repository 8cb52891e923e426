"""Rows of a result file that a run of other rows leaves standing, and their samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from table import read_samples

MADE = ("command", "versions", "device", "jobs")  # what is said of a whole file, and so of each of its rows


def rows_left(path: Path, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries of the file at ``path`` that ``result`` has none of, each with the run that ``made`` it.

    None where the file was made of other training rows or prompts: such figures do not stand side by side.
    """
    if not path.exists():
        return []
    stored = json.loads(path.read_text())
    if stored["files"] != result["files"]:
        return []
    new = {key_of(entry) for entry in result["rows"]}
    made = {name: stored[name] for name in MADE if name in stored}
    return [{"made": made, **entry} for entry in stored["rows"] if key_of(entry) not in new]


def in_order(
    entries: Sequence[dict[str, Any]], architectures: Sequence[str], systems: Sequence[str]
) -> list[dict[str, Any]]:
    """By architecture and system, those that are not named last."""

    def place(names: Sequence[str], name: str) -> int:
        return names.index(name) if name in names else len(names)

    return sorted(
        entries, key=lambda e: (place(architectures, e["architecture"]), place(systems, e["system"]))
    )


def samples_left(path: Path, entries: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The samples of the file at ``path`` that are of some entries."""
    kept = {key_of(entry) for entry in entries}
    if kept and path.exists():
        yield from (sample for sample in read_samples(path) if key_of(sample) in kept)


def key_of(entry: dict[str, Any]) -> tuple[str, str]:
    """The system and architecture of an entry or a sample."""
    return entry["system"], entry["architecture"]
