"""Sequential and parallel schedules on the demo's language: the levels they reach, wall-clock and processor seconds.

Three seeds of plain fine-tuning, the sequential schedule, and the parallel one with threads and with two ranks. On two
cores plain and sequential runs are made with two threads (all cores) and with one (as each lane has), parallel ones
with one thread a lane. Every run is a process of its own, as a user would start it; levels are measured on held-out
prompts by `constraintc eval`.

    python benchmarks/schedules/run.py
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

from safetensors.torch import load_file

from constraintlang_runtime.demo.files import write_files
from constraintlang_runtime.versions import versions

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = ("constraintlang", "compiler", "runtime", "policies")
PLAIN = ["--method", "plain", "--rounds", "1", "--control_samples", "24"]  # next to nothing is sampled
PARALLEL = ["--schedule", "parallel"]
SYSTEMS: dict[str, tuple[int, int, list[str]]] = {  # processes, threads of each, flags
    "plain, 2 threads": (1, 2, PLAIN),
    "plain, 1 thread": (1, 1, PLAIN),
    "sequential, 2 threads": (1, 2, []),
    "sequential, 1 thread": (1, 1, []),
    "parallel, threads": (1, 1, PARALLEL),
    "parallel, 2 ranks": (2, 1, PARALLEL),
}
JUDGED = ("plain, 2 threads", "sequential, 2 threads", "parallel, threads")


def call(words: list[str], *, processes: int = 1, threads: int = 2) -> tuple[float, float]:
    """Run the command; wall-clock and processor seconds of all its processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    path = os.pathsep.join(str(ROOT / package) for package in PACKAGES)
    own = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), "-m", "constraintc", *words],
        env=os.environ | own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):  # 1: eval found a violated clause
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one system with one seed, and judge it where its weights are not another's."""
    processes, threads, flags = SYSTEMS[name]
    output = folder / f"{name.replace(', ', '-').replace(' ', '')}-{seed}"
    shutil.rmtree(output, ignore_errors=True)
    policy = str(folder / "quickstart.policy")
    wall, processor = call(
        ["train", policy, "--config", str(folder / "run.yaml"), "--output", str(output), "--seed", str(seed), "--quiet",
         "--use_cpu", "--max_steps", str(args.steps), "--anchor_samples", str(args.anchor_samples),
         "--control_samples", str(args.control_samples), "--auxiliary_steps", str(args.auxiliary_steps),
         "--save_strategy", "no", *flags],
        processes=processes, threads=threads,
    )  # fmt: skip
    record = json.loads((output / "constraint" / "run.json").read_text())
    key = next(key for entry in record["history"] for key in entry if key.endswith("/value"))
    rounds = [entry for entry in record["history"] if "round" in entry]
    found: dict[str, Any] = {
        "system": name, "seed": seed, "wall_seconds": wall, "training_seconds": record["seconds"],
        "processor_seconds": processor,
        "waiting_seconds": sum(entry.get("schedule/seconds/waiting", 0.0) for entry in record["history"]),
        "rounds": [[entry["round"], entry[key], entry[key.replace("/value", "/samples")]] for entry in rounds],
    }  # fmt: skip
    if name in JUDGED:
        call(
            ["eval", policy, "--model", str(output), "--prompts", str(folder / "data/prompts.jsonl"), "--num_prompts",
             str(args.prompts), "--max_new_tokens", "40", "--batch_size", "500", "--output", str(output) + "-eval", "--quiet"]
        )  # fmt: skip
        clause = json.loads((Path(str(output) + "-eval") / "verdict.json").read_text())["clauses"][0]
        found["violation"] = clause["estimate"]
    return found


