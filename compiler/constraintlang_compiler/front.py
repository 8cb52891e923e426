"""Checking and lowering together: all that `check` needs, without the modules of the artifact."""

from __future__ import annotations

from dataclasses import dataclass

from constraintlang import check_source
from constraintlang.checked import CheckedPolicy
from constraintlang.diagnostics import Diagnostic, PolicyError, sort_diagnostics
from constraintlang.source import SourceFile
from constraintlang_compiler.constant_conditions import check_constant_conditions
from constraintlang_compiler.lower import Lowered, lower_with_origins
from constraintlang_compiler.patterns import check_patterns


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
    found = [*result.diagnostics, *check_patterns(result.tree)]
    lowered = None
    if result.policy is not None:
        try:
            lowered = lower_with_origins(result.policy, source)
        except PolicyError as error:
            found.extend(error.diagnostics)
        else:
            found.extend([*lowered.warnings, *check_constant_conditions(result.policy, lowered)])
    diagnostics = tuple(sort_diagnostics(found))
    if any(d.is_error for d in diagnostics):
        return Front(None, None, diagnostics)
    return Front(result.policy, lowered, diagnostics)
