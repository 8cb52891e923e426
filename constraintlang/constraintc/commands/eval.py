"""``constraintc eval``: verify a model against a policy, with confidence bounds."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from constraintc.exit_codes import ExitCode
from constraintc.locks import add_locked_argument, require_locked
from constraintc.output import print_diagnostics, print_json, print_message, print_reasons
from constraintc.scoring import add_score_workers, add_scoring, scoring_of
from constraintc.sources import (
    add_chat,
    add_stop,
    compile_argument,
    policy_folder,
)
from constraintlang_runtime.ranks import is_main

if TYPE_CHECKING:
    from constraintlang_compiler.artifact import CompiledPolicy
    from constraintlang_runtime.evaluation import Evaluation

HELP = """Sample a model on held-out prompts, or read completions made elsewhere; score them, and say of every clause
whether it holds.

Each verdict rests on a one-sided bound at the clause's confidence, corrected for the number of clauses: `holds` when
the upper bound meets the policy, `violated` when the lower bound does not, else `inconclusive`. --output receives
`verdict.json` and `samples.jsonl`, from which anyone can recompute it. Use prompts that training has not seen.

--sequential looks after every batch and stops when each clause is decided, with bounds that allow it. With --base a
rise of empty replies, refusals or repetition against the start model puts a warning on the verdict. Under torchrun the
processes share the work of --model, with the same result."""

EPILOG = """examples:
  constraintc eval my.policy --model runs/first --prompts chat=held_out.jsonl \\
      --scorer toxicity=unitary/toxic-bert#toxic --output runs/first-eval
  constraintc eval my.policy --model runs/first --prompts p.jsonl --rows wiki=wiki.jsonl --base gpt2
  constraintc eval my.policy --model runs/first --prompts p.jsonl --tasks arc_easy,hellaswag --base gpt2
  constraintc eval my.policy --model runs/first --prompts p.jsonl --sequential --junit verdict.xml
  torchrun --nproc_per_node 8 -m constraintc eval my.policy --model runs/first --prompts p.jsonl
  constraintc eval my.policy --endpoint http://localhost:8000 --prompts chat=held_out.jsonl --chat --output runs/served
  constraintc eval my.policy --completions replies.jsonl --human labels.csv --audit toxicity=other/model#toxic

