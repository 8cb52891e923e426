"""Looks for a sample law that meets some statements and fails another; the reference interpreter has the word.

A linear programme weighs candidate responses with as much slack as it can, in rounds of candidates that lie
ever closer to the ends of the regions. What it finds is made exact and then judged by the reference
interpreter, so an answer is never wrong; not finding one proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.analysis.candidates import ROUNDS, Candidate
from constraintlang_compiler.analysis.exact import solve
from constraintlang_compiler.analysis.forms import ONE, ZERO
from constraintlang_compiler.analysis.limits import Budget
from constraintlang_compiler.analysis.requirements import Requirement
from constraintlang_compiler.analysis.rows import Row
from constraintlang_compiler.analysis.space import Space, Trial, to_decimal
from constraintlang_compiler.analysis.witness import Response, Sample, meets

LEAST_SLACK = 1e-10
DENOMINATORS = (20, 100, 1000, 10**6)


@dataclass(frozen=True)
class Question:
    """Which statements shall hold, and which one shall fail."""

    holding: tuple[Requirement, ...]
    failing: Requirement | None = None

    @property
    def all(self) -> tuple[Requirement, ...]:
        """The statements of both sides."""
        return self.holding if self.failing is None else (*self.holding, self.failing)

    def is_answered_by(self, sample: Sample) -> bool:
        """Whether the reference interpreter says that a sample law is an answer."""
        try:
            return all(meets(r.statement, sample) is True for r in self.holding) and (
                self.failing is None or meets(self.failing.statement, sample) is False
            )
        except ValueError:
            return False


def find(question: Question, rows: Sequence[Row], space: Space, budget: Budget) -> Sample | None:
    """A sample law for one alternative of a question, or None.

    Raises: TooLarge when the time is up.
    """
    if space.grid.opaque:  # scores alone do not say what an opaque part is
        return None
    previous: list[Candidate] = []
    for reach in ROUNDS:
        trial = space.trial(reach)
        if trial.tried != previous:
            sample = _weigh(question, rows, trial, budget)
            if sample is not None:
                return sample
        previous = trial.tried
    return None


# ---------------------------------------------------------------- weights
def _weigh(question: Question, rows: Sequence[Row], trial: Trial, budget: Budget) -> Sample | None:
    matrix = [trial.adds(row) for row in rows]
    weights = _most_slack(matrix, [row.strict for row in rows], budget)
    if weights is None:
        return None
    support = [int(index) for index in np.flatnonzero(weights > 1e-9)]
    for exact in _made_exact(matrix, weights, support):
        sample = tuple(
            _response(weight, index, trial)
            for index, weight in zip(support, exact, strict=True)
            if weight > 0
        )
        for shown in (
            (_averaged(sample), sample) if question.all[0].statement.reading == "rows" else (sample,)
        ):
            if shown and question.is_answered_by(shown):
                return shown
    return None


def _response(weight: Fraction, index: int, trial: Trial) -> Response:
    world, place = divmod(index, len(trial.tried))
    return Response(weight, trial.worlds[world].tags, trial.scores[place])


def _averaged(sample: Sample) -> Sample:
    """One row with the means, to six digits: a model has one perplexity on the user's rows."""
    if not sample:
        return sample
    means = {
        name: sum((row.weight * Fraction(row.scores[name]) for row in sample), ZERO)
        for name in sample[0].scores
    }
    scores = {name: to_decimal(Fraction(round(value * 10**6), 10**6)) for name, value in means.items()}
    return (Response(ONE, sample[0].tags, scores),)


def _most_slack(
    matrix: Sequence[Sequence[Fraction]], strict: Sequence[bool], budget: Budget
) -> NDArray[np.float64] | None:
    """Weights that sum to 1, meet every row, and leave the largest common slack in the strict ones."""
    from scipy.optimize import linprog

    size = len(matrix[0])
    floats = np.array([[float(value) for value in row] for row in matrix])
    scale = np.maximum(np.abs(floats).max(axis=1, initial=0.0), 1e-300)
    upper = np.hstack([floats / scale[:, None], np.array(strict, dtype=float)[:, None]])
    result = linprog(
        np.r_[np.zeros(size), -1.0],
        A_ub=upper,
        b_ub=np.zeros(len(matrix)),
        A_eq=np.r_[np.ones(size), 0.0][None],
        b_eq=[1.0],
        bounds=[(0.0, None)] * size + [(0.0, 1.0)],
        method="highs",
        options={"time_limit": budget.left},
    )
    if result.status != 0 or (any(strict) and result.x[-1] < LEAST_SLACK):
        return None
    return np.asarray(result.x[:size])


def _made_exact(
    matrix: Sequence[Sequence[Fraction]], weights: NDArray[np.float64], support: list[int]
) -> Iterator[list[Fraction]]:
    """Exact weights near the given ones: round numbers first, then the solution of the tight rows."""
    for denominator in DENOMINATORS:
        rounded = [Fraction(float(weights[index])).limit_denominator(denominator) for index in support]
        total = sum(rounded, ZERO)
        if total:
            yield [value / total for value in rounded]
    tight = [
        row
        for row in matrix
        if abs(sum(float(row[index]) * float(weights[index]) for index in support))
        <= 1e-9 * max(abs(float(row[index])) for index in support)
    ]
    system = [[ONE] * len(support), *([row[index] for index in support] for row in tight)]
    for chosen in islice(_square(len(tight), len(support)), 20):
        solution = solve([system[0], *(system[1 + i] for i in chosen)], [ONE, *([ZERO] * len(chosen))])
        if solution is not None and min(solution) >= 0:
            yield solution


def _square(num_rows: int, size: int) -> Iterator[tuple[int, ...]]:
    if num_rows >= size - 1:
        yield from combinations(range(num_rows), size - 1)
