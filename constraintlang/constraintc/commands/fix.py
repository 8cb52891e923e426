"""``constraintc fix``: repair what `constraintc check` finds, where the repair is clear."""

from __future__ import annotations

import argparse
import sys
from typing import Any, TextIO

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_error, print_json, print_message, visible_text
from constraintc.rewriting import difference, print_difference, rewrite
from constraintc.sources import add_allow_path, read_argument
from constraintlang.diagnostics import PolicyError
from constraintlang_compiler.errors import SourceError
from constraintlang_compiler.fixing import Fixed, fix_source

HELP = """Repair what `constraintc check` finds, where the repair is clear, and write the files.

A safe fix keeps what the policy means; of a broken policy there was only one reading. An unsafe fix is a guess, such as
the name that is most similar, and is made with --unsafe only. `check` marks each of its findings [safe], [unsafe] or
[placeholder]; in a placeholder you have to fill something in yourself. Comments are kept. What is left is shown."""

EPILOG = """examples:
  constraintc fix my.policy
  constraintc fix --unsafe --diff my.policy      show the guesses, write nothing
  constraintc fix --select PC0 policies/*.policy
  constraintc fix - < my.policy

exit codes: 0 no errors are left; 2 a file cannot be read or written; 3 errors are left"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="policy files; - repairs standard input to standard output"
    )
    parser.add_argument("--unsafe", action="store_true", help="make the fixes that are guesses, too")
    parser.add_argument(
        "--select",
        metavar="CODE",
        action="append",
        default=[],
        help="keep to codes that begin so; may be repeated",
    )
    parser.add_argument("--style", action="store_true", help="repair style, too (codes PC9)")
    add_allow_path(parser)
    parser.add_argument("--dry-run", action="store_true", help="write nothing; list what would be done")
    parser.add_argument("--diff", action="store_true", help="write nothing; print what would change")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="json prints one record for each file"
    )


def run(args: argparse.Namespace) -> int:
    """Repair each file; one that cannot be read does not keep the others from it."""
    records: list[dict[str, Any]] = []
    num_fixed = num_left = unreadable = 0
    for name in args.files:
        try:
            source = read_argument(name)
            fixed = fix_source(
                source, unsafe=args.unsafe, select=args.select, style=args.style, allow_path=args.allow_path
            )
            writes = fixed.made and name != "-" and not args.dry_run and not args.diff
            if writes:
                rewrite(name, fixed.source.text)
        except SourceError as error:
            print_error(error.message, error.help)
            unreadable += 1
            continue
        except PolicyError as error:  # no UTF-8, or too large: there is no text to repair
            num_left += len(error.diagnostics)
            if args.format == "json":
                left = [d.to_json(error.source) for d in error.diagnostics]
                records.append({"file": name, "fixed": [], "left": left, "text": None})
            else:
                print_diagnostics(error.diagnostics, error.source, sys.stderr)
            continue
        num_fixed += len(fixed.made)
        num_left += sum(d.is_error for d in fixed.diagnostics)
        if args.format == "json":
            records.append(_record(fixed))
        elif args.diff:
            print_difference(difference(source.name, source.text, fixed.source.text))
        else:
            _show(fixed, sys.stderr if name == "-" else sys.stdout)
            if name == "-" and not args.dry_run:
                print(fixed.source.text, end="")
    if args.format == "json":
        print_json(records)
    verb = "would be made" if args.dry_run or args.diff else "made"
    print_message(f"{_count(num_fixed, 'fix', 'fixes')} {verb}, {_count(num_left, 'error', 'errors')} left")
    if unreadable:
        return ExitCode.USAGE
    return ExitCode.REJECTED if num_left else ExitCode.OK


def _show(fixed: Fixed, stream: TextIO) -> None:
    for made in fixed.made:
        finding = made.finding
        kind = finding.fix.applicability if finding.fix else ""
        place = f"{fixed.source.name}:{made.line}:{made.column}"
        text = f"{place}: {finding.code} {finding.message}: {finding.help}  [{kind}]"
        print(visible_text(text), file=stream)
    if fixed.made:
        print(file=stream)
    print_diagnostics([d for d in fixed.diagnostics if d.severity != "note"], fixed.source, stream)


def _record(fixed: Fixed) -> dict[str, Any]:
    made = [
        {
            "code": m.finding.code,
            "message": m.finding.message,
            "help": m.finding.help,
            "applicability": m.finding.fix.applicability if m.finding.fix else None,
            "line": m.line,
            "column": m.column,
        }
        for m in fixed.made
    ]
    left = [d.to_json(fixed.source) for d in fixed.diagnostics]
    return {"file": fixed.source.name, "fixed": made, "left": left, "text": fixed.source.text}


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