def wilson(rate: float, count: float) -> tuple[float, float]:
    """A 95% interval of a rate."""
    z = 1.96
    centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def overlap(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def summary(rows: list[dict[str, Any]], prompts: int) -> dict[str, Any]:
    """Medians of seconds and means of rates over seeds of each system, pooled intervals, and whether the schedules agree at the end and round by round."""
    found: dict[str, Any] = {}
    for name in SYSTEMS:
        own = [row for row in rows if row["system"] == name]
        if not own:
            continue
        entry = {
            key: median(row[key] for row in own)
            for key in ("wall_seconds", "training_seconds", "processor_seconds", "waiting_seconds")
        }
        entry["per_seed_training_seconds"] = [row["training_seconds"] for row in own]
        if "violation" in own[0]:
            rate = mean(row["violation"] for row in own)
            entry |= {
                "violation": rate,
                "interval": wilson(rate, prompts * len(own)),
                "per_seed": [row["violation"] for row in own],
            }
        entry["rounds"] = {
            number: [rate := mean(values), *wilson(rate, sum(counts))]
            for number in sorted({r[0] for row in own for r in row["rounds"]})
            if (values := [r[1] for row in own for r in row["rounds"] if r[0] == number])
            and (counts := [r[2] for row in own for r in row["rounds"] if r[0] == number])
        }  # fmt: skip
        found[name] = entry
    one, other = found.get("sequential, 2 threads"), found.get("parallel, threads")
    if one and other:
        both = [(one["rounds"][n][1:], other["rounds"][n][1:]) for n in one["rounds"] if n in other["rounds"]]
        found["agreement"] = {
            "final_intervals_overlap": overlap(one["interval"], other["interval"]),
            "rounds_that_overlap": sum(overlap(a, b) for a, b in both), "rounds": len(both),
        }  # fmt: skip
    return found


def same_weights(folder: Path, seeds: list[int]) -> bool:
    """Whether threads and ranks ended in the same bits."""
    for seed in seeds:
        one, two = (
            load_file(folder / f"parallel-{kind}-{seed}" / "model.safetensors")
            for kind in ("threads", "2ranks")
        )
        if any(not one[name].equal(two[name]) for name in one):
            return False
    return True


def page(result: dict[str, Any]) -> str:
    """The table in Markdown."""
    found, agreement = result["summary"], result["summary"].get("agreement", {})
    lines = [
        "# Schedules",
        "",
        f"The demo's language, {result['steps']} steps in 16 rounds, seeds {', '.join(map(str, result['seeds']))}; bound 5%. Seconds are medians over",
        "the seeds: of the whole command, of training in it, of all processors, and of training that waited for lanes.",
        f"Violation on {result['prompts']} held-out prompts a seed with a 95% interval of all seeds together.",
        "",
        "| run | violation | command s | training s | processor s | waiting s |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name in (name for name in SYSTEMS if name in found):
        row = found[name]
        rate = (
            f"{row['violation']:.3f} ({row['interval'][0]:.3f} to {row['interval'][1]:.3f})"
            if "violation" in row
            else ""
        )
        lines.append(
            f"| {name} | {rate} | {row['wall_seconds']:.1f} | {row['training_seconds']:.1f} | {row['processor_seconds']:.1f} "
            f"| {row['waiting_seconds']:.1f} |"
        )
    if agreement:
        lines += [
            "",
            f"Intervals of sequential and parallel at the end overlap: {'yes' if agreement['final_intervals_overlap'] else 'no'}; of the measurements in",
            f"training those of {agreement['rounds_that_overlap']} of {agreement['rounds']} rounds. Threads and ranks end in the same bits: "
            f"{'yes' if result['same_weights'] else 'no'}.",
        ]
    named = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
    lines += [
        "",
        *([result["note"], ""] if result.get("note") else []),
        f"Made by `{result['command']}` in {result['seconds']:.0f} s: {named}, {result['cores']} cores.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run all, write ``results/schedules.json`` and ``README.md``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/schedules"), help="where the runs go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--pretrain_steps", type=int, default=600)
    parser.add_argument("--anchor_samples", type=int, default=2048)
    parser.add_argument("--control_samples", type=int, default=512)
    parser.add_argument("--auxiliary_steps", type=int, default=400)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--system", action="append", help="these systems only, nothing is written")
    args = parser.parse_args()
    folder, started = args.output.resolve(), time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    write_files(folder)
    call(
        ["train", str(folder / "quickstart.policy"), "--config", str(folder / "pretrain.yaml"), "--output", str(folder / "base"),
         "--max_steps", str(args.pretrain_steps), "--control_samples", "24", "--use_cpu", "--quiet"]
    )  # fmt: skip
    rows = []
    for seed in args.seeds:
        for name in args.system or SYSTEMS:
            rows.append(measure(folder, name, seed, args))
            print({key: value for key, value in rows[-1].items() if key != "rounds"}, flush=True)
    result = {
        "command": f"python benchmarks/schedules/run.py --seeds {' '.join(map(str, args.seeds))} --steps {args.steps}",
        "seeds": args.seeds, "steps": args.steps, "prompts": args.prompts, "anchor_samples": args.anchor_samples,
        "control_samples": args.control_samples, "rows": rows, "summary": summary(rows, args.prompts),
        "same_weights": not args.system and same_weights(folder, args.seeds), "seconds": time.perf_counter() - started,
        "versions": versions(), "cores": os.cpu_count(),
    }  # fmt: skip
    if args.system:
        print(json.dumps(result["summary"], indent=1))
        return
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "schedules.json").write_text(json.dumps(result, indent=1) + "\n")
    (HERE / "README.md").write_text(page(result))


if __name__ == "__main__":
    main()
