"""How many rows a second `constraintc score` judges with several worker processes.

Two workloads on texts of about 80 words: word lists and patterns, which cost little more than reading a row, and
readability with personal data, which cost a hundred times that. Runs with other numbers of workers take turns. Records
are compared byte for byte.

    python benchmarks/score/workers.py
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from about import about  # noqa: E402
from run import COMMON, ODD, audit_policy  # noqa: E402

SLOW = """edition 1
attribute fog: real in [0, 50] { backend = readability(gunning_fog) }
attribute personal: count { backend = pii("any") }
fog <= 20 under tolerance=5%
personal == 0 under tolerance=5%
"""
SPENT = "\nimport resource, sys\nprint(*(sum(resource.getrusage(w)[:2]) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)), file=sys.stderr)"


def write_rows(path: Path, count: int, seed: int) -> Path:
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            words = draw.choices(
                (*COMMON, *ODD, "important.", "reading!", "nevertheless,"), k=draw.randint(40, 120)
            )
            file.write(json.dumps({"prompt": f"q{number}", "completion": " ".join(words)}) + "\n")
    return path


def one_run(policy: Path, data: Path, workers: int, output: Path) -> dict[str, float]:
    """Seconds on the clock without the start of the workers, and with it; processor seconds here and of workers."""
    command = [sys.executable, "-c", "import sys; from constraintc.main import main; main(sys.argv[1:])" + SPENT,
               "score", str(policy), "--data", str(data), "--quiet", "--output", str(output),
               "--score_workers", str(workers)]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if process.returncode > 1 or not (output / "summary.json").is_file():
        raise SystemExit(process.stderr)
    own, others = map(float, process.stderr.strip().splitlines()[-1].split())
    summary = json.loads((output / "summary.json").read_text())
    return {"judging": summary["seconds"], "whole": seconds, "own": own, "workers": others}


def measure(
    name: str, policy: Path, data: Path, rows: int, counts: list[int], repeats: int
) -> list[dict[str, Any]]:
    found: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    first: bytes | None = None
    for number in range(repeats):
        for count in counts:
            output = policy.parent / f"{name}-{count}-{number}"
            found[count].append(one_run(policy, data, count, output))
            records = (output / "rows.jsonl").read_bytes()
            first = records if first is None else first
            if records != first:
                raise SystemExit(f"{count} workers give other records")
    return [
        {
            "workload": name,
            "rows": rows,
            "workers": count,
            "rows_per_second": round(rows / statistics.median(run["judging"] for run in runs)),
            "rows_per_second_with_start": round(rows / statistics.median(run["whole"] for run in runs)),
            "processor_seconds_here": round(statistics.median(run["own"] for run in runs), 2),
            "processor_seconds_of_workers": round(statistics.median(run["workers"] for run in runs), 2),
        }
        for count, runs in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000, help="of the quick workload")
    parser.add_argument("--slow_rows", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "workers.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        quick = audit_policy(folder)
        slow = folder / "slow.policy"
        slow.write_text(SLOW)
        rows = [
            *measure("word lists and patterns", quick, write_rows(folder / "rows.jsonl", args.rows, args.seed),
                     args.rows, args.workers, args.repeats),
            *measure("readability and personal data", slow, write_rows(folder / "few.jsonl", args.slow_rows, args.seed),
                     args.slow_rows, args.workers, args.repeats),
        ]  # fmt: skip
    names = ("rows", "slow_rows", "repeats")
    changed = [name for name in names if getattr(args, name) != parser.get_default(name)]
    arguments = [word for name in changed for word in (f"--{name}", str(getattr(args, name)))]
    args.output.write_text(
        json.dumps({"rows": rows, **about("score/workers.py", arguments, args.seed)}, indent=1) + "\n"
    )
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
