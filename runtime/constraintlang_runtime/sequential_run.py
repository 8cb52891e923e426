"""Prompts in a random order, in batches that grow, until every clause is decided."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from constraintlang_compiler.clean_bounds import corrected_alpha
from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import Clause
from constraintlang_runtime.bet_order import bet_keys, bet_order
from constraintlang_runtime.evaluation import by_law, prompts_of
from constraintlang_runtime.judge import Judge
from constraintlang_runtime.responses import Source
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.sequential import Track, next_batch, require_sequential
from constraintlang_runtime.verdicts import Verdict


def run_sequentially(
    clauses: Sequence[Clause],
    source: Source,
    judge: Judge,
    *,
    law: SamplingLaw,
    samples_per_prompt: int,
    seed: int,
    num_clauses: int,
    max_prompts: int | None = None,
) -> tuple[dict[str, Verdict], dict[str, Any]]:
    """Verdicts by clause id, and where the run ended.

    The order of the prompts depends on ``seed`` and on what they say, not on the order in which they come. A clause
    that is decided is neither sampled for nor scored any more; a prompt that lies in no undecided clause's domain is
    passed over. ``num_clauses`` are those of the whole policy, which share the error.
    Raises: ConfigError for clauses that cannot be judged so, DataError for a clause without prompts.
    """
    require_sequential(clauses)
    order = _in_random_order(source.prompts, seed, max_prompts)
    tracks = {c.id: Track(c, corrected_alpha(float(c.confidence), num_clauses)) for c in clauses}
    answered: set[int] = set()
    looks = 0
    for (own_law, count), members in by_law(clauses, law, samples_per_prompt).items():
        prompts_of(members, source)
        position, seen = 0, 0
        while True:
            left = [clause for clause in members if not tracks[clause.id].decided]
            batch: list[int] = []
            while left and position < len(order) and len(batch) < next_batch(seen):
                wanted = (
                    any(matches(clause.domain, source.tags[i]) for clause in left) for i in order[position]
                )
                batch += [i for i, is_wanted in zip(order[position], wanted, strict=True) if is_wanted]
                position += 1
            if not batch:
                break
            found = judge.take(left, source, batch, own_law, count, seen)
            for clause in left:
                tracks[clause.id].add(found[clause.id])
            seen += len(batch)
            looks += 1
            answered.update(batch)
    undecided = [clause.name for clause in clauses if not tracks[clause.id].decided]
    verdicts = {clause.id: tracks[clause.id].verdict() for clause in clauses}
    return verdicts, {
        "stopped_at": len(answered),
        "sequential": {
            "num_prompts": len(source.tags),
            "max_prompts": max_prompts,
            "looks": looks,
            "undecided": undecided,
            "reason": "the prompts ended" if undecided else "every clause is decided",
        },
    }


def _in_random_order(prompts: Sequence[Hashable], seed: int, most: int | None) -> list[list[int]]:
    """The prompts in an order by their hash, at most so many; those that say the same are side by side."""
    units: dict[Hashable, list[int]] = {}
    for i, prompt in enumerate(prompts):
        units.setdefault(prompt or i, []).append(i)  # rows without a prompt are prompts of their own
    known = list(units.values())
    left, found = len(prompts) if most is None else most, list[list[int]]()
    keys = bet_keys(f"{seed} {prompts[unit[0]]!r}" for unit in known)
    for k in bet_order(keys).tolist():
        if left > 0:
            found.append(known[k][:left])
            left -= len(found[-1])
    return found
