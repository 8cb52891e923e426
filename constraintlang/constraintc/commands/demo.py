"""``constraintc demo``: the main job on a built-in language, by the public commands, with nothing to download."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import time
from pathlib import Path

from constraintc.exit_codes import ExitCode
from constraintc.output import print_error, print_message

HELP = """Run the main job end to end on a small synthetic language: write a corpus, pre-train a start model, fine-tune
it plainly, on filtered rows, and under a policy, verify all four on held-out prompts, and compare.

Every step is a public command, printed before it runs, on files below --output that you can look at and change. Two
domains share their words: `kitchen` needs the verbs that are harsh in a `chat` reply."""

EPILOG = """example:
  constraintc demo --output runs/demo        some minutes on two cores; ends with a table and report.html"""

SYSTEMS = (("before", "base"), ("plain", "plain"), ("filtering", "filtering"), ("after", "model"))
LABELS = {"before": "before", "plain": "plain fine-tuning", "filtering": "filtering", "after": "constraintc"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "--output", metavar="DIR", default="runs/demo", help="where everything goes (default runs/demo)"
    )
    parser.add_argument("--max_steps", type=int, metavar="N", help="fine-tuning steps (default 480)")
    parser.add_argument(
        "--pretrain_steps", type=int, metavar="N", help="steps of the start model (default 900)"
    )
    parser.add_argument("--num_prompts", type=int, metavar="N", help="held-out prompts (default 2000)")
    parser.add_argument("--keep-base", action="store_true", help="reuse the start model of an earlier run")


def run(args: argparse.Namespace) -> int:
    """Write the files, run the commands, put the results side by side."""
    started = time.perf_counter()
    folder = Path(args.output)
    keep = args.keep_base and (folder / "base" / "constraint" / "run.json").exists()
    if folder.exists() and any(folder.iterdir()) and not _is_ours(folder):
        print_error(f"--output: `{folder}` is not empty and not a demo", "name another folder")
        return ExitCode.USAGE
    for name in ("plain", "filtering", "model", "eval", *(() if keep else ("base",))):
        shutil.rmtree(folder / name, ignore_errors=True)
    from constraintc.progress import quiet_libraries
    from constraintlang_runtime.demo.files import write_files

    with quiet_libraries():
        write_files(folder)
    policy, config = f"{folder}/quickstart.policy", f"{folder}/run.yaml"
    steps = [] if args.max_steps is None else ["--max_steps", str(args.max_steps)]
    pretrain = [] if args.pretrain_steps is None else ["--max_steps", str(args.pretrain_steps)]
    judged = [
        "--prompts", f"{folder}/data/prompts.jsonl", "--rows", f"utility={folder}/data/utility.jsonl",
        "--rows", f"compliant={folder}/data/compliant.jsonl", "--max_new_tokens", "40", "--batch_size", "500",
        *([] if args.num_prompts is None else ["--num_prompts", str(args.num_prompts)]),
    ]  # fmt: skip
    commands = [["check", policy]]
    if not keep:
        commands.append(
            ["train", policy, "--config", f"{folder}/pretrain.yaml", "--output", f"{folder}/base", *pretrain]
        )
    for method, name in (("plain", "plain"), ("filtering", "filtering"), ("constraint", "model")):
        commands.append(
            ["train", policy, "--config", config, "--method", method, "--output", f"{folder}/{name}", *steps]
        )
    for system, name in SYSTEMS:
        commands.append(
            ["eval", policy, "--model", f"{folder}/{name}", *judged, "--output", f"{folder}/eval/{system}"]
        )
    commands.append(
        ["report", policy, *(w for s, _ in SYSTEMS for w in ("--system", f"{LABELS[s]}={folder}/eval/{s}")),
         "--run", f"{folder}/model", "--output", f"{folder}/report.html",
         "--title", "The demo: kind replies, working recipes"]
    )  # fmt: skip
    for command in commands:
        if command[0] == "report":
            _write_verdict(folder, time.perf_counter() - started)
        code = _call(command)
        if code not in (ExitCode.OK, *([ExitCode.FINDINGS] if command[0] == "eval" else [])):
            return code
    print_message(
        f"open {folder}/report.html; verdicts in {folder}/verdict.json; {time.perf_counter() - started:.0f} s"
    )
    return ExitCode.OK


def _call(command: list[str]) -> int:
    """One public command in this process, shown as it would be typed."""
    from constraintc.main import main

    print_message(f"\n$ constraintc {shlex.join(command)}")
    return main(command)


def _is_ours(folder: Path) -> bool:
    return (folder / "quickstart.policy").exists() and (folder / "pretrain.yaml").exists()


def _write_verdict(folder: Path, seconds: float) -> None:
    """``verdict.json`` over the four systems, and all their samples beside it."""
    from constraintlang_runtime.checkpoint import write_atomic
    from constraintlang_runtime.report.assemble import read_json

    summary: dict[str, object] = {}
    samples: list[str] = []
    for system, _ in SYSTEMS:
        found = read_json(folder / "eval" / system / "verdict.json")
        summary[system] = {
            "clauses": found["clauses"],
            "utility_loss": found["losses"]["utility"],
            "compliant_loss": found["losses"]["compliant"],
        }
        with (folder / "eval" / system / "samples.jsonl").open(encoding="utf-8") as lines:
            samples.extend(
                json.dumps({"system": system, **json.loads(line)}, ensure_ascii=False) for line in lines
            )
    write_atomic(folder / "samples.jsonl", "\n".join(samples) + "\n")
    write_atomic(
        folder / "verdict.json", json.dumps({**summary, "seconds": round(seconds, 1)}, indent=1) + "\n"
    )
