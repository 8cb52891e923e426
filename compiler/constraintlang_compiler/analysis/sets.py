"""Smallest sets of statements that conflict, or that imply another one, by the deletion filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from constraintlang_compiler.analysis.decide import Decider
from constraintlang_compiler.analysis.requirements import Requirement


def smallest_conflict(subjects: Sequence[Requirement], decider: Decider) -> list[Requirement] | None:
    """Statements that cannot all hold, though they can without any one of them (as far as can be proved).

    None when it is not proved that all of them together cannot hold.
    """
    return _filtered(subjects, lambda kept: decider.ask(kept, want_sample=False).is_impossible)


def smallest_support(
    subject: Requirement, others: Sequence[Requirement], decider: Decider
) -> list[Requirement] | None:
    """Statements that imply ``subject``, none of which can be left out; one alone where one is enough."""

    def imply(kept: Sequence[Requirement]) -> bool:
        return decider.ask(kept, subject, want_sample=False).is_impossible

    together = decider.ask_all(others, subject)
    if together.verdict == "possible":
        return None
    for other in others:
        if imply([other]):
            return [other]
    return _filtered(together.used, imply) if together.is_impossible else None


def _filtered(
    subjects: Sequence[Requirement], suffice: Callable[[Sequence[Requirement]], bool]
) -> list[Requirement] | None:
    if not suffice(subjects):
        return None
    kept = list(subjects)
    for subject in subjects:
        fewer = [other for other in kept if other is not subject]
        if suffice(fewer):
            kept = fewer
    return kept
