"""Can some statements hold together, and can they hold while another fails: yes with a sample law, no, unknown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from constraintlang_compiler.analysis.forms import ONE, Variables
from constraintlang_compiler.analysis.limits import MAX_QUERIES, Budget, TooLarge
from constraintlang_compiler.analysis.refute import is_refuted
from constraintlang_compiler.analysis.requirements import Requirement
from constraintlang_compiler.analysis.rows import Alternatives, Mass, Row, TailBound, contradict
from constraintlang_compiler.analysis.satisfy import Question, find
from constraintlang_compiler.analysis.space import Space
from constraintlang_compiler.analysis.witness import Sample, meets


@dataclass(frozen=True)
class Answer:
    """``possible`` comes with a sample law that shows it; ``unknown`` with the reason.

    ``used`` are statements that were enough for ``impossible``.
    """

    verdict: Literal["possible", "impossible", "unknown"]
    sample: Sample | None = None
    reason: str = ""
    used: tuple[Requirement, ...] = ()

    @property
    def is_impossible(self) -> bool:
        """Whether it is proved that no law answers the question."""
        return self.verdict == "impossible"


class Decider:
    """Answers questions about statements that speak of one law; remembers what it has worked out."""

    def __init__(self, variables: Variables, budget: Budget) -> None:
        self.variables = variables
        self.budget = budget
        self._spaces: dict[tuple[Requirement, ...], Space] = {}
        self._answers: dict[tuple[Question, bool], Answer] = {}

    def ask(
        self, holding: Sequence[Requirement], failing: Requirement | None = None, *, want_sample: bool = True
    ) -> Answer:
        """Whether a law exists on which every statement of ``holding`` holds and ``failing`` fails.

        Every domain has prompts, every score is known and within its declared range. Without ``want_sample``
        the answer may be "unknown" where a sample law would have shown "possible".
        """
        question = Question(tuple(sorted(set(holding), key=lambda r: r.index)), failing)
        key = (question, want_sample or (question, True) in self._answers)
        if key not in self._answers:
            try:
                assert self.budget.left > 0
                self._answers[key] = self._answer(question, want_sample)
            except TooLarge as limit:
                return Answer("unknown", reason=str(limit))
            except RecursionError:
                return Answer("unknown", reason="a statement is nested too deeply")
        return self._answers[key]

    def ask_all(
        self,
        holding: Sequence[Requirement],
        failing: Requirement | None = None,
        *,
        surely: Sequence[Requirement] = (),
        may_be_empty: bool = False,
    ) -> Answer:
        """``ask`` for many statements: they enter only as they are broken by the sample law found so far.

        ``surely`` are those that enter at once. With ``may_be_empty`` a law without prompts in the domain of one
        of the others does not break it.
        """
        used: list[Requirement] = list(surely or ([] if failing is not None else holding[:1]))
        while True:
            answer = self.ask(used, failing)
            if answer.sample is None:
                return replace(answer, used=tuple(used))
            broken = [r for r in holding if r not in used and not _is_met(r, answer.sample, may_be_empty)]
            if not broken:
                return answer
            # Statements about scores that the law does not have wait until the others are content.
            names = {name for row in answer.sample for name in row.scores}
            scored = [r for r in broken if r.variables <= names]
            used += scored or broken[:1]

    def _answer(self, question: Question, want_sample: bool) -> Answer:
        if len({r.law for r in question.all}) > 1:
            return Answer("unknown", reason="the statements are sampled under different settings")
        if not question.all:
            return Answer("possible", ())
        if question.failing is not None and any(r.says_what(question.failing) for r in question.holding):
            return Answer("impossible")
        space = self.space(question.all)
        populated = tuple(
            Row((Mass(-ONE),), True, domain)
            for domain in dict.fromkeys(domain for r in question.all for domain in r.domains)
        )
        sides = [r.holds for r in question.holding]
        if question.failing is not None:
            sides.append(question.failing.fails)
        if want_sample:
            for rows in _alternatives([side.trial for side in sides], populated):
                sample = find(question, rows, space, self.budget)
                if sample is not None:
                    return Answer("possible", sample)
        queries = _alternatives([side.proof for side in sides], populated)
        if all(self._is_refuted(rows, space) for rows in queries):
            return Answer("impossible")
        return Answer("unknown", reason="no sample law was found, and none was excluded")

    def _is_refuted(self, rows: Sequence[Row], space: Space) -> bool:
        matrix = [space.adds(row) for row in rows]
        return is_refuted(matrix, [row.strict for row in rows], space.columns, self.budget)

    def space(self, subjects: Iterable[Requirement]) -> Space:
        """What some statements can tell apart.

        Raises: TooLarge.
        """
        key = tuple(sorted(set(subjects), key=lambda r: r.index))
        if key not in self._spaces:
            self._spaces[key] = Space(key, self.variables)
        return self._spaces[key]


def _alternatives(sides: Sequence[Alternatives], populated: tuple[Row, ...]) -> list[tuple[Row, ...]]:
    """Every combination of one alternative of each side, with the rows that all of them share."""
    count = 1
    for side in sides:
        count *= len(side)
    if count > MAX_QUERIES:
        raise TooLarge(f"{count:,} alternatives have to be tried")
    found = []
    for chosen in product(*sides):
        together = [row for rows in chosen for row in rows]
        if not contradict([row for row in together if isinstance(row, TailBound)]):
            rows = [row for row in together if isinstance(row, Row)]
            found.append(tuple(dict.fromkeys((*populated, *rows))))
    return found


def _is_met(subject: Requirement, sample: Sample, may_be_empty: bool) -> bool:
    try:
        met = meets(subject.statement, sample)
    except ValueError:  # what the reference interpreter does not know has to be worked out
        return False
    return may_be_empty if met is None else met
