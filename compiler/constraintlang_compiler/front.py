"""Checking and lowering together: all that `check` needs, without the modules of the artifact."""

from __future__ import annotations

from dataclasses import dataclass

from constraintlang import check_source
from constraintlang.checked import CheckedPolicy
from constraintlang.diagnostics import Diagnostic, PolicyError, sort_diagnostics
from constraintlang.source import SourceFile
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
    return Front(result.policy, lowered, tuple(sort_diagnostics([*result.diagnostics, *lowered.warnings])))
