"""``constraintc generate``: sample from a model, optionally judged, filtered or guided by a policy."""

from __future__ import annotations

import argparse
import json

from constraintc.exit_codes import ExitCode
from constraintc.sources import (
    add_allow_path,
    add_chat,
    add_scorer,
    add_scorer_timeout,
    compile_argument,
    policy_folder,
)

HELP = """Sample replies from a model. With --policy each reply is scored and judged; with --reject replies that
violate are drawn again, so that what is printed obeys the policy by construction."""

EPILOG = """examples:
  constraintc generate --model runs/first --prompt "how are you?" --samples 3
  constraintc generate --model gpt2 --prompts chat=p.jsonl --policy my.policy --scorer toxicity=DIR#toxic --reject

exit codes: 0 done; 1 with --reject, a prompt had no obeying reply in --tries; 2 usage; 3 policy; 4 failed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("--model", metavar="DIR_OR_ID", required=True, help="the model to sample")
    parser.add_argument(
        "--prompt", metavar="TEXT", action="append", default=[], help="a prompt; may be repeated"
    )
    parser.add_argument(
        "--prompts", metavar="[DOMAIN=]FILE", action="append", default=[], help="a file of prompts"
    )
    parser.add_argument("--domain", metavar="NAME", help="the domain of the --prompt texts")
    parser.add_argument("--policy", metavar="POLICY", help="judge the replies by this policy")
    add_scorer(parser)
    parser.add_argument(
        "--reject", action="store_true", help="draw again until a reply obeys (needs --policy)"
    )
    parser.add_argument(
        "--tries", type=int, default=16, metavar="N", help="draws per reply with --reject (default 16)"
    )
    parser.add_argument("--samples", type=int, default=1, metavar="K", help="replies per prompt (default 1)")
    parser.add_argument("--max_new_tokens", type=int, default=64, metavar="N", help="length cap (default 64)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default 1)")
    parser.add_argument("--top_p", type=float, default=1.0, metavar="P", help="nucleus mass (default 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples (default 0)")
    add_scorer_timeout(parser)
    add_allow_path(parser)
    add_chat(parser)
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="json prints one object a line"
    )


def run(args: argparse.Namespace) -> int:
    """Sample, judge, print."""
    policy = None
    if args.policy is not None:
        policy, _ = compile_argument(args.policy, allow_path=args.allow_path)
    from constraintc.progress import quiet_libraries
    from constraintlang_runtime.generate_run import GenerateSettings, generate

    given = GenerateSettings(
        model=args.model, prompt=tuple(args.prompt), prompts=tuple(args.prompts), domain=args.domain,
        scorer=tuple(args.scorer), reject=args.reject, tries=args.tries, samples=args.samples,
        max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_p=args.top_p, seed=args.seed,
        scorer_timeout=args.scorer_timeout, allow_path=args.allow_path, chat=args.chat,
    )  # fmt: skip
    with quiet_libraries():
        records = generate(policy, given, folder=policy_folder(args.policy or "-"))
    for record in records:
        if args.format == "json":
            print(json.dumps(record, ensure_ascii=False))
        else:
            _print_record(record)
    return ExitCode.FINDINGS if args.reject and any(r["violates"] for r in records) else ExitCode.OK


def _print_record(record: dict[str, object]) -> None:
    judged = record["violates"]
    mark = "" if judged is None else "[violates] " if judged else "[obeys] "
    print(f"> {record['prompt']}\n{mark}{record['completion']}\n")