exit codes: 0 no clause is violated; 1 violated (under --require-holds also inconclusive, or with a warning);
2 usage, missing file; 3 errors in the policy; 4 a scorer failed, or a clause has no prompts (under --require-holds
also one that was not judged)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("policy", metavar="POLICY", help="a policy file or a compiled directory")
    parser.add_argument("--model", metavar="DIR_OR_ID", help="the model to judge; or give --completions")
    parser.add_argument(
        "--prompts",
        metavar="[DOMAIN=]FILE",
        action="append",
        default=[],
        help="held-out prompts; may be repeated",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="server of the model to judge, OpenAI-compatible, in place of --model",
    )
    parser.add_argument("--endpoint_model", metavar="NAME", help="its name there (default: the only one)")
    parser.add_argument(
        "--endpoint_rate", type=float, metavar="N", help="requests to it in a second (default: no limit)"
    )
    parser.add_argument(
        "--endpoint_timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="for a reply of it (default 120)",
    )
    parser.add_argument(
        "--completions", metavar="[DOMAIN=]FILE", action="append", default=[],
        help="replies made elsewhere: rows with `prompt` and `completion`, `messages` or `text`; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--base_completions", metavar="[DOMAIN=]FILE", action="append", default=[],
        help="the start model's replies to prompts of --completions, to see whether replies have collapsed",
    )  # fmt: skip
    add_scoring(parser)
    add_score_workers(parser)
    parser.add_argument("--output", metavar="DIR", help="where verdict.json and samples.jsonl go")
    parser.add_argument("--overwrite", action="store_true", help="in place of an evaluation that lies there")
    parser.add_argument(
        "--rows",
        metavar="[DOMAIN=]FILE",
        action="append",
        default=[],
        help="held-out rows: their loss is reported",
    )
    parser.add_argument(
        "--base",
        metavar="DIR_OR_ID",
        help="the start model: for clauses that compare with it, and for warnings",
    )
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
    parser.add_argument(
        "--sequential", action="store_true", help="stop as soon as every clause is decided, at valid bounds"
    )
    parser.add_argument(
        "--max_prompts", type=int, metavar="N", help="with --sequential: at most N prompts (default: all)"
    )
    parser.add_argument(
        "--audit", metavar="NAME=PATH[#LABEL]", action="append", default=[],
        help="a second scorer of an attribute, whose verdicts stand beside the first's; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--audit-decides", action="store_true", help="the audit scorers' verdicts make the exit code"
    )
    parser.add_argument(
        "--human",
        metavar="CSV",
        help="labels of people: prompt, completion (or row), violates, clause if any",
    )
    parser.add_argument(
        "--identity_terms",
        metavar="FILE",
        help="with --human: terms, one a line, for the false-positive slice",
    )
    parser.add_argument(
        "--card", action="store_true", help="put the verdicts into the model card of --model (its README.md)"
    )
    parser.add_argument("--junit", metavar="FILE", help="write the verdicts as JUnit XML, too")
    parser.add_argument("--max_new_tokens", type=int, default=64, metavar="N", help="length cap (default 64)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default 1)")
    parser.add_argument("--top_p", type=float, default=1.0, metavar="P", help="nucleus mass (default 1)")
    add_stop(parser)
    parser.add_argument(
        "--max_length", type=int, default=512, metavar="N", help="tokens of a row or prompt (default 512)"
    )
    parser.add_argument(
        "--batch_size", type=int, default=256, metavar="N", help="replies sampled together (default 256)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples (default 0)")
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
    if is_main():
        print_diagnostics([d for d in findings if d.severity == "warning"], policy.source, sys.stderr)
    if args.locked:
        require_locked(args.policy, policy.source, args.scorer, allow_path=args.allow_path)
    from constraintlang_runtime.errors import ConfigError
    from constraintlang_runtime.small_writes import require_not_read
    from constraintlang_runtime.verdicts import exit_code

    _check_together(args)
    if args.output is not None and not args.overwrite and (Path(args.output) / "verdict.json").exists():
        raise ConfigError(
            f"--output: `{args.output}` holds an evaluation", help="add --overwrite, or name another folder"
        )
    if args.output is not None:
        written = [Path(args.output) / name for name in ("verdict.json", "samples.jsonl")]
        names = ("prompts", "completions", "base_completions", "rows", "scorer", "audit")
        require_not_read(written, {name: getattr(args, name) for name in names})
    found = _of_model(args, policy) if args.model is not None else _of_texts(args, policy)
    if not is_main():
        return ExitCode.OK
    not_judged = found.extra.get("not_judged", ())
    for left in not_judged:
        print_message(f"warning: `{left['clause']}` is not judged: {left['reason']}; use --model")
    if found.extra.get("prompts_seen_in_training"):
        print_message(
            f"warning: {found.extra['prompts_seen_in_training']:,} of {found.extra['num_prompts']:,} prompts were seen "
            "in training, so the verdicts say less about new prompts; give held-out ones"
        )
    if args.output is not None:
        found.save(Path(args.output))
        print_message(f"wrote {args.output}/verdict.json and samples.jsonl")
    if args.card:
        from constraintlang_runtime.card import update_card

        print_message(f"wrote {update_card(Path(args.model), found.to_dict())}")
    verdicts = found.deciding(audit=args.audit_decides)
    if args.junit is not None:
        from constraintlang_runtime.junit import write_junit

        write_junit(
            verdicts, Path(args.junit), name=str(args.policy), seconds=found.seconds,
            require_holds=args.require_holds, not_judged=not_judged,
        )  # fmt: skip
        print_message(f"wrote {args.junit}")
    if args.format == "json":
        print_json(found.to_dict())
        for warning in found.warnings:
            print_message(f"warning: {warning}")
    else:
        from rich.console import Console

        from constraintlang_runtime.report.beside import print_beside
        from constraintlang_runtime.report.table import verdict_table

        console = Console()
        console.print(verdict_table(found.verdicts))
        print_reasons(found.verdicts)
        print_beside(console, found)
        for name, loss in found.losses.items():
            print(f"loss on {name}: {loss:.4f} nats per token")
        if found.extra.get("tasks"):
            from constraintlang_runtime.report.task_table import task_table

            console.print(task_table(found.extra["tasks"]))
    if "human" in found.beside:
        from constraintlang_runtime.human_labels import require_matched

        require_matched(found.beside["human"])
    return exit_code(verdicts, require_holds=args.require_holds, not_judged=not_judged)


