"""Grouping: the rows and prompts of a run put into the groups whose clauses bind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.domains import domain_name
from constraintlang_compiler.ir import Clause, PolicyIR
from constraintlang_compiler.scopes import compared_clauses, sample_clauses, scopes_of
from constraintlang_runtime.control import weight_without_pull
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.groups import Group
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.stop_texts import stopped
from constraintlang_runtime.tag_values import no_prompt, warn_of_spelling

Score = Callable[[Sequence[Clause], Sequence[TokenRow]], NDArray[np.float64]]
NO_GROUP = -1
CORPUS_SCORED = 1024  # rows of a group that are scored to estimate the pull of the corpus


def make_groups(
    policy: PolicyIR, rows: list[TokenRow], prompts: list[TokenRow], config: ConstraintSettings, tokenizer: Any,
    score: Score,
) -> tuple[list[Group], list[int]]:  # fmt: skip
    """Groups in order of first appearance among the prompts, and the group of each row (``NO_GROUP`` for none)."""
    row_scopes = assign_groups(policy, [row.tags for row in rows], config.adaptive)
    prompt_scopes = assign_groups(policy, [row.tags for row in prompts], config.adaptive)
    numbers = {scope: number for number, scope in enumerate(dict.fromkeys(s for s in prompt_scopes if s))}
    tokens = [sum(end - start for start, end in row.trained) for row in rows]
    groups = []
    for scope in numbers:
        clauses = tuple(sample_clauses(policy)[i] for i in scope)
        mine = [i for i, s in enumerate(row_scopes) if s == scope]
        scored = [rows[i] for i in spread(mine, CORPUS_SCORED)]
        means = score(clauses, scored).mean(axis=0) if scored else np.full(len(clauses), np.nan)
        groups.append(
            Group(
                group_name(clauses), clauses, scope,
                [p for p, s in zip(prompts, prompt_scopes, strict=True) if s == scope],
                sum(tokens[i] for i in mine) / max(1, sum(tokens)), means,
                corpus_rows=as_sampled([rows[i] for i in mine], config.law, tokenizer),
                base_weight=weight_without_pull(config.regularizer),
                fixed_exponent=config.potential_exponent is not None,
            )
        )  # fmt: skip
    return groups, [numbers.get(scope, NO_GROUP) for scope in row_scopes]


def spread(places: Sequence[int], most: int) -> Sequence[int]:
    """At most so many of some places, evenly."""
    return places[:: max(1, len(places) // most)][:most]


def as_sampled(rows: Sequence[TokenRow], law: SamplingLaw, tokenizer: Any) -> list[TokenRow]:
    """Training rows as the sampler would have left them: completions to its cap, and to the first of its stop texts."""
    capped = [replace(row, completion=row.completion[: law.max_new_tokens]) for row in rows if row.completion]
    return stopped(capped, tokenizer, law.stop)


def assign_groups(policy: PolicyIR, tags: Sequence[dict[str, Any]], adaptive: str) -> list[tuple[int, ...]]:
    """For each row the sample clauses of its group; with ``none`` every row has all of them."""
    if adaptive == "none":
        everything = tuple(range(len(sample_clauses(policy))))
        return [everything for _ in tags]
    return scopes_of(policy, tags)


def check_scopes(policy: PolicyIR, tags: Sequence[dict[str, Any]]) -> None:
    """Raise DataError for a clause whose domain holds no prompt: a policy must not pass because it was not applied."""
    scopes = scopes_of(policy, tags)
    for index, clause in enumerate(sample_clauses(policy)):
        if clause.strength != "preserve" and not any(index in scope for scope in scopes):
            raise no_prompt(clause, clause.domain, tags, "--prompts DOMAIN=FILE (or --data DOMAIN=FILE)")
    warn_of_spelling((*sample_clauses(policy), *compared_clauses(policy)), tags)


def group_name(clauses: Sequence[Clause]) -> str:
    """A short name for logs: the common domain, else the clauses' names."""
    names = {domain_name(clause.domain) for clause in clauses}
    only = next(iter(names)) if len(names) == 1 else None
    return only if only is not None else "+".join(clause.name for clause in clauses)
