"""The lock of a policy on disk: one line of JSON for each trusted part, sorted, made to be read in a diff."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from constraintlang_compiler.artifact import write_whole
from constraintlang_compiler.errors import LockError
from constraintlang_compiler.ir import Record
from constraintlang_compiler.lock.pins import SCORER_OPTION, Part

FORMAT: Literal["constraintc.lock"] = "constraintc.lock"
VERSION = "1.0"
ARTIFACT_NAME = "lock.json"
MAX_BYTES = 16 * 1024 * 1024


class Pin(Record, frozen=True, kw_only=True):
    """One part: what the policy names, and what pins it; ``pin`` is None where nothing does."""

    kind: str
    source: str
    pin: str | None


class Lock(Record, frozen=True, kw_only=True):
    """The content of a lock; ``parts`` by name. It says nothing of thresholds: those are in the policy."""

    format: Literal["constraintc.lock"]
    version: str
    parts: dict[str, Pin]


def lock_of(parts: Sequence[Part]) -> Lock:
    """The lock of the parts as they are."""
    pins = {part.name: Pin(kind=part.kind, source=part.source, pin=part.pin) for part in parts}
    return Lock(format=FORMAT, version=VERSION, parts=dict(sorted(pins.items())))


def locked_scorers(lock: Lock) -> list[str]:
    """The scorers of the command line that the lock was written with, as ``NAME=PATH#LABEL``."""
    return [
        f"{name.removeprefix('attribute ')}={pin.source}"
        for name, pin in lock.parts.items()
        if pin.kind == SCORER_OPTION
    ]


def lock_text(lock: Lock) -> str:
    """The lock as text; equal locks have equal texts."""
    return json.dumps(msgspec.to_builtins(lock), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_lock(lock: Lock, path: Path) -> None:
    """Write a lock, whole or not at all.

    Raises: LockError when it cannot be written.
    """
    try:
        write_whole(path, lock_text(lock).encode())
    except OSError as error:
        raise LockError(
            f"cannot write the lock `{path}`: {error.strerror or error}",
            help="choose a folder that you may write to",
        ) from error


def lock_path(policy: Path) -> Path:
    """Where the lock of a policy file, or of a compiled directory, is."""
    return policy / ARTIFACT_NAME if os.path.isdir(policy) else policy.with_name(policy.name + ".lock")


def read_lock(path: Path) -> Lock:
    """The lock in a file.

    Raises: LockError when it is missing, is no lock, or of a newer format.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LockError(f"`{path}` is larger than {MAX_BYTES} bytes, expected a lock")
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise LockError(f"no lock `{path}`", help="write one with `constraintc lock POLICY`") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LockError(f"cannot read the lock `{path}`: {error}", help="write it again") from error
    version = document.get("version") if isinstance(document, dict) else None
    if not isinstance(version, str) or version.split(".")[0] != VERSION.split(".")[0]:
        raise LockError(
            f"`{path}` has format version {version!r}, this constraintc reads {VERSION!r}",
            help="install the version of constraintlang that wrote it, or write it again",
        )
    try:
        return msgspec.convert(document, Lock)
    except (msgspec.ValidationError, RecursionError) as error:
        raise LockError(f"`{path}` is no lock of this version: {error}", help="write it again") from error
