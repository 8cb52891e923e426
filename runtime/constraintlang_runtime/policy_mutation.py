"""Mutation: which small mistakes in the statements of a policy its tests would not notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constraintlang.mutants import Mutant, mutants
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.policy_tests import CaseResult, Runner, TestResult

MAX_JUDGEMENTS = 200_000


@dataclass(frozen=True)
class Mutation:
    """The mutants of the statements that the tests judge, and those that no case fails on."""

    num_mutants: int
    survivors: tuple[Mutant, ...]


def mutate(runner: Runner, results: Sequence[TestResult]) -> Mutation:
    """Judge every passing case again on every mutant of each statement that it is about.

    A statement that no passing case is about has no mutants here: coverage reports it.
    Raises: ConfigError when this would take too long.
    """
    watching: dict[int, list[tuple[CaseResult, int]]] = {}
    for result in results:
        for case in result.cases:
            for position, index in enumerate(case.case.statements if case.status == "passed" else ()):
                watching.setdefault(index, []).append((case, position))
    total, judgements, survivors = 0, 0, []
    for index, cases in sorted(watching.items()):
        for mutant in mutants(runner.policy.statements[index], runner.policy.attributes):
            total += 1
            judgements += len(cases)
            if judgements > MAX_JUDGEMENTS:
                raise ConfigError(
                    f"more than {MAX_JUDGEMENTS:,} pairs of a mutant and a case",
                    help="choose tests with --only, or split the policy",
                    parameter="mutation",
                )
            if all(runner.meets(case, position, mutant.statement) for case, position in cases):
                survivors.append(mutant)
    survivors.sort(key=lambda mutant: mutant.span.start)
    return Mutation(total, tuple(survivors))
