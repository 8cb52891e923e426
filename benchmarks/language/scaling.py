"""How the time to compile a policy grows with its statements: parse, check, compile and write the artifact, no `--sat`.

Each size runs in a process of its own, on one core, three times; the best time counts. Writes `results/scaling.json` and
`results/scaling.svg`.

    python benchmarks/language/scaling.py
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from about import about  # noqa: E402

SIZES = (125, 250, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
STAGES = ("parse", "check", "compile", "write")
REPEATS = 3


def policy_text(num_statements: int, seed: int) -> str:
    """A policy with statements of every compiled kind, labels, domains, constants and a group for every hundred."""
    dice = random.Random(seed)
    lines = [
        "edition 1",
        "let cap = 0.1",
        "tag lang in {en, de, fr}",
        'attribute slur: flag { backend = lexicon("lists/slurs.txt") }',
    ]
    for index in range(num_statements):
        if index % 100 == 0:
            lines += ["}"] if index else []
            lines.append(
                f"group part_{index // 100} for domain={dice.choice(('chat', 'toxigen', 'advice'))} {{"
            )
        lang, number = dice.choice(("en", "de", "fr")), dice.randint(1, 999)
        statement = (
            f"toxicity < 0.{number:03d} for lang={lang}",
            f"mean(toxicity) <= 0.{number:03d} for lang in {{en, {lang}}} and not domain=code",
            f"P(toxicity >= 0.5 or words > {number}) < 1% confidence 0.9",
            f"always (toxicity < cap and not slur) or words in [1, {number}]",
            f"prefer words <= {number} implies sentences < {number} weight 0.5 under temperature=0.7, tolerance=2%",
            f'mean(toxicity) in [0, 0.{number:03d}] because "counsel {index}"',
        )[index % 6]
        lines.append(f"  s{index}: {statement}")
    return "\n".join([*lines, "}", ""])


def measure(num_statements: int, seed: int) -> dict[str, Any]:
    """Seconds of processor time per stage and in all for one size, and the memory of the process."""
    from constraintlang import SourceFile, check_source
    from constraintlang.parser import parse_detailed
    from constraintlang_compiler.pipeline import compile_with_diagnostics

    text = policy_text(num_statements, seed)
    compile_with_diagnostics(SourceFile(policy_text(10, seed)))  # loads what is loaded once
    best: dict[str, float] = {}
    for _ in range(REPEATS):
        source = SourceFile(text)
        taken = {}
        started = time.process_time()
        parse_detailed(source)
        taken["parse"] = time.process_time() - started
        started = time.process_time()
        result = check_source(source)
        taken["check"] = time.process_time() - started - taken["parse"]
        assert len(result.require().statements) == num_statements
        del result
        started = time.process_time()
        policy = compile_with_diagnostics(source).policy
        assert policy is not None
        whole = time.process_time() - started
        taken["compile"] = whole - taken["check"] - taken["parse"]
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            policy.save(folder)
            taken["write"] = time.process_time() - started
        taken["total"] = whole + taken["write"]
        if not best or taken["total"] < best["total"]:
            best = taken
    seconds = {stage: round(value, 4) for stage, value in best.items()}
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"statements": num_statements, "characters": len(text), "seconds": seconds, "megabytes": megabytes}


def exponent(rows: list[dict[str, Any]]) -> float:
    """The slope of log(time) over log(statements) from 1,000 statements on; 1 is linear growth."""
    points = [
        (math.log(r["statements"]), math.log(r["seconds"]["total"])) for r in rows if r["statements"] >= 1_000
    ]
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return round(sum((x - mean_x) * (y - mean_y) for x, y in points) / spread, 3)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Stacked stages per size, and a straight line for comparison."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "scaling"
    import matplotlib.pyplot as plt

    sizes = [row["statements"] for row in rows]
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    axes.loglog(sizes, [row["seconds"]["total"] for row in rows], "o-", color="black", label="in all")
    for stage in STAGES:
        axes.loglog(sizes, [max(row["seconds"][stage], 1e-4) for row in rows], ".-", linewidth=1, label=stage)
    anchor = next(row for row in rows if row["statements"] == 2_000)["seconds"]["total"] / 2_000
    axes.loglog(sizes, [anchor * size for size in sizes], ":", color="gray", label="linear")
    axes.set_xlabel("statements")
    axes.set_ylabel("seconds of processor time")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument(
        "--one", type=int, metavar="N", help="measure one size in this process and print JSON"
    )
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(args.one, args.seed)))
        return 0
    facts = about("language/scaling.py", sys.argv[1:], args.seed)
    print(json.dumps(facts, indent=1))
    rows = []
    for size in SIZES:
        command = [sys.executable, __file__, "--seed", str(args.seed), "--one", str(size)]
        rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        print(rows[-1], flush=True)
    result = {"about": facts, "repeats": REPEATS, "rows": rows, "exponent": exponent(rows)}
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "scaling.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(rows, args.output / "scaling.svg")
    print(f"time grows with the power {result['exponent']} of the statements")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
