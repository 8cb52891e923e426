"""``constraintc check``: every finding of every file in one run."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_error, print_json, print_message
from constraintc.selection import Selection, add_selection_arguments, selection_of
from constraintc.sources import add_allow_path, read_argument
from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.source import SourceFile
from constraintlang_compiler.allows import Allowed
from constraintlang_compiler.errors import SourceError
from constraintlang_compiler.fixing import with_style
from constraintlang_compiler.front import Front, check_and_lower

HELP = """Report every mistake in policy files, all at once.

Nothing is run and nothing is loaded: no model, no plug-in, no network. With --sat the policy is also read as a whole:
statements that cannot all hold, that ask nothing, that follow from others, that need more prompts than --num_prompts,
and else a law of responses on which all hold. What is found is proved; what is not decided is said. A comment
`# allow PC405: why` behind a statement, or on the line above it, keeps a warning or a note of that code from being
reported."""

EPILOG = """examples:
  constraintc check my.policy
  constraintc check policies/*.policy --deny warnings --ignore PC404
  constraintc check --format json - < my.policy
  constraintc check --sat --num_prompts 500 my.policy
  constraintc check --format sarif policies/*.policy > policies.sarif
  constraintc check --watch my.policy

exit codes: 0 no errors; 1 findings under --deny; 2 a file cannot be read; 3 errors in a policy"""


@dataclass(frozen=True)
class Checked:
    """What is reported of one file."""

    source: SourceFile
    shown: list[Diagnostic]
    allowed: tuple[Allowed, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="policy files; - reads standard input")
    parser.add_argument(
        "--format",
        choices=("human", "json", "sarif", "github"),
        default="human",
        help="json prints one array of findings, sarif a SARIF 2.1.0 log, github workflow commands",
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
    add_selection_arguments(parser)
    parser.add_argument("--watch", action="store_true", help="check again after every change of a file")
    add_allow_path(parser)


def run(args: argparse.Namespace) -> int:
    """Check the files, once or until interrupted."""
    if args.num_prompts is not None and (args.num_prompts < 1 or not args.sat):
        print_error("`--num_prompts` takes a number of at least 1, with `--sat`", "add --sat")
        return ExitCode.USAGE
    selection = selection_of(args)
    if not args.watch:
        return _check(args, selection)
    if "-" in args.files or args.format != "human":
        print_error(
            "`--watch` takes files, not standard input, and prints for people", "leave one of them out"
        )
        return ExitCode.USAGE
    from constraintc.watch import watch

    watch(args.files, lambda: _check(args, selection))
    return ExitCode.OK


def _check(args: argparse.Namespace, selection: Selection) -> int:
    # A file that cannot be read does not keep the others from being checked.
    checked: list[Checked] = []
    unreadable: list[str] = []
    for name in args.files:
        try:
            source = read_argument(name)
        except PolicyError as error:  # no UTF-8, or too large
            checked.append(Checked(error.source, [d for d in error.diagnostics if selection.shows(d)], ()))
            continue
        except SourceError as error:
            print_error(error.message, error.help)
            unreadable.append(error.message)
            continue
        front = _front(source, args)
        shown = [diagnostic for diagnostic in front.diagnostics if selection.shows(diagnostic)]
        checked.append(Checked(source, shown, front.allowed))
    code = _exit_code(checked, unreadable, selection)
    _print(checked, unreadable, args.format, selection, code)
    if args.format in ("human", "github"):
        print_message(_summary(checked))
        fixable = _fixable(checked)
        if fixable and args.format == "human":
            print_message(fixable)
    return code


def _front(source: SourceFile, args: argparse.Namespace) -> Front:
    front = check_and_lower(source, allow_path=args.allow_path)
    if args.style:
        front = with_style(source, front)
    if args.sat:
        from constraintlang_compiler.analysis.sat import with_analysis

        front = with_analysis(front, num_prompts=args.num_prompts)
    return front


def _exit_code(checked: Sequence[Checked], unreadable: Sequence[str], selection: Selection) -> ExitCode:
    found = [diagnostic for one in checked for diagnostic in one.shown]
    if unreadable:
        return ExitCode.USAGE
    if any(diagnostic.is_error for diagnostic in found):
        return ExitCode.REJECTED
    return ExitCode.FINDINGS if any(map(selection.denies, found)) else ExitCode.OK


def _print(
    checked: Sequence[Checked],
    unreadable: Sequence[str],
    output_format: str,
    selection: Selection,
    code: ExitCode,
) -> None:
    if output_format == "json":
        print_json([diagnostic.to_json(one.source) for one in checked for diagnostic in one.shown])
    elif output_format == "sarif":
        from constraintc.sarif import sarif_log

        print_json(sarif_log([(one.source, one.shown, one.allowed) for one in checked], unreadable, code))
    elif output_format == "github":
        from constraintc.github import workflow_command

        for one in checked:
            for found in one.shown:
                print(workflow_command(found, one.source, denied=selection.denies(found)))
    else:
        for one in checked:
            print_diagnostics(one.shown, one.source, sys.stdout)


def _summary(checked: Sequence[Checked]) -> str:
    counts = Counter(diagnostic.severity for one in checked for diagnostic in one.shown)
    words = ", ".join(_count(counts[severity], severity) for severity in ("error", "warning", "note"))
    num_allowed = sum(len(one.allowed) for one in checked)
    allowed = f"; {_count(num_allowed, 'finding')} allowed by comments" if num_allowed else ""
    return f"{_count(len(checked), 'file')} checked: {words}{allowed}"


def _fixable(checked: Sequence[Checked]) -> str:
    """What `constraintc fix` could do, empty when there is nothing."""
    fixes = Counter(d.fix.applicability for one in checked for d in one.shown if d.fix)
    safe, unsafe = fixes["safe"], fixes["unsafe"]
    if not safe:
        return f"`constraintc fix --unsafe` can repair {unsafe} of them" if unsafe else ""
    return f"`constraintc fix` can repair {safe} of them" + (
        f", with --unsafe {safe + unsafe}" if unsafe else ""
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
