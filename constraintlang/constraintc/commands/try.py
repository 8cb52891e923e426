"""``constraintc try``: type texts and see what each statement of a policy says of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from fractions import Fraction

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_message, visible_text
from constraintc.sources import add_allowances, add_scorer, add_tag, allowances, policy_folder, read_policy

HELP = """Read texts, one a line, and say of each what every statement of the policy says of it as a response.

Scores come from the policy's scorers (word lists, patterns, lengths, classifiers; --scorer binds others) or from
--scores, which then holds for every text. Statements about all responses together are judged at the end, on the texts
as they are: without confidence bounds, which `constraintc eval` gives. Works in a pipe; Ctrl-D ends it."""

EPILOG = """examples:
  constraintc try my.policy
  constraintc try my.policy --scorer toxicity=words.tsv < replies.txt
  constraintc try my.policy --scores toxicity=0.02 --format json < replies.txt

exit codes: 0 no text violated a statement; 1 one did; 2 usage, missing file; 3 errors in the policy;
4 a statement could not be judged"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("policy", metavar="POLICY", help="a policy file or a compiled directory")
    parser.add_argument(
        "--scores",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a score of every text; may be repeated",
    )
    add_tag(parser)
    parser.add_argument("--only", metavar="LABEL", help="show this statement only")
    add_scorer(parser)
    add_allowances(parser)
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="json prints one object for each text"
    )


def run(args: argparse.Namespace) -> int:
    """Judge each line; what is printed for it is flushed at once."""
    from constraintc.given_scores import given_scores, only_statement, parse_tags
    from constraintc.why_output import law_line, short_line
    from constraintlang.accounts import accounts, law_accounts, scores_read
    from constraintlang_runtime.text_parts import gather_response
    from constraintlang_runtime.text_scores import TextScores

    front, source = read_policy(args.policy, allow_path=args.allow_path)
    policy, ir = front.require()
    print_diagnostics([d for d in front.diagnostics if d.severity == "warning"], source, sys.stderr)
    policy = only_statement(policy, args.only)
    given, tags = given_scores(args.scores, policy), parse_tags(args.tag)
    scorer = TextScores(
        ir,
        args.scorer,
        folder=policy_folder(args.policy),
        files=front.files,
        **allowances(args),
    )
    names = scores_read(policy, of_law=True, ordered=True)
    verdicts: set[str] = set()
    texts = []
    for text in _lines():
        response, problems = gather_response(policy, names, given, scorer, text)
        texts.append(response.scores)
        found = accounts(policy, response, problems=problems, tags=tags)
        verdicts |= {a.verdict for a in found if a.statement.strength != "prefer" or a.verdict == "unknown"}
        if args.format == "json":
            print(
                json.dumps({"text": text, "statements": [account.to_json() for account in found]}), flush=True
            )
        else:
            shown = [short_line(account) for account in found if account.verdict != "not judged"]
            print(visible_text("\n".join(shown)), end="\n\n", flush=True)
    law = [(Fraction(1, len(texts)), scores, tags) for scores in texts]
    together = law_accounts(policy, law, tags=tags) if texts else []
    verdicts |= {a.verdict for a in together if a.statement.strength != "prefer" or a.verdict == "unknown"}
    if args.format == "json":
        summary = {"texts": len(texts), "statements": [account.to_json() for account in together]}
        print(json.dumps(summary), flush=True)
    elif together:
        print(f"on {len(texts)} text{'' if len(texts) == 1 else 's'} together:")
        for account in together:
            print(visible_text(f"  {law_line(account)}"))
    if "unknown" in verdicts:
        return ExitCode.FAILED
    return ExitCode.VIOLATED if "violated" in verdicts else ExitCode.OK


def _lines() -> Iterator[str]:
    """The texts, with a prompt where a person types them.

    Raises: ConfigError for bytes that are no text.
    """
    from constraintlang_runtime.errors import ConfigError

    interactive = sys.stdin.isatty()
    if interactive:
        print_message("one text a line, Ctrl-D to end")
    while True:
        if interactive:
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise ConfigError("standard input is no UTF-8 text", help="save the texts as UTF-8") from error
        if not line:
            return
        yield line.removesuffix("\n").removesuffix("\r")
