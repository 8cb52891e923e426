"""A sample of one size that earns "holds" at a lower confidence and not at a higher one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from constraintlang.checked import AttributeInfo, CheckedPolicy, CheckedStatement
from constraintlang.diagnostics import PolicyError
from constraintlang_compiler.analysis.candidates import ROUNDS
from constraintlang_compiler.analysis.decide import Decider
from constraintlang_compiler.analysis.forms import Variables
from constraintlang_compiler.analysis.limits import Budget, TooLarge
from constraintlang_compiler.analysis.requirements import requirement
from constraintlang_compiler.analysis.rows import NotAnalysed
from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.lower import lower
from constraintlang_compiler.planning import least_prompts


@dataclass(frozen=True)
class CountedSample:
    """``num_prompts`` prompts whose responses all have these scores: not one violation.

    The new policy says ``holds``; the old one needs ``num_prompts_before``.
    """

    num_prompts: int
    num_prompts_before: int
    scores: Mapping[str, Decimal]

    def to_json(self) -> dict[str, object]:
        """The sample as plain data."""
        return {
            "num_prompts": self.num_prompts,
            "num_prompts_before": self.num_prompts_before,
            "scores": {name: format(value, "f") for name, value in sorted(self.scores.items())},
        }


def counted_sample(
    old: CheckedStatement, new: CheckedStatement, attributes: Mapping[str, AttributeInfo]
) -> CountedSample | None:
    """The smallest sample that the new statement, judged alone, calls ``holds`` and the old one does not.

    None when no number of prompts shows the statement, or nothing is found.
    """
    clauses = [
        _first_clause(statement, attributes) for statement in (new, replace(new, confidence=old.confidence))
    ]
    if clauses[0] is None or clauses[1] is None:
        return None
    after, before = (least_prompts(clause, 1) for clause in clauses if clause is not None)
    if after is None or before is None or not after < before:
        return None
    scores = _best_scores(new, clauses[0], attributes)
    return None if scores is None else CountedSample(after, before, scores)


def _first_clause(statement: CheckedStatement, attributes: Mapping[str, AttributeInfo]) -> Clause | None:
    try:
        clauses = lower(CheckedPolicy(1, dict(attributes), (statement,))).clauses
    except PolicyError:
        return None
    return clauses[0] if len(clauses) == 1 else None


def _best_scores(
    statement: CheckedStatement, clause: Clause, attributes: Mapping[str, AttributeInfo]
) -> Mapping[str, Decimal] | None:
    """Scores of a response with the best possible value of the clause's statistic, 0."""
    decider = Decider(Variables(attributes), Budget(1.0))
    try:
        space = decider.space([requirement(statement, 0, decider.variables)])
        if space.grid.opaque:  # scores alone do not say what an opaque part is
            return None
        for reach in ROUNDS:
            tried = space.trial(reach).scores
            columns = {name: np.array([float(row[name]) for row in tried]) for name in tried[0]}
            best = np.flatnonzero(statistics([clause], columns)[:, 0] == 0.0)
            if len(best):
                return tried[int(best[0])]
    except (NotAnalysed, TooLarge, RecursionError):
        pass
    return None
