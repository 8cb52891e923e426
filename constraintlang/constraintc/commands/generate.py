"""``constraintc generate``: sample from a model, optionally judged, filtered or guided by a policy."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from constraintc.exit_codes import ExitCode
from constraintc.output import print_error, print_message, visible_text
from constraintc.scoring import add_scoring, scoring_of
from constraintc.sources import (
    add_chat,
    add_stop,
    compile_argument,
    policy_folder,
)

if TYPE_CHECKING:
    from constraintlang_compiler.bounds import Bounds
    from constraintlang_runtime.acceptance import Acceptance
    from constraintlang_runtime.generation import Reply

TAKES_SETTINGS = True
HELP = """Sample replies from a model. With --policy each reply is scored and judged, and --decoding says what the
policy does while replies are made:
  plain       nothing; replies are judged only
  guided      every token is drawn from p V^g: an auxiliary model, fitted to samples first, steers towards the policy
  masked      tokens after which the wording clauses cannot be satisfied are forbidden
  rejection   replies that violate are drawn again, so that what is printed obeys by construction; with --guide the
              draws are guided
  best_first  search for the most probable replies that obey, led by the auxiliary model; deterministic

A guide is fitted when it is not in --guide yet; settings of its fit (docs/settings.md) are flags, too, such as
--anchor_samples 2048."""

EPILOG = """examples:
  constraintc generate --model runs/first --prompt "how are you?" --samples 3
  constraintc generate --model gpt2 --prompts chat=p.jsonl --policy my.policy --scorer toxicity=DIR#toxic \\
      --decoding rejection --max_draws 32 --format json
  constraintc generate --model gpt2 --prompts chat=p.jsonl --policy my.policy --decoding guided --guide runs/guide

exit codes: 0 done; 1 rejection or search found no obeying reply to a prompt; 2 usage; 3 policy; 4 failed"""


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
    add_scoring(parser)
    parser.add_argument(
        "--decoding", choices=("plain", "guided", "masked", "rejection", "best_first"),
        help="what the policy does while replies are made (default plain); all but plain need --policy",
    )  # fmt: skip
    parser.add_argument("--reject", action="store_true", help="short for --decoding rejection")
    parser.add_argument(
        "--max_draws", "--tries", dest="max_draws", type=int, default=16, metavar="N",
        help="draws per reply of rejection (default 16)",
    )  # fmt: skip
    parser.add_argument(
        "--on_reject", choices=("drop", "keep"), default="drop",
        help="of a reply that was not found: drop its text, or keep the least violating (default drop)",
    )  # fmt: skip
    parser.add_argument(
        "--search_budget", type=int, default=256, metavar="N",
        help="steps of best_first per prompt: prefixes read and replies scored (default 256)",
    )  # fmt: skip
    parser.add_argument(
        "--clause", metavar="NAME", action="append", default=[],
        help="a clause that masks enforce, all unless given; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--guide",
        metavar="DIR",
        help="where the fitted guide is kept: read when it is there, else fitted and written",
    )
    parser.add_argument(
        "--guide_rounds",
        type=int,
        default=4,
        metavar="N",
        help="corrections of a guide's strength (default 4)",
    )
    parser.add_argument("--samples", type=int, default=1, metavar="K", help="replies per prompt (default 1)")
    parser.add_argument("--max_new_tokens", type=int, default=64, metavar="N", help="length cap (default 64)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default 1)")
    parser.add_argument("--top_p", type=float, default=1.0, metavar="P", help="nucleus mass (default 1)")
    add_stop(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples (default 0)")
    add_chat(parser)
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="json prints one object a line"
    )


def run(args: argparse.Namespace) -> int:
    """Sample, judge, print."""
    policy = None
    if args.policy is not None:
        policy, _ = compile_argument(args.policy, allow_path=args.allow_path)
    if args.reject and args.decoding not in (None, "rejection"):
        print_error(f"--reject and --decoding {args.decoding} contradict each other", "leave one of them out")
        return ExitCode.USAGE
    from constraintc.progress import quiet_libraries, shown
    from constraintlang_runtime.generate_run import GenerateSettings, generate
    from constraintlang_runtime.generation import DecodingSettings
    from constraintlang_runtime.run_settings import parse_flags

    decoding = DecodingSettings(
        decoding=args.decoding or ("rejection" if args.reject else "plain"), samples=args.samples,
        max_draws=args.max_draws, on_reject=args.on_reject, search_budget=args.search_budget,
        clause=tuple(args.clause), seed=args.seed,
    )  # fmt: skip
    given = GenerateSettings(
        model=args.model, prompt=tuple(args.prompt), prompts=tuple(args.prompts), domain=args.domain,
        decoding=decoding, guide=args.guide, guide_rounds=args.guide_rounds,
        guide_settings=parse_flags(args.extra), max_new_tokens=args.max_new_tokens, temperature=args.temperature,
        top_p=args.top_p, stop=tuple(args.stop),
        **scoring_of(args), chat=args.chat,
    )  # fmt: skip
    with quiet_libraries(), shown() as progress:
        found = generate(
            policy, given, folder=policy_folder(args.policy or "-"), progress=progress, tell=print_message
        )
    for reply in found.replies:
        if args.format == "json":
            print(json.dumps(reply.to_json(), ensure_ascii=False))
        else:
            _print_reply(reply)
    if found.acceptance is not None:
        for line in _account(found.acceptance):
            print_message(line)
    return ExitCode.FINDINGS if any(r.status == "rejected" for r in found.replies) else ExitCode.OK


def _print_reply(reply: Reply) -> None:
    mark = {"accepted": "[obeys] ", "violates": "[violates] ", "rejected": "[rejected] ", "unjudged": ""}
    text = f"no obeying reply in {reply.draws} tries" if reply.completion is None else reply.completion
    print(visible_text(f"> {reply.prompt}\n{mark[reply.status]}{text}"), end="\n\n")


def _account(found: Acceptance) -> list[str]:
    """What rejection cost, in lines for people."""
    law = "the guided law" if found.is_guided else "the model"
    lines = [
        f"{found.accepted:,} of {found.replies:,} replies obey, after {found.draws:,} draws from {law}",
        f"acceptance rate {_bounds(found.rate, '.1%')} (first draws; 95% interval)",
    ]
    floor = ", more in truth: some replies were not found" if found.cost_is_floor else ""
    if not found.is_guided:
        lines.append(f"KL(filtered || model) = -log AR = {_bounds(found.cost, '.3f')} nats per prompt{floor}")
        return lines
    lines.append(f"-log AR = {_bounds(found.cost, '.3f')} nats per prompt{floor}")
    if found.gap is None:
        lines.append(
            "KL(g || g') is not known: it takes two obeying --samples of a prompt, temperature 1 and top_p 1"
        )
    else:
        lines.append(
            f"KL(g || g') = {_bounds(found.gap, '.3f')} nats per prompt, g the filtered model, g' what was drawn; "
            "KL(g || guided) = KL(g || g') - log AR"
        )
    return lines


def _bounds(bounds: Bounds, form: str) -> str:
    return f"{bounds.estimate:{form}} [{bounds.lower:{form}}, {bounds.upper:{form}}]"
