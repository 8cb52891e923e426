"""Can these statements hold together, and can they hold while that one fails: yes with a sample law, no, unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from constraintlang_compiler.analysis.forms import ZERO, Form, Variables
from constraintlang_compiler.analysis.grid import Grid
from constraintlang_compiler.analysis.limits import MAX_QUERIES, Budget, TooLarge
from constraintlang_compiler.analysis.refute import is_refuted
from constraintlang_compiler.analysis.regions import Region, columns_of, regions_of
from constraintlang_compiler.analysis.requirements import Mass, Moment, Requirement, Row, TruthOf
from constraintlang_compiler.analysis.satisfy import Question, find
from constraintlang_compiler.analysis.witness import Sample
from constraintlang_compiler.analysis.worlds import World, worlds_of


@dataclass(frozen=True)
class Answer:
    """``possible`` comes with a sample law that shows it; ``unknown`` with the reason."""

    verdict: Literal["possible", "impossible", "unknown"]
    sample: Sample | None = None
    reason: str = ""

    @property
    def is_impossible(self) -> bool:
        """Whether it is proved that no law answers the question."""
        return self.verdict == "impossible"


@dataclass(frozen=True)
class _Space:
    """What the statements of a question can tell apart."""

    grid: Grid
    moments: list[Form]
    regions: list[Region]
    worlds: list[World]


class Decider:
    """Answers questions about statements that speak of one law; remembers what it has worked out."""

    def __init__(self, variables: Variables, budget: Budget) -> None:
        self.variables = variables
        self.budget = budget
        self._spaces: dict[tuple[Requirement, ...], _Space] = {}
        self._answers: dict[tuple[Question, bool], Answer] = {}

    def ask(
        self, holding: Sequence[Requirement], failing: Requirement | None = None, *, want_sample: bool = True
    ) -> Answer:
        """Whether a law exists on which every statement of ``holding`` holds and ``failing`` fails.

        Every domain has prompts, every score is known and within its declared range. Without ``want_sample``
        the answer may be "unknown" where a sample law would have shown "possible".
        """
        question = Question(tuple(sorted(holding, key=lambda r: r.index)), failing)
        key = (question, want_sample)
        if key not in self._answers:
            try:
                self._answers[key] = self._answer(question, want_sample)
            except TooLarge as limit:
                return Answer("unknown", reason=str(limit))
        return self._answers[key]

    def _answer(self, question: Question, want_sample: bool) -> Answer:
        if len({r.law for r in question.all}) > 1:
            return Answer("unknown", reason="the statements are sampled under different settings")
        alternatives = [r.holds for r in question.holding]
        if question.failing is not None:
            alternatives.append(question.failing.fails)
        count = 1
        for choice in alternatives:
            count *= len(choice)
        if count > MAX_QUERIES:
            raise TooLarge(f"{count:,} alternatives have to be tried")
        space = self._space(question.all)
        populated = tuple(
            Row((Mass(-1 + ZERO),), True, domain)
            for domain in dict.fromkeys(domain for r in question.all for domain in r.domains)
        )
        queries = [
            tuple(dict.fromkeys((*populated, *(row for rows in chosen for row in rows))))
            for chosen in product(*alternatives)
        ]
        if want_sample:
            for rows in queries:
                sample = find(question, rows, space.grid, space.regions, space.worlds, self.budget)
                if sample is not None:
                    return Answer("possible", sample)
        if all(self._is_refuted(rows, space) for rows in queries):
            return Answer("impossible")
        return Answer("unknown", reason="no sample law was found, and none was excluded")

    def _is_refuted(self, rows: Sequence[Row], space: _Space) -> bool:
        columns = columns_of(space.regions, space.moments, len(space.worlds))
        one_world = columns[: len(columns) // len(space.worlds)]
        matrix = []
        for row in rows:
            added = [sum((column.adds(part) for part in row.parts), ZERO) for column in one_world]
            matrix.append(
                [value if row.domain in world.inside else ZERO for world in space.worlds for value in added]
            )
        return is_refuted(matrix, [row.strict for row in rows], columns, self.budget)

    def _space(self, requirements: tuple[Requirement, ...]) -> _Space:
        key = tuple(sorted(requirements, key=lambda r: r.index))
        if key not in self._spaces:
            parts = [part for r in key for row in r.rows for part in row.parts]
            formulas = list(dict.fromkeys(part.formula for part in parts if isinstance(part, TruthOf)))
            moments: list[Form] = list(dict.fromkeys(part.form for part in parts if isinstance(part, Moment)))
            grid = Grid(formulas, moments, self.variables)
            worlds = worlds_of(domain for r in key for domain in r.domains)
            self._spaces[key] = _Space(grid, moments, regions_of(grid, moments), worlds)
        return self._spaces[key]
