"""``constraintc report``: one self-contained HTML page over evaluations and a training run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from constraintc.exit_codes import ExitCode
from constraintc.output import print_json, print_message
from constraintc.sources import add_allow_path, compile_argument

HELP = """Put evaluations side by side on one self-contained HTML page: verdicts with their bounds, the curves of the
training run, and the worst replies before and after. The first system is the baseline, the last the headline."""

EPILOG = """example:
  constraintc report my.policy --system "before=eval/base" --system "after=eval/model" --run runs/first \\
      --output report.html"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("policy", metavar="POLICY", help="a policy file or a compiled directory")
    parser.add_argument(
        "--system",
        metavar="LABEL=EVAL_DIR",
        action="append",
        required=True,
        help="a folder of `constraintc eval`",
    )
    parser.add_argument(
        "--run", dest="run_dir", metavar="DIR", help="the output of `constraintc train`, for its curves"
    )
    parser.add_argument("--title", default="Does the model obey its policy?", help="headline of the page")
    parser.add_argument(
        "--utility", default="utility", metavar="NAME", help="the --rows set of the utility column"
    )
    parser.add_argument(
        "--compliant", default="compliant", metavar="NAME", help="the --rows set of the compliant column"
    )
    parser.add_argument("--note", action="append", default=[], help="a sentence to add; may be repeated")
    parser.add_argument("--output", metavar="FILE", required=True, help="the page, .html")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the comparison"
    )
    add_allow_path(parser)


def run(args: argparse.Namespace) -> int:
    """Assemble, print the table, write the page."""
    policy, _ = compile_argument(args.policy, allow_path=args.allow_path)
    from rich.console import Console

    from constraintlang_runtime.errors import ConfigError
    from constraintlang_runtime.report.assemble import assemble
    from constraintlang_runtime.report.html import write_html
    from constraintlang_runtime.report.table import comparison_table

    systems = []
    for spec in args.system:
        label, _, folder = spec.partition("=")
        systems.append((label, label, Path(folder or label)))
    data = assemble(
        title=args.title, policy_text=policy.source.text, systems=systems,
        run=None if args.run_dir is None else Path(args.run_dir), utility=args.utility, compliant=args.compliant,
        notes=args.note,
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
    print_message(f"wrote {args.output}")
    return ExitCode.OK


def _summary(system: Any) -> dict[str, Any]:
    """A system as plain JSON, its samples left out."""
    from constraintlang_runtime.report.data import plain

    return {key: value for key, value in plain(system).items() if key != "samples"}
