"""The statements of a checked policy as requirements, and which of them can touch each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang_compiler.analysis.forms import Variables
from constraintlang_compiler.analysis.requirements import Requirement, requirement
from constraintlang_compiler.analysis.rows import NotAnalysed


@dataclass(frozen=True)
class Skipped:
    """A statement that is not understood, and why."""

    index: int
    statement: CheckedStatement
    reason: str


@dataclass(frozen=True)
class Subjects:
    """What can be analysed of a policy, and what cannot."""

    variables: Variables
    requirements: tuple[Requirement, ...]
    skipped: tuple[Skipped, ...]


def subjects_of(policy: CheckedPolicy) -> Subjects:
    """The requirements of a policy, in the order of its statements."""
    variables = Variables(policy.attributes)
    found: list[Requirement] = []
    skipped: list[Skipped] = []
    for index, statement in enumerate(policy.statements):
        try:
            found.append(requirement(statement, index, variables))
        except NotAnalysed as reason:
            skipped.append(Skipped(index, statement, str(reason)))
    return Subjects(variables, tuple(found), tuple(skipped))


def components(subjects: Sequence[Requirement]) -> list[list[Requirement]]:
    """Groups of requirements that share a law and, directly or through others, a variable."""
    groups: list[tuple[tuple[object, ...], set[str], list[Requirement]]] = []
    for subject in subjects:
        mine = (subject.law, set(subject.variables), [subject])
        apart = []
        for group in groups:
            if group[0] == mine[0] and group[1] & mine[1]:
                mine = (mine[0], mine[1] | group[1], [*group[2], *mine[2]])
            else:
                apart.append(group)
        groups = [*apart, mine]
    ordered = [sorted(members, key=lambda r: r.index) for _, _, members in groups]
    return sorted(ordered, key=lambda members: members[0].index)
