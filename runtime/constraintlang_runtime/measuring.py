"""Phase A of a round: every group's prompts answered and scored, and the clauses that wait for it settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.ir import Clause
from constraintlang_runtime.clock import Clock
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.groups import Group
from constraintlang_runtime.proposals import Remainder, draw_proposals, measure_start
from constraintlang_runtime.rounds import Measured, Measurement, Progress, RoundPlan, measure, score_rows
from constraintlang_runtime.samplers.protocol import Sampler
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.settling import settle

Score = Callable[[Sequence[Clause], Sequence[TokenRow]], NDArray[np.float64]]


def measure_groups(
    model: Any, plan: RoundPlan, groups: Sequence[Group], clauses: Sequence[Clause], config: ConstraintSettings,
    tokenizer: Any, pool: ScoringPool, score: Score, *, seeds: Sequence[int], num_statements: int,
    progress: Progress | None, sampler: Sampler | None,
) -> list[Measured]:  # fmt: skip
    """Sample the model on the prompts of each group and score; settle clauses that depend on responses.

    ``clauses`` are the policy's, ``seeds`` one for each group. Changes the ``clauses`` and ``corpus_means`` of groups
    with clauses that are settled, nothing else.
    """
    clocks: list[Clock] = []
    found: list[Measurement] = []
    left: list[Remainder | None] = []
    for group, seed in zip(groups, seeds, strict=True):
        clocks.append(clock := Clock())
        left.append(None)
        if plan.starts and config.proposals != "none":
            first, left[-1] = measure_start(
                model, tokenizer, group, config, partial(score, group.clauses),
                count=plan.count, seed=seed, progress=progress, clock=clock,
            )  # fmt: skip
            found.append(first)
            clock.lap("scoring")
            continue
        found.append(
            measure(
                model, tokenizer, pool, group, config, count=plan.count, seed=seed, progress=progress, clock=clock,
                sampler=sampler,
            )
        )  # fmt: skip
        clock.lap("scoring")
    found = settle(
        groups, [[clauses[i] for i in group.indexes] for group in groups], found,
        [partial(score_rows, pool, rows=one.rows, tokenizer=tokenizer) for one in found],
        first=plan.number == 0, starts=plan.starts,
    )  # fmt: skip
    for number, (group, rest) in enumerate(zip(groups, left, strict=True)):
        if rest is not None:
            proposals = draw_proposals(
                model, tokenizer, rest, group, found[number], config, partial(score, group.clauses),
                seed=seeds[number], num_statements=num_statements, progress=progress,
            )  # fmt: skip
            found[number] = replace(found[number], proposals=proposals)
            clocks[number].lap("proposals")
    return [
        Measured(plan.number, one, group.clauses, group.corpus_means, clock.laps)
        for group, one, clock in zip(groups, found, clocks, strict=True)
    ]
