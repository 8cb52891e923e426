"""``constraintc check``: every finding of every file in one run."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_error, print_json, print_message
from constraintc.sources import add_allow_path, read_argument
from constraintlang.diagnostics import Diagnostic, PolicyError, sort_diagnostics
from constraintlang.source import SourceFile
from constraintlang_compiler.errors import SourceError
from constraintlang_compiler.fixing import findings_of
from constraintlang_compiler.front import check_and_lower

HELP = """Report every mistake in policy files, all at once.

Nothing is run and nothing is loaded: no model, no plug-in, no network. With --sat the policy is also read as a whole:
statements that cannot all hold, that ask nothing, that follow from others, that need more prompts than --num_prompts,
and else a law of responses on which all hold. What is found is proved; what is not decided is said."""

EPILOG = """examples:
  constraintc check my.policy
  constraintc check policies/*.policy --deny warnings
  constraintc check --format json - < my.policy
  constraintc check --sat --num_prompts 500 my.policy

exit codes: 0 no errors; 1 warnings under --deny warnings; 2 a file cannot be read; 3 errors in a policy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="policy files; - reads standard input")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="json prints one array of findings"
    )
    parser.add_argument("--style", action="store_true", help="look for findings of style, too (codes PC9)")
    parser.add_argument(
        "--sat", action="store_true", help="also look for contradictions, redundancy and what cannot be shown"
    )
    parser.add_argument(
        "--num_prompts",
        type=int,
        metavar="N",
        help="with --sat: prompts of each domain that will be verified",
    )
    parser.add_argument("--deny", choices=("warnings",), help="exit with 1 when there are warnings")
    add_allow_path(parser)


def run(args: argparse.Namespace) -> int:
    """Check each file; a file that cannot be read does not keep the others from being checked."""
    if args.num_prompts is not None and (args.num_prompts < 1 or not args.sat):
        print_error("`--num_prompts` takes a number of at least 1, with `--sat`", "add --sat")
        return ExitCode.USAGE
    counts: Counter[str] = Counter()
    fixes: Counter[str] = Counter()
    unreadable = 0
    findings: list[dict[str, Any]] = []
    for name in args.files:
        try:
            source = read_argument(name)
            found = _findings(source, args)
        except PolicyError as error:  # no UTF-8, or too large
            source, found = error.source, error.diagnostics
        except SourceError as error:
            print_error(error.message, error.help)
            unreadable += 1
            continue
        counts.update(diagnostic.severity for diagnostic in found)
        fixes.update(diagnostic.fix.applicability for diagnostic in found if diagnostic.fix)
        if args.format == "json":
            findings.extend(diagnostic.to_json(source) for diagnostic in found)
        else:
            print_diagnostics(found, source, sys.stdout)
    if args.format == "json":
        print_json(findings)
    else:
        checked = len(args.files) - unreadable
        print_message(f"{_count(checked, 'file')} checked: {_summary(counts)}")
        if fixes["safe"] or fixes["unsafe"]:
            print_message(_fixable(fixes["safe"], fixes["unsafe"]))
    if unreadable:
        return ExitCode.USAGE
    if counts["error"]:
        return ExitCode.REJECTED
    return ExitCode.FINDINGS if args.deny == "warnings" and counts["warning"] else ExitCode.OK


def _findings(source: SourceFile, args: argparse.Namespace) -> tuple[Diagnostic, ...]:
    front = check_and_lower(source, allow_path=args.allow_path)
    found = findings_of(source, front, style=args.style)
    if not args.sat:
        return found
    from constraintlang_compiler.analysis.sat import analyse

    return tuple(sort_diagnostics([*found, *analyse(front, num_prompts=args.num_prompts)]))


def _summary(counts: Counter[str]) -> str:
    return ", ".join(_count(counts[severity], severity) for severity in ("error", "warning", "note"))


def _fixable(safe: int, unsafe: int) -> str:
    if not safe:
        return f"`constraintc fix --unsafe` can repair {unsafe} of them"
    return f"`constraintc fix` can repair {safe} of them" + (
        f", with --unsafe {safe + unsafe}" if unsafe else ""
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
