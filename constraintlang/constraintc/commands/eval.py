"""``constraintc eval``: verify a model against a policy, with confidence bounds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from constraintc.locks import add_locked_argument, require_locked
from constraintc.output import print_diagnostics, print_json, print_message
from constraintc.sources import (
    add_allow_path,
    add_chat,
    add_scorer,
    add_scorer_timeout,
    compile_argument,
    policy_folder,
)

HELP = """Sample a model on held-out prompts, score the replies, and say of every clause whether it holds.

Each verdict rests on a one-sided bound at the clause's confidence, corrected for the number of clauses: `holds` when
the upper bound meets the policy, `violated` when the lower bound does not, else `inconclusive`. --output receives
`verdict.json` and `samples.jsonl`, from which anyone can recompute it. Use prompts that training has not seen."""

EPILOG = """examples:
  constraintc eval my.policy --model runs/first --prompts chat=held_out.jsonl \\
      --scorer toxicity=unitary/toxic-bert#toxic --output runs/first-eval
  constraintc eval my.policy --model runs/first --prompts p.jsonl --rows wiki=wiki.jsonl --base gpt2
  constraintc eval my.policy --model runs/first --prompts p.jsonl --tasks arc_easy,hellaswag --base gpt2

exit codes: 0 no clause is violated; 1 violated (or inconclusive with --require-holds); 2 usage, missing file;
3 errors in the policy; 4 a scorer failed, or a clause was not checked at all"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("policy", metavar="POLICY", help="a policy file or a compiled directory")
    parser.add_argument("--model", metavar="DIR_OR_ID", required=True, help="the model to judge")
    parser.add_argument(
        "--prompts",
        metavar="[DOMAIN=]FILE",
        action="append",
        required=True,
        help="held-out prompts; may be repeated",
    )
    add_scorer(parser)
    parser.add_argument("--output", metavar="DIR", help="where verdict.json and samples.jsonl go")
    parser.add_argument(
        "--rows",
        metavar="[DOMAIN=]FILE",
        action="append",
        default=[],
        help="held-out rows: their loss is reported",
    )
    parser.add_argument("--base", metavar="DIR_OR_ID", help="the start model, for `preserve` clauses")
    parser.add_argument(
        "--tasks",
        metavar="NAME,NAME",
        type=lambda names: [name.strip() for name in names.split(",") if name.strip()],
        default=[],
        help="benchmarks of lm-eval to measure besides, for example arc_easy,hellaswag",
    )
    parser.add_argument(
        "--task_path",
        metavar="DIR",
        help="a folder of lm-eval's YAML tasks; without --tasks all of them are run (they may name Python code)",
    )
    parser.add_argument(
        "--num_fewshot",
        type=int,
        metavar="N",
        help="worked examples before a question (default: the task's own)",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="the first N questions of each task (default: all)"
    )
    parser.add_argument(
        "--num_prompts", type=int, metavar="N", help="use the first N prompts of each file (default: all)"
    )
    parser.add_argument("--samples", type=int, default=1, metavar="K", help="replies per prompt (default 1)")
    parser.add_argument("--max_new_tokens", type=int, default=64, metavar="N", help="length cap (default 64)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default 1)")
    parser.add_argument("--top_p", type=float, default=1.0, metavar="P", help="nucleus mass (default 1)")
    parser.add_argument(
        "--max_length", type=int, default=512, metavar="N", help="tokens of a row or prompt (default 512)"
    )
    parser.add_argument(
        "--batch_size", type=int, default=256, metavar="N", help="replies sampled together (default 256)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples (default 0)")
    add_scorer_timeout(parser)
    add_allow_path(parser)
    add_chat(parser)
    add_locked_argument(parser)
    parser.add_argument("--require-holds", action="store_true", help="make `inconclusive` exit with 1")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the verdicts"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, write, print."""
    policy, findings = compile_argument(args.policy, allow_path=args.allow_path)
    print_diagnostics([d for d in findings if d.severity == "warning"], policy.source, sys.stderr)
    if args.locked:
        require_locked(args.policy, policy.source, args.scorer, allow_path=args.allow_path)
    from constraintc.progress import quiet_libraries, shown
    from constraintlang_runtime.eval_run import EvalSettings, evaluate_run
    from constraintlang_runtime.verdicts import exit_code

    given = EvalSettings(
        model=args.model, prompts=tuple(args.prompts), scorer=tuple(args.scorer), rows=tuple(args.rows), base=args.base,
        num_prompts=args.num_prompts, samples=args.samples, max_new_tokens=args.max_new_tokens,
        temperature=args.temperature, top_p=args.top_p, max_length=args.max_length, batch_size=args.batch_size,
        seed=args.seed, scorer_timeout=args.scorer_timeout, allow_path=args.allow_path, chat=args.chat,
        tasks=tuple(args.tasks), task_path=args.task_path, num_fewshot=args.num_fewshot, limit=args.limit,
    )  # fmt: skip
    with quiet_libraries(), shown(args.quiet) as progress:
        found = evaluate_run(policy, given, folder=policy_folder(args.policy), progress=progress)
    if found.extra["prompts_seen_in_training"]:
        print_message(
            f"warning: {found.extra['prompts_seen_in_training']:,} of {found.extra['num_prompts']:,} prompts were seen "
            "in training, so the verdicts say less about new prompts; give held-out ones"
        )
    if args.output is not None:
        found.save(Path(args.output))
        print_message(f"wrote {args.output}/verdict.json and samples.jsonl")
    if args.format == "json":
        print_json(found.to_dict())
    else:
        from rich.console import Console

        from constraintlang_runtime.report.table import verdict_table

        Console().print(verdict_table(found.verdicts))
        for name, loss in found.losses.items():
            print(f"loss on {name}: {loss:.4f} nats per token")
        if found.extra["tasks"]:
            from constraintlang_runtime.report.task_table import task_table

            Console().print(task_table(found.extra["tasks"]))
    return exit_code(found.verdicts, require_holds=args.require_holds)
