"""``constraintc audit``: what the verdicts on a policy rest on without proof."""

from __future__ import annotations

import argparse

from constraintc.exit_codes import ExitCode
from constraintc.locks import place_of
from constraintc.output import print_json, print_message, print_table, visible_text
from constraintc.sources import add_allow_path, add_scorer, compile_argument

HELP = """List every part that a policy trusts: who measures each attribute (a model, a word list, a plug-in that runs
code), the data its domains name, and the numbers that were assumed because nobody wrote them. Each comes with what pins
it and what to worry about: a part that can move unnoticed, a plug-in that may answer differently each time."""

EPILOG = """examples:
  constraintc audit my.policy
  constraintc audit my.policy --scorer toxicity=models/tox#toxic --format json
  constraintc audit my.policy --deny concerns

exit codes: 0 listed; 1 something to worry about under --deny concerns; 2 usage or file; 3 errors in the policy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "policy", metavar="POLICY", help="a policy file, a compiled directory, or - for stdin"
    )
    add_scorer(parser, "a scorer that train and eval will be given")
    add_allow_path(parser)
    parser.add_argument(
        "--deny", choices=("concerns",), help="exit with 1 when there is something to worry about"
    )
    parser.add_argument("--format", choices=("human", "json"), default="human", help="how to print the list")


def run(args: argparse.Namespace) -> int:
    """List the trusted parts."""
    policy, _ = compile_argument(args.policy, allow_path=args.allow_path)
    from constraintlang_compiler.lock.audit import audit

    found = audit(policy.source, place_of(args.policy, args.scorer, allow_path=args.allow_path))
    worrying = [entry for entry in found if entry.concern]
    if args.format == "json":
        print_json([entry.to_json() for entry in found])
    else:
        print_table(
            ("part", "kind", "pin", "trusted", "used by"),
            (
                (entry.part, entry.kind, _short(entry.pin), entry.trust, ", ".join(entry.used_by))
                for entry in found
            ),
        )
        if worrying:
            print()
        for entry in worrying:
            print(visible_text(f"{entry.part}: {entry.concern}"))
    noun = "part" if len(found) == 1 else "parts"
    print_message(f"{len(found)} trusted {noun}, {len(worrying)} to worry about")
    return ExitCode.FINDINGS if args.deny == "concerns" and worrying else ExitCode.OK


def _short(pin: str | None) -> str:
    head, mark, digest = (pin or "-").partition("sha256:")
    return head + mark + digest[:12]
