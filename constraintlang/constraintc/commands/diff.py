"""``constraintc diff``: what became stricter or looser between two policies."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from typing import TYPE_CHECKING

from constraintc.exit_codes import ExitCode
from constraintc.output import print_json, visible_text
from constraintc.sources import add_allow_path, read_argument

if TYPE_CHECKING:
    from constraintlang.source import SourceFile
    from constraintlang_compiler.analysis.compare import Change

HELP = """Compare what two policies demand, statement by statement, and show a law of responses on which they differ.

Each statement is equal, stricter, looser, incomparable (both), added or removed. A looser statement comes with a
witness: responses with weights that the new policy accepts and the old one rejects. A change of spelling is no change.
What cannot be compared is `not decided`, and counts like looser. Last comes the difference of the canonical texts."""

EPILOG = """examples:
  constraintc diff old.policy new.policy
  constraintc diff main.policy my.policy --format json
  constraintc diff old.policy new.policy --allow-looser

exit codes: 0 no requirement became looser; 1 one did, was removed, or cannot be compared; 2 usage or file;
3 errors in a policy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("old", metavar="OLD", help="the policy as it was: a file or a compiled directory")
    parser.add_argument("new", metavar="NEW", help="the policy as it is, or - for stdin")
    parser.add_argument(
        "--allow-looser", action="store_true", help="exit with 0 even when a requirement became looser"
    )
    add_allow_path(parser)
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the comparison"
    )


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    sources = _source(args.old), _source(args.new)
    from constraintlang_compiler.analysis.compare import compare
    from constraintlang_compiler.analysis.text_diff import canonical_diff, checked_policy

    old, new = (checked_policy(source, allow_path=args.allow_path) for source in sources)
    changes = compare(old, new)
    text = canonical_diff(*sources, allow_path=args.allow_path)
    opens = [change for change in changes if change.opens]
    if args.format == "json":
        print_json(
            {
                "statements": [change.to_json() for change in changes],
                "opens": bool(opens),
                "canonical_diff": text,
            }
        )
    else:
        for change in changes:
            if change.status != "equal":
                _print(change)
        equal = [change.name for change in changes if change.status == "equal"]
        if equal:
            print(visible_text(f"equal: {', '.join(equal)}"))
        if text:
            print(visible_text(f"\n{text}\n"))
        counts = Counter(change.status for change in changes)
        print(
            ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
            or "nothing to compare"
        )
        if opens:
            names = ", ".join(change.name for change in opens)
            print(visible_text(f"may let through what the old policy forbids: {names}"))
    return ExitCode.FINDINGS if opens and not args.allow_looser else ExitCode.OK


def _source(name: str) -> SourceFile:
    if name != "-" and os.path.isdir(name):
        from constraintlang_compiler.pipeline import load_compiled

        return load_compiled(name).source
    return read_argument(name)


def _print(change: Change) -> None:
    print(visible_text(f"{change.status}  {change.name}  [{change.domain}]"))
    for word, statement in (("old", change.old), ("new", change.new)):
        if statement is not None:
            print(visible_text(f"  {word}: {statement.text}"))
    for reason in change.reasons:
        print(visible_text(f"  {reason}"))
    if change.witness is not None:
        from constraintlang_compiler.analysis.witness import table

        print(visible_text(f"  {change.witness.heading()}:"))
        for line in table(change.witness.sample):
            print(visible_text(f"    {line}"))
    if change.counted is not None:
        few, many = change.counted.num_prompts, change.counted.num_prompts_before
        scores = ", ".join(f"{name} {value}" for name, value in sorted(change.counted.scores.items()))
        print(visible_text(f"  {few:,} prompts whose responses all have {scores}:"))
        print(f"    the new one says `holds`, the old one needs {many:,}")
    print()
