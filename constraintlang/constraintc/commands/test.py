"""``constraintc test``: run the tests that stand in policy files."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_error, print_json, print_message
from constraintc.sources import add_allowances, add_scorer, allowances, policy_folder, read_argument
from constraintlang.diagnostics import PolicyError
from constraintlang.source import SourceFile
from constraintlang_compiler.errors import SourceError
from constraintlang_compiler.front import check_and_lower

if TYPE_CHECKING:
    from constraintc.case_output import FileOutcome

HELP = """Run the `test` blocks of policy files: what each expects of the statements, on the scores that it gives.

`pass` and `fail` judge one response, `holds`, `violated` and `inconclusive` a sample of given scores, as
`constraintc eval` would judge the statement alone. A score that is not given is computed from the text of the test
where the policy alone suffices (regex, length); with --live also by word lists and classifiers. Coverage says which
statements were judged and on which sides of their thresholds; --mutation changes operators and thresholds one at a
time, and names the changes that no test notices."""

EPILOG = """examples:
  constraintc test my.policy
  constraintc test --coverage --mutation my.policy
  constraintc test --live --scorer toxicity=unitary/toxic-bert#toxic my.policy
  constraintc test --format junit policies/*.policy > report.xml

exit codes: 0 all passed; 1 a test failed, or a mutant survived; 2 a file cannot be read; 3 errors in a policy;
4 a test could not be judged, or no test ran"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="policy files; - reads standard input")
    parser.add_argument("--only", metavar="TEXT", help="run the tests whose name contains this")
    parser.add_argument("--coverage", action="store_true", help="show what no test has seen")
    parser.add_argument("--mutation", action="store_true", help="show which mistakes no test would notice")
    parser.add_argument(
        "--live", action="store_true", help="score the texts of tests with the policy's scorers"
    )
    add_scorer(parser, "what computes an attribute, with --live")
    add_allowances(parser)
    parser.add_argument(
        "--format", choices=("human", "json", "junit"), default="human", help="how to print the results"
    )


def run(args: argparse.Namespace) -> int:
    """Run the tests of each file; a file with errors does not keep the others from being tested."""
    from constraintc.case_output import FileFailure, junit, print_outcome, record_json

    if args.scorer and not args.live:
        print_error("--scorer has no effect without --live", "add --live")
        return ExitCode.USAGE
    outcomes: list[FileOutcome] = []
    records: list[
        FileOutcome | FileFailure
    ] = []  # the same with the files that could not be tested, in order
    codes: list[ExitCode] = []
    for name in args.files:
        try:
            outcome = _outcome(read_argument(name), name, args)
        except SourceError as error:
            print_error(error.message, error.help)
            codes.append(ExitCode.USAGE)
            records.append(FileFailure(name, error.message))
            continue
        except PolicyError as error:
            shown = [found for found in error.diagnostics if found.severity != "note"]
            print_diagnostics(shown, error.source, sys.stderr)
            codes.append(ExitCode.REJECTED)
            records.append(FileFailure(name, "the policy has errors", error.source, error.diagnostics))
            continue
        outcomes.append(outcome)
        records.append(outcome)
        if args.format == "human":
            print_outcome(outcome, show_coverage=args.coverage)
    if args.format == "json":
        print_json([record_json(record) for record in records])
    elif args.format == "junit":
        print(junit(records), end="")
    counts = sum((outcome.counts() for outcome in outcomes), Counter[str]())
    survivors = sum(len(outcome.mutation.survivors) for outcome in outcomes if outcome.mutation)
    print_message(_summary(counts, outcomes))
    if codes:
        return min(codes)
    if counts["error"] or not counts["passed"] + counts["failed"]:
        if not counts["error"]:
            print_error(
                "no test ran", "write a `test` block in the policy, or use --live for those that were skipped"
            )
        return ExitCode.FAILED
    return ExitCode.VIOLATED if counts["failed"] or survivors else ExitCode.OK


def _outcome(source: SourceFile, name: str, args: argparse.Namespace) -> FileOutcome:
    """The outcome for one file.

    Raises: PolicyError with every finding when the policy has errors.
    """
    from constraintc.case_output import FileOutcome
    from constraintlang_runtime.policy_coverage import coverage
    from constraintlang_runtime.policy_mutation import mutate
    from constraintlang_runtime.policy_tests import Runner
    from constraintlang_runtime.text_scores import TextScores

    front = check_and_lower(source, allow_path=args.allow_path, judge_tests=False)
    if front.checked is None or front.lowered is None:
        raise PolicyError(front.diagnostics, source)
    print_diagnostics([d for d in front.diagnostics if d.severity != "note"], source, sys.stderr)
    scores = TextScores(
        front.lowered.ir,
        args.scorer,
        folder=policy_folder(name),
        files=front.files,
        **allowances(args),
        live=args.live,
    )
    runner = Runner(front.checked, scores)
    results = runner.run(lambda test: args.only is None or args.only in test.name)
    mutation = mutate(runner, results) if args.mutation else None
    return FileOutcome(source, results, coverage(front.checked, results), mutation)


def _summary(counts: Counter[str], outcomes: Sequence[FileOutcome]) -> str:
    words = {"passed": "passed", "failed": "failed", "skipped": "skipped", "error": "not judged"}
    shown = [f"{counts[key]} {word}" for key, word in words.items() if counts[key] or key == "passed"]
    pairs = [outcome.sides() for outcome in outcomes]
    seen, sides = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    judged = sum(entry.num_cases > 0 for outcome in outcomes for entry in outcome.coverage)
    total = sum(len(outcome.coverage) for outcome in outcomes)
    return f"{', '.join(shown)}; {judged} of {total} statements judged, {seen} of {sides} sides of thresholds seen"
