"""``constraintc plan``: how many prompts a verification needs, before any is sampled."""

from __future__ import annotations

import argparse
import sys

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_error, print_json, print_table, visible_text
from constraintc.sources import add_allow_path, compile_argument

HELP = """Say how many prompts the verification of each statement needs, before any is sampled.

`least` is the number with which the best possible outcome (not one violation) is called `holds`. A real model has some
violations: `needed` is the number with which a model whose true value lies half-way between the best and the bound
(--at 0.5) is called `holds` nine times out of ten; where the policy bounds a number from both sides, half-way between
both. With --num_prompts N the table says what N prompts can show, and the
set-point: the largest true value that N prompts call `holds` nine times out of ten. Training drives the model there.

All numbers count prompts of the statement's domain, at the statement's confidence, shared by all statements."""

EPILOG = """examples:
  constraintc plan my.policy
  constraintc plan my.policy --num_prompts 500
  constraintc plan my.policy --at 0.8 --format json

exit codes: 0 planned; 2 usage or file; 3 errors in the policy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "policy", metavar="POLICY", help="a policy file, a compiled directory, or - for stdin"
    )
    parser.add_argument("--num_prompts", type=int, metavar="N", help="what N prompts of each domain can show")
    parser.add_argument(
        "--at", type=float, default=0.5, metavar="SHARE",
        help="where the true value lies between the best possible, or the other end of a two-sided bound, (0) and the "
        "bound (1); default 0.5",
    )  # fmt: skip
    parser.add_argument(
        "--power",
        type=float,
        default=0.9,
        metavar="P",
        help="how often it shall be called `holds` (default 0.9)",
    )
    add_allow_path(parser)
    parser.add_argument("--format", choices=("human", "json"), default="human", help="how to print the plan")


def run(args: argparse.Namespace) -> int:
    """Plan every clause and print it."""
    policy, findings = compile_argument(args.policy, allow_path=args.allow_path)
    print_diagnostics([d for d in findings if d.severity == "warning"], policy.source, sys.stderr)
    from constraintlang_compiler.sample_plan import domains_of, plan

    try:
        plans = plan(policy.clauses_as_written, share=args.at, power=args.power, num_prompts=args.num_prompts)
    except ValueError as error:
        print_error(str(error), "see constraintc plan --help")
        return ExitCode.USAGE
    if args.format == "json":
        print_json(
            {
                "at": args.at,
                "power": args.power,
                "num_prompts": args.num_prompts,
                "clauses": [one.to_json() for one in plans],
                "domains": domains_of(plans),
            }
        )
        return ExitCode.OK
    columns = ["statement", "demand", "confidence", "least", "true value", "needed"]
    if args.num_prompts is not None:
        columns.append(f"with {args.num_prompts:,}")
    print_table(columns, (one.cells(with_prompts=args.num_prompts is not None) for one in plans))
    print()
    for one in plans:
        if one.note:
            print(visible_text(f"{one.name}: {one.note}"))
    for domain, number in domains_of(plans).items():
        print(visible_text(f"{domain}: {number:,} prompts serve all of its statements"))
    return ExitCode.OK
