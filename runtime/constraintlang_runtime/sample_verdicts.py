"""The verdict on one statement from the scores of some responses: what ``constraintc eval`` would say of it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from constraintlang import LANGUAGE_EDITION
from constraintlang.checked import AttributeInfo, CheckedPolicy, CheckedStatement
from constraintlang.semantics import Scores
from constraintlang_compiler.attributes import attributes_needed, parts_needed
from constraintlang_compiler.bounds import corrected_alpha
from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.lower import lower
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.supported import check_supported
from constraintlang_runtime.verdicts import Verdict
from constraintlang_runtime.verification import verify_clause


def verdicts_on(
    statement: CheckedStatement,
    attributes: Mapping[str, AttributeInfo],
    sample: Sequence[Scores],
    prompts: Sequence[str] | None = None,
) -> list[Verdict]:
    """The verdict of each clause of a statement, jointly at its confidence.

    ``sample`` holds the scores of each response, None where unknown; all of them lie in the domain. Responses
    are of different prompts unless ``prompts`` says otherwise.
    Raises: ConfigError for a statement that this release does not run.
    """
    policy = lower(CheckedPolicy(LANGUAGE_EDITION, dict(attributes), (statement,)))
    clauses = policy.clauses
    check_supported(policy)
    if parts_needed(clauses):
        raise ConfigError(
            "what `over` says is not judged on given scores by this release",
            help="verify it with `constraintc eval`, which scores the parts of each response",
        )
    keys = attributes_needed(clauses)
    scores = {key: np.array([_float(response.get(key)) for response in sample]) for key in keys}
    values = statistics(clauses, scores) if sample else np.empty((0, len(clauses)))
    alpha = corrected_alpha(float(statement.confidence), len(clauses))
    groups = _groups(prompts, len(sample))
    single = all(len(group) == 1 for group in groups)
    found = []
    for column, clause in enumerate(clauses):
        per_prompt = [values[group, column] for group in groups]
        statistic = np.array([value[0] for value in per_prompt]) if single else per_prompt
        found.append(verify_clause(clause, statistic, alpha=alpha, single_sample=single))
    return found


def _float(score: object) -> float:
    return float("nan") if score is None else float(score)  # type: ignore[arg-type]


def _groups(prompts: Sequence[str] | None, size: int) -> list[list[int]]:
    """The indexes of the responses of each prompt, in the order in which the prompts appear."""
    groups: dict[object, list[int]] = {}
    for index in range(size):
        groups.setdefault(index if prompts is None else prompts[index], []).append(index)
    return list(groups.values())
