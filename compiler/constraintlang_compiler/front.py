"""Checking and lowering together: all that `check` needs, without the modules of the artifact."""

from __future__ import annotations

from dataclasses import dataclass

from constraintlang import check_source
from constraintlang.checked import CheckedPolicy
from constraintlang.diagnostics import Diagnostic, PolicyError, sort_diagnostics
from constraintlang.source import SourceFile
from constraintlang_compiler.ir import Indicator, Literally
from constraintlang_compiler.lower import Lowered, lower_with_origins


@dataclass(frozen=True)
class Front:
    """What is known of a source: clauses unless there are errors, and the findings of all stages, sorted."""

    checked: CheckedPolicy | None
    lowered: Lowered | None
    diagnostics: tuple[Diagnostic, ...]


def check_and_lower(source: SourceFile) -> Front:
    """Check a source and lower it; never raises for what its author wrote.

    INVARIANT: a source without errors here compiles.
    """
    result = check_source(source)
    if result.policy is None:
        return Front(None, None, tuple(result.diagnostics))
    try:
        lowered = lower_with_origins(result.policy, source)
    except PolicyError as error:
        return Front(None, None, tuple(sort_diagnostics([*result.diagnostics, *error.diagnostics])))
    empty = _decided_in_advance(result.policy, lowered)
    if empty:
        return Front(None, None, tuple(sort_diagnostics([*result.diagnostics, *empty])))
    return Front(result.policy, lowered, tuple(result.diagnostics))


def _decided_in_advance(policy: CheckedPolicy, lowered: Lowered) -> list[Diagnostic]:
    """PC226 for what names an attribute and is still true or false before any score is known."""
    found = []
    for clause, origins in zip(lowered.ir.clauses, lowered.origins, strict=True):
        if not isinstance(clause.statistic, Indicator) or not isinstance(
            clause.statistic.predicate, Literally
        ):
            continue
        for statement in (policy.statements[index] for index in origins):
            message = "a condition here is true or false whatever the scores are"
            help = "remove what decides it: a comparison of two numbers, `true` or `false`"
            found.append(Diagnostic("PC226", "error", statement.formula.span, message, help=help))
    return found
