"""Checking and lowering together: all that `check` needs, without the modules of the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from constraintlang import check_source
from constraintlang.checked import CheckedPolicy
from constraintlang.diagnostics import Diagnostic, PolicyError, sort_diagnostics
from constraintlang.source import SourceFile
from constraintlang_compiler.constant_conditions import check_constant_conditions
from constraintlang_compiler.data_files import data_files
from constraintlang_compiler.ir import PolicyIR
from constraintlang_compiler.lower import Lowered, lower_with_origins
from constraintlang_compiler.patterns import check_patterns


@dataclass(frozen=True)
class Front:
    """What is known of a source: clauses unless there are errors, and the findings of all stages, sorted.

    ``files`` are the word lists that attributes name.
    """

    checked: CheckedPolicy | None
    lowered: Lowered | None
    diagnostics: tuple[Diagnostic, ...]
    files: Mapping[str, Path] = field(default_factory=dict)

    def require(self) -> tuple[CheckedPolicy, PolicyIR]:
        """The policy, checked and lowered, of a source that has no errors."""
        if self.checked is None or self.lowered is None:
            raise ValueError("a policy with errors has no clauses: look at `diagnostics` first")
        return self.checked, self.lowered.ir


def check_and_lower(source: SourceFile, *, allow_path: bool = False, judge_tests: bool = True) -> Front:
    """Check a source and lower it; never raises for what its author wrote.

    ``allow_path`` lets the policy import and name files outside its folder. Without ``judge_tests`` a test that
    contradicts the policy is no error.
    INVARIANT: a source without errors here compiles.
    """
    result = check_source(source, allow_path=allow_path, judge_tests=judge_tests)
    attributes = () if result.policy is None else result.policy.attributes.values()
    found = [*result.diagnostics, *check_patterns(result.tree, attributes)]
    lowered = None
    files: Mapping[str, Path] = {}
    if result.policy is not None:
        files, missing = data_files(attributes, source, allow_path=allow_path)
        found.extend(missing)
        try:
            lowered = lower_with_origins(result.policy, source)
        except PolicyError as error:
            found.extend(error.diagnostics)
        else:
            found.extend([*lowered.warnings, *check_constant_conditions(result.policy, lowered)])
    diagnostics = tuple(sort_diagnostics(found))
    if any(finding.is_error for finding in diagnostics):
        return Front(None, None, diagnostics)
    return Front(result.policy, lowered, diagnostics, files)
