"""``--locked``: a command goes on only when all that the policy trusts is pinned and as it was locked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from constraintc.sources import policy_folder
from constraintlang_compiler.errors import LockError

if TYPE_CHECKING:
    from constraintlang.source import SourceFile
    from constraintlang_compiler.lock.lock_file import Lock
    from constraintlang_compiler.lock.pins import Place


def add_locked_argument(parser: argparse.ArgumentParser) -> None:
    """The flag ``--locked``."""
    parser.add_argument(
        "--locked",
        action="store_true",
        default=None,
        help="refuse when a scorer, file or model is not pinned, or not as `constraintc lock` found it",
    )


def place_of(name: str, scorers: Sequence[str], *, allow_path: bool) -> Place:
    """Where the files of a policy argument are, and which scorers the command line binds.

    Raises: ConfigError for a scorer option of another form.
    """
    from constraintlang_compiler.lock.pins import Place
    from constraintlang_runtime.scorers.binding import parse_scorer_options

    return Place(policy_folder(name), parse_scorer_options(scorers), allow_path)


def require_locked(name: str, source: SourceFile, scorers: Sequence[str] | None, *, allow_path: bool) -> Lock:
    """The lock of a policy argument, when everything is as it says; without ``scorers``, those of the lock.

    Raises: LockError (no lock), PolicyError (PC601, PC604), ConfigError (a scorer option of another form).
    """
    if name == "-":
        raise LockError("standard input has no lock", help="name a policy file, or leave out --locked")
    from constraintlang_compiler.lock.drift import require_unmoved
    from constraintlang_compiler.lock.lock_file import lock_path, locked_scorers, read_lock
    from constraintlang_compiler.lock.pins import parts_of

    lock = read_lock(lock_path(Path(name)))
    options = locked_scorers(lock) if scorers is None else scorers
    require_unmoved(parts_of(source, place_of(name, options, allow_path=allow_path)), lock, source)
    return lock
