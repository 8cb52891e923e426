"""``constraintc check``: every finding of every file in one run."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_error, print_json, print_message
from constraintc.sources import read_argument
from constraintlang.diagnostics import PolicyError
from constraintlang_compiler.errors import SourceError
from constraintlang_compiler.front import check_and_lower

HELP = """Report every mistake in policy files, all at once.

Nothing is run and nothing is loaded: no model, no plug-in, no network."""

EPILOG = """examples:
  constraintc check my.policy
  constraintc check policies/*.policy --deny warnings
  constraintc check --format json - < my.policy

exit codes: 0 no errors; 1 warnings under --deny warnings; 2 a file cannot be read; 3 errors in a policy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="policy files; - reads standard input")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="json prints one array of findings"
    )
    parser.add_argument("--deny", choices=("warnings",), help="exit with 1 when there are warnings")


def run(args: argparse.Namespace) -> int:
    """Check each file; a file that cannot be read does not keep the others from being checked."""
    counts: Counter[str] = Counter()
    unreadable = 0
    findings: list[dict[str, str | int | None]] = []
    for name in args.files:
        try:
            source = read_argument(name)
            found = check_and_lower(source).diagnostics
        except PolicyError as error:  # no UTF-8, or too large
            source, found = error.source, error.diagnostics
        except SourceError as error:
            print_error(error.message, error.help)
            unreadable += 1
            continue
        counts.update(diagnostic.severity for diagnostic in found)
        if args.format == "json":
            findings.extend(diagnostic.to_json(source) for diagnostic in found)
        else:
            print_diagnostics(found, source, sys.stdout)
    if args.format == "json":
        print_json(findings)
    else:
        checked = len(args.files) - unreadable
        print_message(f"{_count(checked, 'file')} checked: {_summary(counts)}")
    if unreadable:
        return ExitCode.USAGE
    if counts["error"]:
        return ExitCode.REJECTED
    return ExitCode.FINDINGS if args.deny == "warnings" and counts["warning"] else ExitCode.OK


def _summary(counts: Counter[str]) -> str:
    return ", ".join(_count(counts[severity], severity) for severity in ("error", "warning", "note"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
