"""The verdict on one statement from the scores of some responses: what ``constraintc eval`` would say of it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from constraintlang import LANGUAGE_EDITION
from constraintlang.checked import AttributeInfo, CheckedPolicy, CheckedStatement
from constraintlang.semantics import Scores
from constraintlang_compiler.attributes import attributes_needed, parts_needed
from constraintlang_compiler.checkers import measure
from constraintlang_compiler.ir import Clause, PolicyIR
from constraintlang_compiler.lower import lower
from constraintlang_compiler.measurements import measurements, reads_base_model
from constraintlang_runtime.bet_order import Keys, bet_keys
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.evidence import in_bet_order
from constraintlang_runtime.verdicts import Verdict
from constraintlang_runtime.verification import Evidence, SumEvidence, verify
from constraintlang_runtime.verify_sums import is_sum
from constraintlang_runtime.verify_tails import is_tail

Series = Mapping[str, NDArray[np.float64]]


def verdicts_on(
    statement: CheckedStatement,
    attributes: Mapping[str, AttributeInfo],
    sample: Sequence[Scores],
    prompts: Sequence[str] | None = None,
) -> list[Verdict]:
    """The verdict of each clause of a statement, jointly at its confidence.

    ``sample`` holds the scores of each response, None where unknown; all of them lie in the domain. Responses
    are of different prompts unless ``prompts`` says otherwise.
    Raises: ConfigError for a statement that scores of the model's own responses do not decide.
    """
    policy = lower(CheckedPolicy(LANGUAGE_EDITION, dict(attributes), (statement,)))
    groups = _groups(prompts, len(sample))
    _check_judged(policy, groups)
    scores = {
        key: np.array([_float(response.get(key)) for response in sample])
        for key in attributes_needed(policy.clauses)
    }
    texts = [repr(sorted(response.items())) for response in sample]
    asked = [""] * len(sample) if prompts is None else prompts
    keys = bet_keys(repr(sorted((asked[i], texts[i]) for i in group)) for group in groups)
    evidence = {clause.id: _evidence(clause, scores, groups, keys) for clause in policy.clauses}
    return verify(policy.clauses, evidence)


def _check_judged(policy: PolicyIR, groups: Sequence[Sequence[int]]) -> None:
    """Raise ConfigError where more than given scores of whole responses is needed."""
    missing = help = ""
    if any(clause.kind == "utility" for clause in policy.clauses):
        missing = "the model on your rows"
    elif parts_needed(policy.clauses):
        missing = "the parts of each response"
    elif any(reads_base_model(clause) or clause.base_factor is not None for clause in policy.clauses):
        missing = "responses of the base model"
    elif any(clause.per or clause.stratum for clause in policy.clauses):
        missing = "the values of a tag"
        keys = sorted({key for clause in policy.clauses for key in (*clause.per, *clause.stratum)})
        help = f"say of which stratum the sample is: `for {' and '.join(f'{key}=...' for key in keys)}`"
    elif any(one.given is not None for clause in policy.clauses for one in measurements(clause)):
        missing = "the tags of each prompt"
    if missing:
        raise ConfigError(
            f"it needs {missing}, which given scores do not hold",
            help=help or "verify it with `constraintc eval`, which samples and scores",
        )
    if len({len(group) for group in groups}) > 1 and any(is_tail(c) or is_sum(c) for c in policy.clauses):
        raise ConfigError(
            "a quantile, a cvar or a comparison of statistics needs as many responses to each prompt as to every other",
            help="give each prompt the same number of responses",
        )


def _evidence(
    clause: Clause, scores: Series, groups: Sequence[Sequence[int]], keys: Keys
) -> Evidence | SumEvidence:
    """The values of a clause's measurements on the responses to each prompt."""
    single = all(len(group) == 1 for group in groups)
    series = []
    for one in measurements(clause):
        values = measure(clause, one, scores) if groups else np.empty(0)
        series.append([values[list(group)] for group in groups])
    if not is_sum(clause):
        (own,) = series
        of_prompts = np.array([value[0] for value in own]) if single else own
        return in_bet_order(Evidence(statistic_per_prompt=of_prompts, single_sample=single, keys=keys))
    shape = (len(groups), len(groups[0]) if groups else 1)
    everywhere = np.ones(len(groups), dtype=bool)
    return in_bet_order(
        SumEvidence(
            values=tuple(np.array(values, dtype=np.float64).reshape(shape) for values in series),
            inside=(everywhere,) * len(series),
            keys=keys,
        )
    )


def _float(score: object) -> float:
    return float("nan") if score is None else float(score)  # type: ignore[arg-type]


def _groups(prompts: Sequence[str] | None, size: int) -> list[list[int]]:
    """The indexes of the responses of each prompt, in the order in which the prompts appear."""
    groups: dict[object, list[int]] = {}
    for index in range(size):
        groups.setdefault(index if prompts is None else prompts[index], []).append(index)
    return list(groups.values())
