"""The prompts on which a clause fares worst, chosen on half of their samples and reported on the other half.

The worst of many prompts are partly the unluckiest: their own samples overstate how bad they are. The first half of
each prompt's samples therefore chooses, and the second, which choosing has not seen, is reported; its mean is
unbiased for the prompts chosen. It is a description, not a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from constraintlang_compiler.ir import Clause, Indicator, Value
from constraintlang_runtime.verify_sums import is_sum
from constraintlang_runtime.verify_tails import is_tail

SHARE = 0.1
LISTED = 10


def worst_prompts(
    clauses: Sequence[Clause], records: Sequence[Mapping[str, Any]], seed: int
) -> list[dict[str, Any]]:
    """For each clause about single responses whose prompts have several samples, its worst tenth of the prompts.

    ``chosen_mean`` is of the samples that chose, ``mean`` of the others, ``overall`` of all prompts, in the quantity
    that the policy's author wrote. Prompts that tie are chosen in a random order that depends on ``seed`` alone. A
    prompt with a missing score is left out.
    """
    by_clause: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        by_clause.setdefault(record["clause"], []).append(record)
    found = []
    for clause in clauses:
        if not isinstance(clause.statistic, (Indicator, Value)) or is_sum(clause) or is_tail(clause):
            continue
        prompts: dict[int, list[Mapping[str, Any]]] = {}
        for record in by_clause.get(clause.name, ()):
            prompts.setdefault(record["prompt_number"], []).append(record)
        usable = [
            group
            for group in prompts.values()
            if len(group) > 1 and all(record["statistic"] is not None for record in group)
        ]
        if usable:
            found.append(_worst(clause, usable, seed))
    return found


def _worst(clause: Clause, prompts: Sequence[Sequence[Mapping[str, Any]]], seed: int) -> dict[str, Any]:
    halves = [len(group) // 2 for group in prompts]
    values = [[record["statistic"] for record in group] for group in prompts]
    chosen_on = np.array([np.mean(v[:h]) for v, h in zip(values, halves, strict=True)])
    others = np.array([np.mean(v[h:]) for v, h in zip(values, halves, strict=True)])
    shuffled = np.random.default_rng(seed).permutation(len(prompts))
    order = shuffled[np.argsort(-chosen_on[shuffled], kind="stable")]
    worst = order[: max(1, round(SHARE * len(prompts)))]
    offset, scale = float(clause.shown.offset), clause.shown.scale

    def shown(value: float) -> float:
        return float(offset + scale * value)

    return {
        "clause": clause.name,
        "is_rate": isinstance(clause.statistic, Indicator),
        "share": SHARE,
        "num_prompts": len(worst),
        "of": len(prompts),
        "chosen_mean": shown(chosen_on[worst].mean()),
        "mean": shown(others[worst].mean()),
        "overall": shown(float(np.mean([np.mean(v) for v in values]))),
        "prompts": [
            {
                "prompt": prompts[k][0]["prompt"],
                "chosen_mean": shown(chosen_on[k]),
                "mean": shown(others[k]),
                "samples": len(values[k]),
            }
            for k in worst[:LISTED].tolist()
        ],
    }