def _check_together(args: argparse.Namespace) -> None:
    """Raise ConfigError for flags that contradict each other."""
    from constraintlang_runtime.errors import ConfigError

    _check_sources(args)
    if args.model is None and (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ConfigError(
            f"eval was started as {processes} processes, which share the work of --model alone",
            help="start it without torchrun or `accelerate launch`",
        )
    if args.card and args.model is None:
        raise ConfigError("--card is about a model", help="give --model, the output of `constraintc train`")
    if args.card:
        from constraintlang_runtime.card import require_trained

        require_trained(Path(args.model))
    if args.audit_decides and not args.audit:
        raise ConfigError("--audit-decides needs an audit scorer", help="add --audit NAME=PATH[#LABEL]")
    if args.model is not None and args.base_completions:
        raise ConfigError("--base_completions goes with --completions", help="with --model it is --base")
    of_model = {
        "--rows": args.rows != [], "--base": args.base is not None, "--sequential": args.sequential,
        "--max_prompts": args.max_prompts is not None, "--max_length": args.max_length != 512,
        "--tasks": args.tasks != [], "--task_path": args.task_path is not None,
        "--num_fewshot": args.num_fewshot is not None, "--limit": args.limit is not None,
        "--batch_size": args.batch_size != 256,
    }  # fmt: skip
    local = [flag for flag, given in of_model.items() if given]
    if args.endpoint is not None and local:
        raise ConfigError(f"{', '.join(local)}: needs the model itself, not an endpoint", help="use --model")
    sampled = {
        "--prompts": args.prompts != [], "--chat": args.chat, "--num_prompts": args.num_prompts is not None,
        "--samples": args.samples != 1, "--max_new_tokens": args.max_new_tokens != 64,
        "--temperature": args.temperature != 1.0, "--top_p": args.top_p != 1.0, "--stop": args.stop != [], **of_model,
    }  # fmt: skip
    ignored = [flag for flag, given in sampled.items() if given]
    if args.completions and ignored:
        raise ConfigError(
            f"{', '.join(ignored)}: --completions are judged as they are, all of them", help="leave it out"
        )


def _of_model(args: argparse.Namespace, policy: CompiledPolicy) -> Evaluation:
    from constraintlang_compiler.scopes import compared_clauses, sample_clauses
    from constraintlang_runtime.early_checks import check_sources
    from constraintlang_runtime.eval_settings import EvalSettings

    given = EvalSettings(
        model=args.model, prompts=tuple(args.prompts), rows=tuple(args.rows), base=args.base,
        num_prompts=args.num_prompts, samples=args.samples, max_new_tokens=args.max_new_tokens,
        temperature=args.temperature, top_p=args.top_p, stop=tuple(args.stop), max_length=args.max_length,
        batch_size=args.batch_size, seed=args.seed, **scoring_of(args), score_workers=args.score_workers,
        audit=tuple(args.audit), human=args.human, identity_terms=args.identity_terms, sequential=args.sequential,
        max_prompts=args.max_prompts, chat=args.chat, tasks=tuple(args.tasks), task_path=args.task_path,
        num_fewshot=args.num_fewshot, limit=args.limit,
    )  # fmt: skip
    check_sources(
        policy.ir, (*sample_clauses(policy.ir), *compared_clauses(policy.ir)),
        files={"prompts": given.prompts, "rows": given.rows}, prompts=given.prompts,
        models=[given.model, *([given.base] if given.base else [])], scorer=given.scorer,
        wanted="--prompts DOMAIN=FILE",
    )  # fmt: skip
    from constraintc.progress import quiet_libraries, shown  # transformers, whose import takes seconds
    from constraintlang_runtime.eval_run import evaluate_run

    speaks = is_main()
    with quiet_libraries(speaks=speaks), shown(args.quiet or not speaks) as progress:
        return evaluate_run(policy, given, folder=policy_folder(args.policy), progress=progress)


def _check_sources(args: argparse.Namespace) -> None:
    """Raise ConfigError unless the flags name one source of completions, and the prompts that it needs."""
    from constraintlang_runtime.errors import ConfigError

    sources = {"--model": args.model, "--endpoint": args.endpoint, "--completions": args.completions or None}
    given = [flag for flag, value in sources.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(
            f"got {' and '.join(given) or 'none of --model, --endpoint and --completions'}, expected one of them",
            help="give --model with --prompts to sample it here, --endpoint with --prompts to sample a served model, "
            "or --completions with replies made elsewhere",
        )
    if not args.completions and not args.prompts:
        raise ConfigError(
            f"{given[0]} needs prompts", help="add --prompts [DOMAIN=]FILE with held-out prompts"
        )
    of_endpoint = {
        "--endpoint_model": args.endpoint_model is not None, "--endpoint_rate": args.endpoint_rate is not None,
        "--endpoint_timeout": args.endpoint_timeout != 120.0,
    }  # fmt: skip
    if args.endpoint is None and any(of_endpoint.values()):
        flags = ", ".join(flag for flag, is_given in of_endpoint.items() if is_given)
        raise ConfigError(f"{flags}: there is no endpoint", help="add --endpoint URL")


def _of_texts(args: argparse.Namespace, policy: CompiledPolicy) -> Evaluation:
    from constraintc.progress import shown
    from constraintlang_runtime.completions import CompletionSettings, evaluate_completions

    given = CompletionSettings(
        completions=tuple(args.completions), base_completions=tuple(args.base_completions),
        audit=tuple(args.audit), human=args.human, identity_terms=args.identity_terms,
        seed=args.seed, **scoring_of(args), score_workers=args.score_workers,
    )  # fmt: skip
    if args.endpoint is None:
        with shown(args.quiet) as progress:
            return evaluate_completions(policy, given, folder=policy_folder(args.policy), progress=progress)
    from constraintlang_runtime.endpoint_run import EndpointSettings, evaluate_endpoint

    served = EndpointSettings(
        endpoint=args.endpoint, endpoint_model=args.endpoint_model, prompts=tuple(args.prompts),
        endpoint_rate=args.endpoint_rate, endpoint_timeout=args.endpoint_timeout, num_prompts=args.num_prompts,
        samples=args.samples, max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_p=args.top_p,
        stop=tuple(args.stop), chat=args.chat, output=args.output,
    )  # fmt: skip
    with shown(args.quiet) as progress:
        return evaluate_endpoint(policy, served, given, folder=policy_folder(args.policy), progress=progress)
