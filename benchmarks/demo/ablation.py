"""Anchor x divergence x prefix measure on the demo's language: the table behind the defaults.

Runs on the files of ``constraintc demo`` (its start model, rows and held-out prompts), by the public commands.

    constraintc demo --output runs/demo && python benchmarks/demo/ablation.py --demo runs/demo
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import time
from pathlib import Path

from constraintc.main import main as constraintc
from constraintlang_runtime.versions import versions

HERE = Path(__file__).parent
# A moving anchor refits in each of 16 rounds; smaller fits keep such a cell at a few times the cost of a frozen one.
MOVING = ["--auxiliary_steps", "400", "--auxiliary_batch_size", "1024"]
ANCHORS = ("start", "tuned", "previous", "current")
DIVERGENCES = ("forward", "reverse", "js")
PREFIXES = ("corpus", "sampled", "mixed")


def measure(demo: Path, name: str, flags: list[str], steps: int, prompts: int) -> dict[str, object]:
    """Train with some flags and verify; the row of the table."""
    folder = demo / "ablation" / name
    policy = str(demo / "quickstart.policy")
    if not (folder / "eval" / "verdict.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        started = time.perf_counter()
        code = constraintc(
            ["train", policy, "--config", str(demo / "run.yaml"), "--output", str(folder / "model"), "--quiet",
             "--max_steps", str(steps), "--save_strategy", "no", "--anchor_samples", "2048", "--control_samples", "256", *flags]
        )  # fmt: skip
        if code:
            return {"name": name, "failed": f"exit code {code}"}
        seconds = time.perf_counter() - started
        constraintc(
            ["eval", policy, "--model", str(folder / "model"), "--prompts", str(demo / "data/prompts.jsonl"),
             "--num_prompts", str(prompts), "--rows", f"utility={demo}/data/utility.jsonl",
             "--rows", f"compliant={demo}/data/compliant.jsonl", "--max_new_tokens", "40", "--batch_size", "500",
             "--output", str(folder / "eval"), "--quiet"]
        )  # fmt: skip
        (folder / "seconds.json").write_text(json.dumps(seconds))
    verdict = json.loads((folder / "eval" / "verdict.json").read_text())
    record = json.loads((folder / "model" / "constraint" / "run.json").read_text())
    clause = verdict["clauses"][0]
    group = record["groups"][0]
    return {
        "name": name,
        "violation": clause["estimate"],
        "upper": clause["upper"],
        "verdict": clause["verdict"],
        "utility_loss": verdict["losses"]["utility"],
        "compliant_loss": verdict["losses"]["compliant"],
        "distinct_2": verdict["degeneracy"]["distinct_2"],
        "mean_words": verdict["degeneracy"]["mean_words"],
        "dual": group["duals"][0] if group["duals"] else None,
        "weight": group["weight"],
        "seconds": json.loads((folder / "seconds.json").read_text()),
    }


def page(result: dict[str, object]) -> str:
    """The table in Markdown."""
    rows: list[dict[str, object]] = result["rows"]  # type: ignore[assignment]
    lines = [
        "# Anchor x divergence x prefix measure",
        "",
        f"The demo's language, {result['steps']} steps, {result['prompts']} held-out prompts, one seed; bound 5%. Losses in",
        f"nats per token. Moving anchors with `{' '.join(MOVING)}`. `dual` is where the controller ended, `weight` the ρ of the rule.",
        "",
        "| setting | violation | upper 95% | verdict | utility loss | compliant loss | distinct-2 | words | dual | weight | s |",
        "|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['name']} | {row['failed']} |")
            continue
        dual = "" if row["dual"] is None else f"{row['dual']:.2f}"
        lines.append(
            f"| {row['name']} | {row['violation']:.3f} | {row['upper']:.3f} | {row['verdict']} | {row['utility_loss']:.4f} "
            f"| {row['compliant_loss']:.4f} | {row['distinct_2']:.3f} | {row['mean_words']:.1f} | {dual} | {row['weight']:.1f} "
            f"| {row['seconds']:.0f} |"
        )
    found: dict[str, str] = result["versions"]  # type: ignore[assignment]
    lines += [
        "",
        f"Made by `{result['command']}`: {', '.join(f'{k} {v}' for k, v in found.items())}, {result['cores']} cores.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the grid, write ``results/ablation.json`` and ``ablation.md``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="output of `constraintc demo`")
    parser.add_argument("--steps", type=int, default=200, help="fine-tuning steps")
    parser.add_argument("--prompts", type=int, default=1000, help="held-out prompts")
    parser.add_argument(
        "--collect", action="store_true", help="write the table of what is finished, run nothing"
    )
    args = parser.parse_args()
    settings = [(method, ["--method", method]) for method in ("plain", "filtering")]
    settings += [
        (
            f"{anchor}, {divergence}, {prefixes}",
            [
                "--anchor",
                anchor,
                "--divergence",
                divergence,
                "--prefixes",
                prefixes,
                *(MOVING if anchor in ("previous", "current") else []),
            ],
        )
        for anchor, divergence, prefixes in itertools.product(ANCHORS, DIVERGENCES, PREFIXES)
    ]
    settings += [
        ("tuned, reverse, mixed, adaptive none", ["--adaptive", "none"]),
        ("tuned, reverse, mixed, adaptive prompt", ["--adaptive", "prompt"]),
        ("tuned, reverse, mixed, consistency 1", ["--consistency_weight", "1"]),
        ("tuned, reverse, mixed, consistency 0.1", ["--consistency_weight", "0.1"]),
        ("tuned, reverse, mixed, exponent 1", ["--potential_exponent", "1"]),
        ("tuned, reverse, mixed, no corpus rows", ["--auxiliary_corpus_weight", "0"]),
    ]
    rows = []
    for name, flags in settings:
        folder = name.replace(", ", "-").replace(" ", "-")
        if args.collect and not (args.demo / "ablation" / folder / "seconds.json").exists():
            rows.append({"name": name, "failed": "not run"})
        else:
            rows.append({**measure(args.demo, folder, flags, args.steps, args.prompts), "name": name})
    result = {
        "command": "constraintc demo --output runs/demo && python benchmarks/demo/ablation.py --demo runs/demo "
        f"--steps {args.steps} --prompts {args.prompts}",
        "steps": args.steps, "prompts": args.prompts, "rows": rows, "versions": versions(), "cores": os.cpu_count(),
    }  # fmt: skip
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "ablation.json").write_text(json.dumps(result, indent=1) + "\n")
    (HERE / "ablation.md").write_text(page(result))
    print(page(result))


if __name__ == "__main__":
    main()
