"""How near the duals that a run starts from are to the optimum over all sequences of an enumerable world.

A group as a run makes it (bins and what is in them from 4,096 samples, the runtime's projection) against duals that are
known, because each bound is the mean under a tilt by 1.3 standard deviations of each statistic.

    python benchmarks/clauses/duals.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from msgspec.structs import replace

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from enumerable_world import random_world  # noqa: E402
from world_policy import make_case  # noqa: E402

from constraintlang_runtime.bin_laws import law_of_group, settle  # noqa: E402
from constraintlang_runtime.groups import Group, attach_target  # noqa: E402
from constraintlang_runtime.projection import project_groups  # noqa: E402

READINGS = (
    ("rarely", "mean"), ("rarely", "length"), ("mean", "length"), ("never", "rarely", "length"),
    ("rarely", "mean", "length"), ("rarely", "rarely other", "length"),
)  # fmt: skip
WORLDS, SAMPLES, TILT = 20, 4096, 1.3


def errors(kinds: tuple[str, ...], seed: int) -> list[float]:
    """|λ / λ_exact - 1| of every soft clause in one world."""
    case = make_case(random_world(seed), *kinds)
    world, soft = case.world, case.soft
    columns = [soft[:, :, k] for k in range(soft.shape[-1])]
    spread = [world.mean(world.law, (f - world.mean(world.law, f)) ** 2) ** 0.5 for f in columns]
    exact = TILT / np.array(spread)
    tilted, _ = world.tilt(world.law, case.potential(exact))
    points = np.array([world.mean(tilted, f) for f in columns])
    bounds = iter(points)
    clauses = tuple(c if c.hard else replace(c, bound=f"{next(bounds) / 0.9:.12f}") for c in case.clauses)
    x, n = world.draw(world.law, SAMPLES, seed)
    group = Group("all", clauses, tuple(range(len(clauses))), [], 1.0, np.full(len(clauses), np.nan))
    attach_target(group, case.f[x, n])
    assert group.target is not None
    bins = group.target.bin_index(case.f.reshape(-1, case.f.shape[-1])).reshape(case.bins.shape)
    law = world.per_prompt_copy(world.bin_law(world.law, bins, group.target.num_bins)[:, 0])
    first = np.cumsum(world.copies) - world.copies  # of the copies of each prompt
    parts = [law_of_group(group, law, case.f[x, n], first[x])]
    found = settle(parts, points, np.full(len(points), 12.0), project_groups(parts, points))[1].duals
    return [float(e) for e in np.abs(found / exact - 1)]


def main() -> None:
    """Print the table and write ``results/duals.json``."""
    rows = []
    for kinds in READINGS:
        found = np.array([errors(kinds, seed) for seed in range(WORLDS)])
        rows.append({"clauses": kinds, "median": np.median(found, axis=0).tolist(), "worst": found.max(axis=0).tolist(),
                     "worlds_within_10_percent": int((found.max(axis=1) <= 0.1).sum()), "worlds": WORLDS})  # fmt: skip
        print(rows[-1])
    result = {"command": "python benchmarks/clauses/duals.py", "samples": SAMPLES, "tilt": TILT, "rows": rows}
    (HERE / "results" / "duals.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
