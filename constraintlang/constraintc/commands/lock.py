"""``constraintc lock``: write down what a policy trusts outside its text, so that it cannot move unnoticed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from constraintc.exit_codes import ExitCode
from constraintc.locks import place_of
from constraintc.output import print_diagnostics, print_error, print_message, print_table
from constraintc.sources import add_allow_path, add_scorer, compile_argument
from constraintlang_compiler.lock.pins import BUILT_IN, Part, parts_of

MAX_SOURCE = 60  # columns; the lock and --format json have a pattern in full

HELP = """Write POLICY.lock: the content hashes of the word lists, data files and model folders that a policy names, the
commits of its hub models, and distribution, version and source of its plug-ins. With --locked, `compile`, `train`,
`eval` and `score` refuse to run when one of them has changed, or is not pinned at all.

Nothing is run and nothing is downloaded. The lock goes into version control, beside the policy."""

EPILOG = """examples:
  constraintc lock my.policy
  constraintc lock my.policy --scorer toxicity=models/tox#toxic
  constraintc lock my.policy --check                      with the scorers that the lock was written with

exit codes: 0 written, or as locked with --check; 2 usage or file; 3 errors in the policy, or moved with --check"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("policy", metavar="POLICY", help="a policy file or a compiled directory")
    add_scorer(parser, "a scorer that train and eval will be given")
    add_allow_path(parser)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; say what is not as the lock says"
    )
    parser.add_argument("--format", choices=("human", "json"), default="human", help="how to print the lock")


def run(args: argparse.Namespace) -> int:
    """Pin every part, write the lock, print it."""
    if args.policy == "-":
        print_error("a lock stands beside a policy file", "name a policy file")
        return ExitCode.USAGE
    policy, _ = compile_argument(args.policy, allow_path=args.allow_path)
    from constraintlang_compiler.lock.drift import require_unmoved, unpinned
    from constraintlang_compiler.lock.lock_file import (
        Pin,
        lock_of,
        lock_path,
        lock_text,
        locked_scorers,
        read_lock,
        write_lock,
    )

    path = lock_path(Path(args.policy))
    lock = read_lock(path) if args.check else None
    scorers = args.scorer if args.scorer or lock is None else locked_scorers(lock)
    parts = parts_of(policy.source, place_of(args.policy, scorers, allow_path=args.allow_path))
    if lock is not None:
        # What was written as not pinned, with this warning, has not moved by being so still.
        known = [
            part
            for part in parts
            if part.pin is None
            and lock.parts.get(part.name) == Pin(kind=part.kind, source=part.source, pin=None)
        ]
        print_diagnostics(unpinned(known, "warning"), policy.source, sys.stderr)
        require_unmoved([part for part in parts if part not in known], lock, policy.source)
    else:
        print_diagnostics(unpinned(parts, "warning"), policy.source, sys.stderr)
        write_lock(lock_of(parts), path)
        print_message(f"wrote {path}")
    if args.format == "json":
        sys.stdout.write(lock_text(lock_of(parts)))
    else:
        print_table(
            ("part", "kind", "source", "pin"),
            ((part.name, part.kind, _shown(part), _short(part.pin)) for part in parts),
        )
    return ExitCode.OK


def _shown(part: Part) -> str:
    """What is pinned, in full where it is a place; a long pattern or another argument of a backend is cut."""
    is_long = part.pin == BUILT_IN and len(part.source) > MAX_SOURCE
    return f"{part.source[: MAX_SOURCE - 3]}..." if is_long else part.source


def _short(pin: str | None) -> str:
    head, mark, digest = (pin or "not pinned").partition("sha256:")
    return head + mark + digest[:12]
