"""Checking and lowering together: all that `check` needs, without the modules of the artifact."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from constraintlang import check_source
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.checker import CheckResult, policy_of
from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.memory import Memory, all_within
from constraintlang.source import SourceFile
from constraintlang_compiler.allows import Allow, Allowed, apply_allows, read_allows
from constraintlang_compiler.lower import Lowered, lower_with_origins

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Front:
    """What is known of a source: clauses unless there are errors, and the findings of all stages, sorted.

    ``allowed`` are the findings that a comment allows, which ``diagnostics`` do not hold.
    """

    checked: CheckedPolicy | None
    lowered: Lowered | None
    diagnostics: tuple[Diagnostic, ...]
    allowed: tuple[Allowed, ...] = ()
    allows: tuple[Allow, ...] = field(default=(), repr=False)


def check_and_lower(source: SourceFile) -> Front:
    """Check a source and lower it; never raises for what its author wrote.

    INVARIANT: a source without errors here compiles.
    """
    result = check_source(source)
    if result.policy is None:
        return _front(result, None, ())
    try:
        lowered = lower_with_origins(result.policy, source)
    except PolicyError as error:
        return _front(result, None, error.diagnostics)
    return _front(result, lowered, ())


def _front(result: CheckResult, lowered: Lowered | None, found: Sequence[Diagnostic]) -> Front:
    allows, misspelt = read_allows(result.tree, result.source)
    diagnostics, allowed = apply_allows(allows, [*result.diagnostics, *misspelt, *found])
    checked = None if lowered is None else result.policy
    return Front(checked, lowered, diagnostics, allowed, allows)


# ---------------------------------------------------------------- while a file is being edited
@dataclass(frozen=True)
class Findings:
    """The findings of ``check_and_lower``, and what they were found on."""

    result: CheckResult
    diagnostics: tuple[Diagnostic, ...]


def findings(source: SourceFile, memory: Memory) -> Findings:
    """What ``check_and_lower`` finds, at the cost of what changed since the last call with this memory."""
    result = check_source(source, memory)
    found: list[Diagnostic] = []
    if result.policy is not None:
        memory.begin("lowered")
        for statement in result.policy.statements:
            found += _rejections(statement, result, memory)
    return Findings(result, _front(result, None, found).diagnostics)


def lower_alone(statement: CheckedStatement, result: CheckResult) -> Lowered:
    """The clauses of one statement, whether or not others have errors.

    Raises: PolicyError when it cannot be lowered.
    """
    return lower_with_origins(policy_of(result.declarations, [statement]), result.source)


def _rejections(statement: CheckedStatement, result: CheckResult, memory: Memory) -> tuple[Diagnostic, ...]:
    def lower() -> tuple[Diagnostic, ...]:
        try:
            lower_alone(statement, result)
        except PolicyError as error:
            return error.diagnostics
        return ()

    assert statement.span is not None
    place, known = statement.span, result.declarations.attributes
    attributes = tuple(
        (name, known[name].type, known[name].low, known[name].high, known[name].direction)
        for name in sorted(known.keys() & set(_WORD.findall(statement.text)))
    )
    # The text of the file, not only the canonical one: a rejection points into it.
    key = (result.source.extract(place), statement.text, attributes)
    return memory.recall("lowered", key, place.start, lower, lambda value: all_within(value, place))
