"""Two and three clauses with different readings at once, on the demo's language: does each reach its level?

Trains the demo's start model under `two.policy` and `three.policy` by the public commands, on the demo's rows and
settings, and verifies on prompts that training has not seen: new chat prompts, and recipes kept out of the rows.

    python benchmarks/clauses/run.py --work runs/clauses
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from constraintc.main import main as constraintc
from constraintlang_runtime.demo import language
from constraintlang_runtime.demo.files import write_files
from constraintlang_runtime.versions import versions

HERE = Path(__file__).parent
POLICIES = ("two", "three")
KEPT_RECIPES = 450  # distinct recipe prompts that no training row has
NUM_CHAT = 1000


def write_rows(work: Path) -> None:
    """The demo's files, less the rows of the kept recipe prompts; ``heldout.jsonl`` are the prompts to verify on."""
    write_files(work)
    rows = [json.loads(line) for line in (work / "data" / "train.jsonl").read_text().splitlines()]
    recipes = sorted({row["prompt"] for row in rows if row["domain"] == "kitchen"})
    kept = set(recipes[:: max(1, len(recipes) // KEPT_RECIPES)][:KEPT_RECIPES])
    used = [row for row in rows if row["prompt"] not in kept]
    chat = language.heldout_prompts(1, NUM_CHAT, {row["prompt"] for row in rows})
    held = [*chat, *({"prompt": prompt, "domain": "kitchen"} for prompt in sorted(kept))]
    for name, chosen in (("rows", used), ("heldout", held)):
        (work / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))


def judge(work: Path, policy: str, model: Path, output: Path) -> dict[str, Any]:
    """The verdict of a model under a policy."""
    constraintc(
        ["eval", policy, "--model", str(model), "--prompts", f"{work}/data/heldout.jsonl", "--max_new_tokens", "40",
         "--batch_size", "500", "--rows", f"utility={work}/data/utility.jsonl", "--output", str(output), "--quiet"]
    )  # fmt: skip
    return json.loads((output / "verdict.json").read_text())


def train(work: Path, name: str, flags: list[str]) -> dict[str, Any]:
    """Train under one policy, verify, and read what the rounds logged."""
    policy, folder = str(HERE / f"{name}.policy"), work / name
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    code = constraintc(
        ["train", policy, "--config", f"{work}/run.yaml", "--model", f"{work}/base", "--data",
         f"{work}/data/rows.jsonl", "--output", str(folder / "model"), "--save_strategy", "no", "--quiet", *flags]
    )  # fmt: skip
    if code:
        raise SystemExit(f"training under {name}.policy ended with {code}")
    seconds = time.perf_counter() - started
    verdict = judge(work, policy, folder / "model", folder / "eval")
    plain = judge(work, policy, work / "plain", folder / "eval_plain")
    record = json.loads((folder / "model" / "constraint" / "run.json").read_text())
    return {"policy": name, "seconds": seconds, "clauses": verdict["clauses"], "plain": plain["clauses"],
            "losses": {"constraint": verdict["losses"], "plain": plain["losses"]},
            "groups": record["groups"]}  # fmt: skip


def page(result: dict[str, Any]) -> str:
    """The tables in Markdown."""
    lines = [
        "# Several clauses at once",
        "",
        "## On the demo's language",
        "",
        "The start model of `constraintc demo`, its rows and settings, one seed. `two.policy` has a chance and a mean on the same",
        "prompts, `three.policy` also a quantile on the recipes. Verified on 1,000 chat prompts and 450 recipe prompts that no",
        "training row has. `plain` is fine-tuning without the policy.",
        "",
        "| policy | clause | bound | plain | trained | interval | verdict |",
        "|---|---|--:|--:|--:|---|---|",
    ]
    for run in result["runs"]:
        for clause, plain in zip(run["clauses"], run["plain"], strict=True):
            lines.append(
                f"| {run['policy']} | `{clause['text']}` | {float(clause['bound']):g} | {plain['estimate']:.3f} | "
                f"{clause['estimate']:.3f} | [{clause['lower']:.3f}, {clause['upper']:.3f}] | {clause['verdict']} |"
            )
    lines += ["", "Loss on recipes, nats per token: " + ", ".join(
        f"{run['policy']} {run['losses']['constraint']['utility']:.3f} (plain {run['losses']['plain']['utility']:.3f})"
        for run in result["runs"]) + "."]  # fmt: skip
    return "\n".join([*lines, "", *dual_lines(), f"Made by `{result['command'].strip()}`.", ""])


def dual_lines() -> list[str]:
    """The table of `duals.py`, when it was run."""
    file = HERE / "results" / "duals.json"
    if not file.exists():
        return []
    found = json.loads(file.read_text())
    lines = [
        "## Duals against the enumerated optimum",
        "",
        f"`duals.py`: |λ/λ_exact - 1| of the duals that a run starts from, {found['samples']:,} samples, over",
        f"{found['rows'][0]['worlds']} enumerable worlds. `rarely` is a chance clause, `mean` and `length` are means, `never` is hard.",
        "",
        "| clauses | median of each | worst of each | worlds with all within 10% |",
        "|---|---|---|--:|",
    ]
    for row in found["rows"]:
        each = [", ".join(f"{v:.3f}" for v in row[key]) for key in ("median", "worst")]
        lines.append(
            f"| {', '.join(row['clauses'])} | {each[0]} | {each[1]} | {row['worlds_within_10_percent']} of {row['worlds']} |"
        )
    return [*lines, ""]


def main() -> None:
    """Run the policies, write ``results/clauses.json`` and the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/clauses"), help="where models and rows go")
    parser.add_argument("--policy", action="append", choices=POLICIES, help="this policy only")
    args, flags = parser.parse_known_args()
    work = args.work
    write_rows(work)
    some = str(HERE / "two.policy")
    if not (work / "base").exists():
        constraintc(
            ["train", some, "--config", f"{work}/pretrain.yaml", "--output", f"{work}/base", "--quiet"]
        )
    if not (work / "plain").exists():
        constraintc(
            ["train", some, "--config", f"{work}/run.yaml", "--model", f"{work}/base", "--data", f"{work}/data/rows.jsonl",
             "--method", "plain", "--output", f"{work}/plain", "--save_strategy", "no", "--quiet"]
        )  # fmt: skip
    result = {
        "command": "python benchmarks/clauses/run.py --work runs/clauses " + " ".join(flags),
        "runs": [train(work, name, flags) for name in args.policy or POLICIES],
        "versions": versions(), "cores": os.cpu_count(),
    }  # fmt: skip
    if args.policy is None:
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / "clauses.json").write_text(json.dumps(result, indent=1) + "\n")
        (HERE / "README.md").write_text(page(result))
    print(page(result))


if __name__ == "__main__":
    main()
