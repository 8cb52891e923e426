"""``constraintc why``: why a policy is satisfied or violated by a response, or by a sample of responses."""

from __future__ import annotations

import argparse
import sys

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_json, visible_text
from constraintc.sources import add_allowances, add_scorer, add_tag, allowances, policy_folder, read_policy

HELP = """Say why each statement of a policy is satisfied or violated: its parts with their truth values, what they
read, and how far they are from changing (the margin, in shares of what a score can range over).

`decides` marks the part whose margin is that of the whole; `fails` the fewest parts that alone keep the statement
from being true. Scores come from --scores, from the samples file, and else from the policy's scorers on the text."""

EPILOG = """examples:
  constraintc why my.policy --scores toxicity=0.3 --scores words=20
  constraintc why my.policy --text "You are kind." --scorer toxicity=unitary/toxic-bert#toxic
  constraintc why my.policy --samples runs/first-eval/samples.jsonl
  constraintc why my.policy --samples audit/rows.jsonl          what `score --output audit` wrote, with its data

exit codes: 0 nothing is violated; 1 violated; 2 usage, missing file; 3 errors in the policy; 4 a statement could not be
judged, or no sample is of a prompt that it speaks of"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "policy", metavar="POLICY", help="a policy file, a compiled directory, or - for stdin"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--text", metavar="TEXT", help="the response to explain")
    what.add_argument(
        "--samples",
        metavar="FILE",
        help='responses to explain, one JSON object a line: {"text": ..., "scores": {...}, tags}, or what `eval` '
        "and `score` wrote",
    )
    parser.add_argument(
        "--scores", metavar="NAME=VALUE", action="append", default=[], help="a score; may be repeated"
    )
    add_tag(parser)
    parser.add_argument("--only", metavar="LABEL", help="explain this statement only")
    add_scorer(parser)
    parser.add_argument(
        "--worst", type=int, metavar="N", default=3, help="how many responses to show of a sample (default 3)"
    )
    parser.add_argument(
        "--logic",
        choices=("crisp", "smooth"),
        default="crisp",
        help="how margins are joined: smallest and largest, or smooth and a little below (default crisp)",
    )
    add_allowances(parser)
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the reasons"
    )


def run(args: argparse.Namespace) -> int:
    """Explain one response, or a sample."""
    from constraintc.given_scores import given_scores, only_statement, parse_tags
    from constraintc.why_output import account_lines, sample_lines
    from constraintlang.margins import CRISP, smooth
    from constraintlang_runtime.text_scores import TextScores

    front, source = read_policy(args.policy, allow_path=args.allow_path)
    policy, ir = front.require()
    print_diagnostics([d for d in front.diagnostics if d.severity == "warning"], source, sys.stderr)
    policy = only_statement(policy, args.only)
    given = given_scores(args.scores, policy)
    logic = CRISP if args.logic == "crisp" else smooth()
    scorer = TextScores(
        ir,
        args.scorer,
        folder=policy_folder(args.policy),
        files=front.files,
        **allowances(args),
    )
    if args.samples is not None:
        from constraintlang_runtime.sample_accounts import sample_accounts, score_responses
        from constraintlang_runtime.samples_file import read_samples

        responses = read_samples(args.samples, policy.attributes)
        scores, problems = score_responses(policy, responses, given, scorer)
        sampled = sample_accounts(policy, responses, scores, num_worst=args.worst, logic=logic)
        if args.format == "json":
            print_json({"statements": [account.to_json() for account in sampled], "missing": problems})
        else:
            for account in sampled:
                print(visible_text("\n".join(sample_lines(account, problems))), end="\n\n")
        return _code([(account.verdict, account.statement.strength) for account in sampled])
    from constraintlang.accounts import accounts, scores_read
    from constraintlang_runtime.text_parts import gather_response

    names = scores_read(policy, ordered=args.text is not None)
    response, problems = gather_response(policy, names, given, scorer, args.text)
    found = accounts(policy, response, problems=problems, tags=parse_tags(args.tag), logic=logic)
    if args.format == "json":
        print_json([account.to_json() for account in found])
    else:
        for single in found:
            print(visible_text("\n".join(account_lines(single))), end="\n\n")
    return _code([(single.verdict, single.statement.strength) for single in found])


def _code(verdicts: list[tuple[str, str]]) -> int:
    judged = [(verdict, strength) for verdict, strength in verdicts if verdict != "not judged"]
    if not judged or any(verdict in ("unknown", "error", "vacuous") for verdict, _ in judged):
        return ExitCode.FAILED
    violated = any(verdict == "violated" and strength != "prefer" for verdict, strength in judged)
    return ExitCode.VIOLATED if violated else ExitCode.OK
