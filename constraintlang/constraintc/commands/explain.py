"""``constraintc explain``: what a policy demands, or what an error code means, in English."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict

from constraintc.exit_codes import ExitCode
from constraintc.output import print_error, print_json, visible_text
from constraintc.sources import add_allow_path, compile_argument

HELP = """Say in English what each statement of a policy demands: of which responses, with which tolerance,
what would break it, and how many samples it takes to show that it holds. With an error code, print its
page."""

EPILOG = """examples:
  constraintc explain my.policy
  constraintc explain PC201

exit codes: 0 explained; 2 no such file or code; 3 errors in the policy"""

CODE = re.compile(r"PC[0-9]{3}", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "subject",
        metavar="POLICY|CODE",
        help="a policy file, a compiled directory, - for stdin, or a code like PC201",
    )
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the result"
    )
    add_allow_path(parser)


def run(args: argparse.Namespace) -> int:
    """Explain a code or a policy."""
    if CODE.fullmatch(args.subject):
        return _explain_code(args.subject.upper(), args.format)
    from constraintlang_compiler.explain import explain_clause

    policy, _ = compile_argument(args.subject, allow_path=args.allow_path)
    explanations = [explain_clause(clause) for clause in policy.clauses_as_written]
    if args.format == "json":
        print_json([asdict(explanation) for explanation in explanations])
        return ExitCode.OK
    for explanation in explanations:
        print(visible_text(f"{explanation.name}  [{explanation.reading}]"))
        for sentence in (explanation.demand, explanation.falsified_by, explanation.evidence):
            print(visible_text(f"  {sentence}"))
        print()
    return ExitCode.OK


def _explain_code(code: str, output_format: str) -> int:
    from constraintlang_compiler.catalogue import page

    try:
        text = page(code)
    except KeyError:
        print_error(f"there is no code `{code}`", "codes are printed in brackets by `constraintc check`")
        return ExitCode.USAGE
    if output_format == "json":
        print_json({"code": code, "page": text})
    else:
        print(text)
    return ExitCode.OK
