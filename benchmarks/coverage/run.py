"""Coverage of every verification method at its boundary, and the samples that the sequential mode saves.

python benchmarks/coverage/run.py [--runs 10000] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import simulate as s  # noqa: E402
from about import about  # noqa: E402

from constraintlang_compiler.sample_plan import POWER, prompts_for_mean, prompts_for_rate  # noqa: E402

ALPHA = 0.05
CHANCE = 0.9999  # of a sound method to pass one line


def studies(runs: int) -> list[tuple[str, str, Callable[[np.random.Generator], Any], bool]]:
    """Method, law, simulation, and whether the method promises anything at this size."""
    found: list[tuple[str, str, Callable[[np.random.Generator], Any], bool]] = []
    for rate, n in ((0.01, 299), (0.05, 20), (0.05, 59), (0.05, 506), (0.3, 50)):
        found.append(("Clopper-Pearson", f"Bernoulli {100 * rate:g}%, n = {n}",
                      lambda rng, rate=rate, n=n: s.counts(rng, rate, n, runs, ALPHA), True))  # fmt: skip
    for clauses in (2, 10):
        found.append((f"{clauses} clauses or strata, joint", "Bernoulli 5%, n = 200",
                      lambda rng, c=clauses: s.joint_counts(rng, 0.05, 200, c, runs, ALPHA), True))  # fmt: skip
    for law in s.LAWS:
        for n in (20, 200):
            found.append(("betting", f"{law}, n = {n}",
                          lambda rng, law=law, n=n: s.means(rng, law, n, runs, ALPHA), True))  # fmt: skip
    for law, n in (
        ("Bernoulli 30%", 53),
        ("Bernoulli 30%", 55),
        ("4 samples a prompt", 117),
        ("Beta(0.4, 3.6)", 200),
    ):
        found.append(("betting, rows sorted by value", f"{law}, n = {n}",
                      lambda rng, law=law, n=n: s.sorted_means(rng, law, n, runs, ALPHA), True))  # fmt: skip
    for level, n, samples in ((0.9, 40, 1), (0.9, 200, 1), (0.5, 30, 1), (0.9, 200, 4)):
        method = "order statistics" if samples == 1 else "quantile of 4 equal samples a prompt"
        found.append((method, f"quantile {level:g}, n = {n}",
                      lambda rng, a=(level, n, samples): s.quantiles(rng, *a, runs, ALPHA), True))  # fmt: skip
    for n in (30, 150):
        found.append(("betting on hinges", f"cvar 0.9, n = {n}",
                      lambda rng, n=n: s.cvars(rng, 0.9, n, runs, ALPHA), True))  # fmt: skip
    found.append(("prediction-powered", "a scorer that misses a third, 60 labels, n = 150",
                  lambda rng: s.predictions(rng, 150, 60, runs, ALPHA), True))  # fmt: skip
    for law in s.LAWS:
        for side, verdict in (("below", "holds"), ("above", "violated")):
            found.append((f"sequential, wrong `{verdict}`", f"{law}, 600 looks",
                          lambda rng, law=law, side=side: s.sequential(rng, law, 600, side, runs, ALPHA),
                          True))  # fmt: skip
    found.append(("Clopper-Pearson looked at after every batch", "Bernoulli 5%, n = 600",
                  lambda rng: s.peeking(rng, 0.05, 600, runs, ALPHA), False))  # fmt: skip
    for n in (20, 200):
        found.append(("Student-t (asymptotic)", f"exponential, n = {n}",
                      lambda rng, n=n: s.student_t(rng, n, runs, ALPHA), False))  # fmt: skip
    return found


def coverage(runs: int, seed: int) -> list[dict[str, Any]]:
    """One line per method and law."""
    limit = int(binom.ppf(CHANCE, runs, ALPHA))
    lines = []
    for number, (method, law, simulate, promised) in enumerate(studies(runs)):
        began = time.perf_counter()
        wrong = int(np.sum(simulate(np.random.default_rng([seed, number]))))
        lines.append({
            "method": method, "law": law, "runs": runs, "wrong": wrong, "rate": wrong / runs, "alpha": ALPHA,
            "promised": promised, "within": wrong <= limit, "seconds": round(time.perf_counter() - began, 2),
        })  # fmt: skip
        print(f"{method:45} {law:45} {wrong / runs:.4f}", flush=True)
    return lines


def savings(runs: int, seed: int) -> list[dict[str, Any]]:
    """Average samples of the sequential mode against the fixed plan, which is made for a truth of half the bound."""
    lines = []
    for alpha in (ALPHA, ALPHA / 4):
        for bound in (0.05, 0.1):
            plan = prompts_for_rate(bound, bound / 2, alpha, POWER)
            assert plan is not None
            for share in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0):
                for limit in (plan, 4 * plan):
                    rng = np.random.default_rng(
                        [seed, int(1e4 * alpha), int(100 * bound), int(4 * share), limit]
                    )
                    used, held, violated = s.samples_used(rng, share * bound, bound, limit, runs, alpha)
                    least = None
                    if share == 0.5:
                        least = s.least_possible(share * bound, bound, alpha, POWER) / plan
                    lines.append({
                        "bound": bound, "alpha": alpha, "plan": plan, "limit": limit, "truth_over_bound": share,
                        "runs": runs, "mean_samples": float(used.mean()), "share_of_plan": float(used.mean()) / plan,
                        "holds": float(held.mean()), "violated": float(violated.mean()),
                        "least_possible_share": least,
                    })  # fmt: skip
    return lines


def mean_savings(runs: int, seed: int) -> list[dict[str, Any]]:
    """The same for a mean, whose fixed plan must assume values of 0 and 1: values that spread less need fewer."""
    lines = []
    bound = 0.2
    plan = prompts_for_mean(bound, bound / 2, ALPHA, POWER)
    assert plan is not None
    for name, draw in (
        ("Beta, standard deviation 0.14", lambda rng, mean, size: rng.beta(5 * mean, 5 * (1 - mean), size)),
        (
            "4 samples a prompt",
            lambda rng, mean, size: rng.binomial(4, rng.beta(2 * mean, 2 * (1 - mean), size)) / 4,
        ),
    ):
        for share in (0.5, 2.0):
            rng = np.random.default_rng([seed, 77, int(4 * share)])
            values = draw(rng, share * bound, (runs, plan))
            used = np.full(runs, float(plan))
            below, above, start = s.Capital(bound, "below"), s.Capital(bound, "above"), 0
            for end in s.batch_ends(plan):
                below.add(values[:, start:end])
                above.add(values[:, start:end])
                done = (below.rejects(ALPHA) | above.rejects(ALPHA)) & (used == plan)
                used[done] = end
                start = end
            lines.append({
                "law": name, "bound": bound, "alpha": ALPHA, "plan": plan, "truth_over_bound": share, "runs": runs,
                "mean_samples": float(used.mean()), "share_of_plan": float(used.mean()) / plan,
            })  # fmt: skip
    return lines


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    head = f"{found['runs']:,} runs of each line, alpha = {ALPHA:g}, truth at the bound"
    lines = [f"{head}:", "", "| method | law | wrong | stated |", "|---|---|---|---|"]
    for one in found["coverage"]:
        stated = f"{100 * one['alpha']:g}%" if one["promised"] else "nothing"
        mark = "" if one["within"] else " (above)"
        lines.append(f"| {one['method']} | {one['law']} | {100 * one['rate']:.2f}%{mark} | {stated} |")
    lines += ["", "Prompts until a rate is decided, on average, as a share of the fixed plan (for half the bound, power "
              f"{POWER:g}):", "", "| bound | alpha | plan | truth / bound | at most the plan | decided | at most 4 plans | "
              "decided | least possible |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    rows = found["savings"]
    for short, long in zip(rows[::2], rows[1::2], strict=True):
        least = "" if short["least_possible_share"] is None else f"{short['least_possible_share']:.2f}"
        lines.append(
            f"| {short['bound']:g} | {short['alpha']:g} | {short['plan']} | {short['truth_over_bound']:g} | "
            f"{short['share_of_plan']:.2f} | {short['holds'] + short['violated']:.2f} | "
            f"{long['share_of_plan']:.2f} | {long['holds'] + long['violated']:.2f} | {least} |"
        )
    lines += ["", "Means, whose plan assumes values of 0 and 1:", "",
              "| law | bound | plan | truth / bound | share of the plan |", "|---|---|---|---|---|"]  # fmt: skip
    for one in found["means"]:
        lines.append(
            f"| {one['law']} | {one['bound']:g} | {one['plan']} | {one['truth_over_bound']:g} | "
            f"{one['share_of_plan']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "results")
    args = parser.parse_args()
    began = time.perf_counter()
    found: dict[str, Any] = {"runs": args.runs, "coverage": coverage(args.runs, args.seed)}
    found["savings"] = savings(max(1, args.runs // 5), args.seed)
    found["means"] = mean_savings(max(1, args.runs // 5), args.seed)
    found["about"] = about("coverage/run.py", sys.argv[1:], args.seed)
    found["about"]["versions"]["scipy"] = version("scipy")  # type: ignore[index]
    found["seconds"] = round(time.perf_counter() - began, 1)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "coverage.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.output / "coverage.md").write_text(table(found))
    bad = [one for one in found["coverage"] if one["promised"] and not one["within"]]
    for one in bad:
        print(f"wrong more often than stated: {one}")
    print(f"wrote {args.output}/coverage.json and coverage.md in {found['seconds']} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
