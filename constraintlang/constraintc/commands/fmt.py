"""``constraintc fmt``: rewrite policy files in their canonical form."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_error, print_json, print_message
from constraintc.rewriting import difference, print_difference, rewrite
from constraintc.sources import read_argument
from constraintlang.diagnostics import PolicyError
from constraintlang.formatting import format_lines, format_source
from constraintlang_compiler.errors import SourceError

HELP = """Rewrite policy files in their one canonical form: spaces, brackets, line breaks.

What a policy means stays, and so does every comment, in order. Before anything is written, the new text is read
back and compared with the old one. A file with syntax errors is reported and left alone; the others are written."""

EPILOG = """examples:
  constraintc fmt my.policy
  constraintc fmt --check policies/*.policy      in CI: exit code 1 when a file is not formatted
  constraintc fmt --diff my.policy
  constraintc fmt - < my.policy

exit codes: 0 done; 1 a file would change, under --check; 2 a file cannot be read or written; 3 syntax errors"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="policy files; - formats standard input to standard output"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 when a file would change"
    )
    parser.add_argument("--diff", action="store_true", help="write nothing; print what would change")
    parser.add_argument(
        "--lines", metavar="FIRST:LAST", type=_lines, help="format only the items on these lines"
    )
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="json prints one record for each file"
    )


def _lines(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected two line numbers such as 3:7")
    return int(first), int(last)


def run(args: argparse.Namespace) -> int:
    """Format each file; one that cannot be formatted does not keep the others from it."""
    records = [_format(name, args) for name in args.files]
    if args.format == "json":
        print_json(records)
    changed = sum(record["changed"] for record in records)
    failed = sum("error" in record for record in records)
    verb = "would change" if args.check or args.diff else "changed"
    print_message(
        f"{changed} {verb}, {len(records) - changed - failed} unchanged"
        + (f", {failed} failed" if failed else "")
    )
    errors = {record["error"] for record in records if "error" in record}
    if "unreadable" in errors:
        return ExitCode.USAGE
    if errors:
        return ExitCode.REJECTED
    return ExitCode.FINDINGS if args.check and changed else ExitCode.OK


def _format(name: str, args: argparse.Namespace) -> dict[str, Any]:
    try:
        source = read_argument(name)
        text = format_source(source) if args.lines is None else format_lines(source, *args.lines)
        changed = text != source.text
        if changed and name != "-" and not args.check and not args.diff:
            rewrite(name, text)
    except SourceError as error:
        print_error(error.message, error.help)
        return {"file": name, "changed": False, "error": "unreadable", "message": error.message}
    except PolicyError as error:
        print_diagnostics([d for d in error.diagnostics if d.is_error], error.source, sys.stderr)
        findings = [d.to_json(error.source) for d in error.diagnostics]
        return {"file": name, "changed": False, "error": "syntax", "findings": findings}
    if args.format == "json":
        return {"file": name, "changed": changed, "text": text}
    if args.diff:
        print_difference(difference(source.name, source.text, text))
    elif args.check:
        if changed:
            print(source.name)
    elif name == "-":
        print(text, end="")
    return {"file": name, "changed": changed}
