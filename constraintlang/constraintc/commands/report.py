"""``constraintc report``: one self-contained HTML page over evaluations and training runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from constraintc.exit_codes import ExitCode
from constraintc.output import print_json, print_message
from constraintc.sources import add_allow_path, compile_argument

HELP = """Put evaluations side by side on one self-contained HTML page: verdicts with their bounds, what they cost, the
curves of the training runs, scores and replies before and after. The first system is the baseline, the last the
headline.

A RUN is the output of `constraintc train` with its evaluation beside it (RUN-eval), or the output of
`constraintc eval`; the policy is the one that the run was trained under, unless a policy stands first."""

EPILOG = """examples:
  constraintc report runs/first                        runs/first, verified in runs/first-eval; writes report.html
  constraintc report eval/base runs/plain runs/first --output compared.html
  constraintc report my.policy --system "before=eval/base" --system "after=eval/model" --run runs/first"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "given", metavar="[POLICY] RUN", nargs="+",
        help="folders of runs or evaluations; before them a policy file or a compiled directory, if any",
    )  # fmt: skip
    parser.add_argument(
        "--system",
        metavar="LABEL=EVAL_DIR",
        action="append",
        default=[],
        help="a folder of `constraintc eval` under a name of yours; may be repeated",
    )
    parser.add_argument(
        "--run", dest="run_dir", metavar="DIR",
        help="the output of `constraintc train` whose curves are shown (default: the last RUN that is one)",
    )  # fmt: skip
    parser.add_argument("--title", default="Does the model obey its policy?", help="headline of the page")
    parser.add_argument(
        "--utility",
        metavar="NAME",
        help="the --rows set of the utility column (default: utility, or the only one measured)",
    )
    parser.add_argument(
        "--compliant", default="compliant", metavar="NAME", help="the --rows set of the compliant column"
    )
    parser.add_argument("--note", action="append", default=[], help="a sentence to add; may be repeated")
    parser.add_argument(
        "--output", metavar="FILE", default="report.html", help="the page (default report.html)"
    )
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the comparison"
    )
    add_allow_path(parser)


def run(args: argparse.Namespace) -> int:
    """Assemble, print the table, write the page."""
    from constraintlang_runtime.errors import ConfigError
    from constraintlang_runtime.report.run_folders import Found, find_runs, is_run, policy_of

    first, *others = args.given
    named = [] if is_run(first) else [first]
    runs = find_runs(others if named else args.given)
    found = [*(Found.named(spec) for spec in args.system), *runs]
    if not found:
        if not os.path.exists(first):
            raise ConfigError(f"there is no `{first}`", help="name a policy, or the folder of a run")
        raise ConfigError(
            f"`{first}` is a policy, and nothing is compared under it",
            help="add folders of `constraintc eval` or `constraintc train`, or --system LABEL=EVAL_DIR",
        )
    policy = compile_argument(named[0], allow_path=args.allow_path)[0] if named else policy_of(found)
    from rich.console import Console

    from constraintlang_runtime.report.assemble import assemble
    from constraintlang_runtime.report.html import write_html
    from constraintlang_runtime.report.table import comparison_table
    from constraintlang_runtime.report.thresholds import thresholds_of

    trained = [(one.label, one.run) for one in found if one.run is not None]
    curves = Path(args.run_dir) if args.run_dir is not None else trained[-1][1] if trained else None
    compared = {folder.resolve(): (label, folder) for label, folder in trained}
    if curves is not None:
        compared.setdefault(curves.resolve(), (curves.name, curves))
    data = assemble(
        title=args.title, policy_text=policy.source.text, policy_hash=policy.semantic_hash,
        systems=[(one.label, one.label, one.evaluation) for one in found],
        run=curves, other_runs=[(label, folder) for label, folder in trained if folder != curves],
        compared_runs=list(compared.values()) if len(compared) > 1 else (),
        thresholds=thresholds_of(policy.ir), utility=args.utility, compliant=args.compliant, notes=args.note,
    )  # fmt: skip
    try:
        write_html(data, args.output)
    except OSError as error:
        raise ConfigError(
            f"--output: cannot write `{args.output}`: {error.strerror}", help="name another file"
        ) from error
    if args.format == "json":
        print_json({"page": args.output, "systems": [_summary(system) for system in data.systems]})
    else:
        Console().print(comparison_table(data.systems))
    for sentence in data.unmeasured:
        print_message(f"note: {sentence}")
    print_message(f"wrote {args.output}")
    return ExitCode.OK


def _summary(system: Any) -> dict[str, Any]:
    """A system as plain JSON, its samples left out."""
    from constraintlang_runtime.report.data import plain

    return {key: value for key, value in plain(system).items() if key not in ("samples", "compared")}
