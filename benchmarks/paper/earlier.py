"""Rows of a result file that a run of other rows, or of fewer seeds, leaves standing, and their samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from table import read_samples

# what is said of a whole file, and so of each of its rows
MADE = ("command", "commit", "versions", "device", "jobs")
OF_A_RUN = ("models", "seeds", "device")  # of a scale: rows of other ones may stand in one file


def rows_left(path: Path, result: dict[str, Any], *, replaces: bool = False) -> list[dict[str, Any]]:
    """Entries of the file at ``path`` that stay, each with the run that ``made`` it.

    These are those that ``result`` has none of, and, unless it ``replaces`` them, those of more seeds than it has. None
    where the file was made of other training rows or prompts, or at other sizes of the scale: such figures do not stand
    side by side.
    """
    stored = _stored(path, result)
    if stored is None:
        return []
    new = {key_of(entry): len(entry["seeds"]) for entry in result["rows"]}
    made = {name: stored[name] for name in MADE if name in stored}
    return [
        {"made": made, **entry}
        for entry in stored["rows"]
        if key_of(entry) not in new or (not replaces and len(entry["seeds"]) > new[key_of(entry)])
    ]


def start_models_left(path: Path, result: dict[str, Any], left: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The start models of the file at ``path`` of architectures that stand in ``left`` alone."""
    stored = _stored(path, result) or {"start_models": {}}
    own = {entry["architecture"] for entry in result["rows"]}
    kept = {entry["architecture"] for entry in left} - own
    return {name: record for name, record in stored["start_models"].items() if name in kept}


def _stored(path: Path, result: dict[str, Any]) -> dict[str, Any] | None:
    """The file at ``path``, where its figures may stand beside those of ``result``."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found if found["files"] == result["files"] and _sizes(found) == _sizes(result) else None


def _sizes(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result["scale"].items() if name not in OF_A_RUN}


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
