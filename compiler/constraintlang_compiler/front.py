"""Checking and lowering together: all that `check` needs, without the modules of the artifact."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from constraintlang import check_source
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.checker import CheckResult, policy_of
from constraintlang.diagnostics import Diagnostic, PolicyError, sort_diagnostics
from constraintlang.memory import Memory, all_within
from constraintlang.source import SourceFile
from constraintlang_compiler.allows import (
    Allow,
    Allowed,
    apply_allows,
    apply_imported,
    judged_by_check,
    read_allows,
)
from constraintlang_compiler.constant_conditions import check_constant_conditions
from constraintlang_compiler.data_files import data_files
from constraintlang_compiler.ir import PolicyIR
from constraintlang_compiler.lower import Lowered, lower_with_origins
from constraintlang_compiler.patterns import check_patterns

_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)


@dataclass(frozen=True)
class Front:
    """What is known of a source: clauses unless there are errors, and the findings of all stages, sorted.

    ``files`` are the word lists that attributes name; ``allowed`` are the findings that a comment allows, which
    ``diagnostics`` do not hold.
    """

    checked: CheckedPolicy | None
    lowered: Lowered | None
    diagnostics: tuple[Diagnostic, ...]
    files: Mapping[str, Path] = field(default_factory=dict)
    allowed: tuple[Allowed, ...] = ()
    allows: tuple[Allow, ...] = field(default=(), repr=False)

    def require(self) -> tuple[CheckedPolicy, PolicyIR]:
        """The policy, checked and lowered, of a source that has no errors."""
        if self.checked is None or self.lowered is None:
            raise ValueError("a policy with errors has no clauses: look at `diagnostics` first")
        return self.checked, self.lowered.ir

    def with_findings(self, found: Sequence[Diagnostic], judged: Callable[[str], bool]) -> Front:
        """The same with the findings of another stage, less those that a comment allows.

        ``judged`` says for which codes ``found`` are all that there are, as for ``apply_allows``.
        """
        complete = not any(finding.is_error for finding in self.diagnostics)
        kept, allowed = apply_allows(self.allows, found, judged if complete else _nothing)
        diagnostics = tuple(sort_diagnostics([*self.diagnostics, *kept]))
        return replace(self, diagnostics=diagnostics, allowed=(*self.allowed, *allowed))


def _nothing(code: str) -> bool:
    return False


def check_and_lower(source: SourceFile, *, allow_path: bool = False, judge_tests: bool = True) -> Front:
    """Check a source and lower it; never raises for what its author wrote.

    ``allow_path`` lets the policy import and name files outside its folder. Without ``judge_tests`` a test that
    contradicts the policy is no error.
    INVARIANT: a source without errors here compiles.
    """
    result = check_source(source, allow_path=allow_path, judge_tests=judge_tests)
    attributes = () if result.policy is None else result.policy.attributes.values()
    patterns = check_patterns(result.tree, attributes)
    if result.policy is None:
        return _front(result, None, patterns)
    files, found = data_files(attributes, source, allow_path=allow_path)
    lowered = None
    try:
        lowered = lower_with_origins(result.policy, source)
    except PolicyError as error:
        found.extend(error.diagnostics)
    else:
        found.extend([*lowered.warnings, *check_constant_conditions(result.policy.statements, lowered)])
    return _front(result, lowered, [*patterns, *found], files)


def _front(
    result: CheckResult,
    lowered: Lowered | None,
    found: Sequence[Diagnostic],
    files: Mapping[str, Path] | None = None,
) -> Front:
    allows, misspelt = read_allows(result.tree, result.source)
    kept, elsewhere = apply_imported([*result.diagnostics, *misspelt, *found])
    diagnostics, allowed = apply_allows(allows, kept, judged_by_check)
    allowed += elsewhere
    if lowered is None or any(finding.is_error for finding in diagnostics):
        return Front(None, None, diagnostics, {}, allowed, allows)
    return Front(result.policy, lowered, diagnostics, files or {}, allowed, allows)


# ---------------------------------------------------------------- while a file is being edited
@dataclass(frozen=True)
class Findings:
    """The findings of ``check_and_lower``, and what they were found on."""

    result: CheckResult
    diagnostics: tuple[Diagnostic, ...]


def findings(source: SourceFile, memory: Memory, *, allow_path: bool = False) -> Findings:
    """What ``check_and_lower`` finds, at the cost of what changed since the last call with this memory."""
    result = check_source(source, memory, allow_path=allow_path)
    attributes = () if result.policy is None else result.policy.attributes.values()
    found = check_patterns(result.tree, attributes)
    if result.policy is not None:
        found += data_files(attributes, source, allow_path=allow_path)[1]
        memory.begin("lowered")
        lowered = [
            d for statement in result.policy.statements for d in _of_lowering(statement, result, memory)
        ]
        # Lowering everything says nothing of the others once a statement is rejected.
        rejected = any(d.is_error for d in lowered)
        found += [d for d in lowered if d.is_error or not rejected]
    return Findings(result, _front(result, None, found).diagnostics)


def lower_alone(statement: CheckedStatement, result: CheckResult) -> Lowered:
    """The clauses of one statement, whether or not others have errors.

    Raises: PolicyError when it cannot be lowered.
    """
    return lower_with_origins(policy_of(result.declarations, [statement]), result.source)


def _of_lowering(statement: CheckedStatement, result: CheckResult, memory: Memory) -> tuple[Diagnostic, ...]:
    """What lowering says of a statement."""

    def lower() -> tuple[Diagnostic, ...]:
        try:
            lowered = lower_alone(statement, result)
            return (*lowered.warnings, *check_constant_conditions([statement], lowered))
        except PolicyError as error:
            return error.diagnostics

    assert statement.span is not None
    place, known = statement.span, result.declarations.attributes
    attributes = tuple(
        (name, known[name].type, known[name].low, known[name].high, known[name].direction)
        for name in sorted(known.keys() & set(_NAME.findall(statement.text)))
    )
    # The text of the file, not only the canonical one: a rejection points into it.
    key = (result.source.extract(place), statement.text, tuple(statement.per.items()), attributes)
    return memory.recall("lowered", key, place.start, lower, lambda value: all_within(value, place))
