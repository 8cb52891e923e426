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
  constraintc explain --list

exit codes: 0 explained; 2 no such file or code; 3 errors in the policy"""

FIXES = {
    "safe": "`constraintc fix` repairs this (a safe fix).",
    "unsafe": "`constraintc fix --unsafe` repairs this (a guess, which is not always right).",
    "placeholder": "The finding shows what to write, with a part that you have to fill in yourself.",
}
CODE = re.compile(r"PC[0-9]{3}", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "subject",
        metavar="POLICY|CODE",
        nargs="?",
        help="a policy file, a compiled directory, - for stdin, or a code like PC201",
    )
    parser.add_argument("--list", action="store_true", help="list every code with its title")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the result"
    )
    add_allow_path(parser)


def run(args: argparse.Namespace) -> int:
    """Explain a code or a policy."""
    if args.list:
        return _list_codes(args.format)
    if args.subject is None:
        print_error("nothing to explain", "name a policy or a code, or write --list")
        return ExitCode.USAGE
    if len(CODE.findall(args.subject)) > 1 and not CODE.sub("", args.subject).strip(" ,"):
        print_error(f"`{args.subject}` is several codes", "`constraintc explain` takes one at a time")
        return ExitCode.USAGE
    if CODE.fullmatch(args.subject):
        return _explain_code(args.subject.upper(), args.format)
    from constraintlang_compiler.explain import explain_clause

    policy, _ = compile_argument(args.subject, allow_path=args.allow_path)
    clauses = policy.clauses_as_written
    explanations = [explain_clause(clause, len(clauses)) for clause in clauses]
    if args.format == "json":
        print_json([asdict(explanation) for explanation in explanations])
        return ExitCode.OK
    for explanation in explanations:
        print(visible_text(f"{explanation.name}  [{explanation.reading}]"))
        for sentence in (explanation.demand, explanation.falsified_by, explanation.evidence):
            print(visible_text(f"  {sentence}"))
        print()
    return ExitCode.OK


def _list_codes(output_format: str) -> int:
    from constraintlang_compiler.catalogue import all_pages

    if output_format == "json":
        print_json([{"code": page.code, "title": page.title} for page in all_pages().values()])
    else:
        for page in all_pages().values():
            print(f"{page.code}  {page.title}")
    return ExitCode.OK


def _explain_code(code: str, output_format: str) -> int:
    from constraintlang_compiler.catalogue import all_pages
    from constraintlang_compiler.fixing import fix_of

    found = all_pages().get(code)
    if found is None:
        print_error(f"there is no code `{code}`", "`constraintc explain --list` shows them all")
        return ExitCode.USAGE
    fix = fix_of(found)
    if output_format == "json":
        print_json({**asdict(found), "page": found.text(), "fix": fix})
        return ExitCode.OK
    print(found.text(), end="")
    if fix is not None:
        print(f"\n{FIXES[fix]}")
    return ExitCode.OK
