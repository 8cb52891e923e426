"""``constraintc score``: judge existing texts or data sets under a policy, row by row and as a whole."""

from __future__ import annotations

import argparse
import sys

from constraintc.locks import add_locked_argument, require_locked
from constraintc.output import print_diagnostics, print_json, print_message, print_reasons
from constraintc.scoring import add_score_workers, add_scoring, scoring_of
from constraintc.sources import (
    compile_argument,
    policy_folder,
)

HELP = """Audit texts that exist already: training data, logs, the output of another model.

Rows are read in a stream and judged one by one; the summary says of every clause whether the law that the rows were
drawn from satisfies it, with the same bounds as `eval`. A row has `text`, or `prompt` and `completion`, or `messages`
(its last assistant turn is judged); every other column is a tag. Each row counts as one independent sample. With
--output every row gets a record, and a killed audit goes on with --resume. Word lists, patterns and lengths need no
torch."""

EPILOG = """examples:
  constraintc score my.policy --data answers.jsonl
  constraintc score my.policy --data chat=logs.parquet --data web=pages.csv --output audit
  zcat pages.jsonl.gz | constraintc score my.policy --data - --format json

exit codes: 0 no clause is violated; 1 violated (or inconclusive with --require-holds); 2 usage, missing file;
3 errors in the policy; 4 a scorer failed, or no row lies in the domain of a clause (under --require-holds also a
clause that was not judged)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("policy", metavar="POLICY", help="a policy file or a compiled directory")
    parser.add_argument(
        "--data", metavar="[DOMAIN=]FILE", action="append", required=True,
        help=".jsonl (also .gz), .csv, .parquet, .txt, a data set of the hub, or - ; may be repeated",
    )  # fmt: skip
    add_scoring(parser)
    parser.add_argument("--output", metavar="DIR", help="where rows.jsonl and summary.json go")
    parser.add_argument("--resume", action="store_true", help="go on with the audit in --output")
    parser.add_argument("--overwrite", action="store_true", help="replace the audit in --output")
    parser.add_argument(
        "--batch_size",
        type=int,
        metavar="N",
        help="rows scored together (default 4096, with several workers 512)",
    )
    add_score_workers(parser)
    add_locked_argument(parser)
    parser.add_argument("--require-holds", action="store_true", help="make `inconclusive` exit with 1")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the verdicts"
    )


def run(args: argparse.Namespace) -> int:
    """Score, write, print."""
    policy, findings = compile_argument(args.policy, allow_path=args.allow_path)
    print_diagnostics([d for d in findings if d.severity == "warning"], policy.source, sys.stderr)
    if args.locked:
        require_locked(args.policy, policy.source, args.scorer, allow_path=args.allow_path)
    from constraintc.progress import shown
    from constraintlang.suggestions import closest
    from constraintlang_runtime.columns import split_domain
    from constraintlang_runtime.score.score_run import ScoreSettings, score_run
    from constraintlang_runtime.verdicts import exit_code

    given = ScoreSettings(
        data=tuple(args.data), output=args.output, resume=args.resume,
        overwrite=args.overwrite, batch_size=args.batch_size, score_workers=args.score_workers,
        **scoring_of(args),
    )  # fmt: skip
    try:
        with shown(args.quiet) as progress:
            found = score_run(policy, given, folder=policy_folder(args.policy), progress=progress)
    except KeyboardInterrupt:
        kept = "the same command with --resume goes on" if args.output else "with --output it could go on"
        print_message(f"interrupted; {kept}")
        raise
    for left in found.not_judged:
        print_message(f"warning: `{left['clause']}` is not judged: {left['reason']}; use `constraintc eval`")
    for verdict in found.verdicts:
        if verdict.verdict == "vacuous":
            where = "" if verdict.domain is None else f" ({verdict.domain})"
            near = closest(verdict.domain or "", filter(None, (split_domain(spec)[0] for spec in args.data)))
            similar = f"a similar name exists: `{verdict.domain}`, where the data have `{near}`; or "
            print_message(
                f"warning: no row lies in the domain of `{verdict.clause}`{where}\n"
                f"  help: {similar if near else ''}write --data DOMAIN=FILE, or give the rows a `domain` column"
            )
    for name, count in found.unavailable.items():
        print_message(
            f"warning: `{name}` has no score for {count:,} of {found.rows:,} rows; each counts as a violation"
        )
    if args.output is not None:
        print_message(f"wrote {args.output}/rows.jsonl and summary.json")
    if args.format == "json":
        print_json(found.to_dict())
    else:
        from rich.console import Console

        from constraintlang_runtime.report.table import verdict_table

        Console().print(verdict_table(found.verdicts))
        print_reasons(found.verdicts)
        judged = found.satisfied + found.violating
        if judged:
            print(f"{found.satisfied:,} of {judged:,} rows satisfy every statement about single responses")
            if found.undecided:
                print(f"{found.undecided:,} more fall under no such statement")
    return exit_code(found.verdicts, require_holds=args.require_holds, not_judged=found.not_judged)
