"""The difference of two policies as text: their canonical forms, line by line."""

from __future__ import annotations

from difflib import unified_diff

from msgspec.structs import replace

from constraintlang import check_source
from constraintlang.checked import CheckedPolicy
from constraintlang.source import SourceFile
from constraintlang_compiler.emit import canonical_policy
from constraintlang_compiler.pipeline import compile_source


def checked_policy(source: SourceFile, *, allow_path: bool = False) -> CheckedPolicy:
    """A policy without errors.

    Raises: PolicyError with every finding.
    """
    return check_source(source, allow_path=allow_path).require()


def canonical_diff(old: SourceFile, new: SourceFile, *, allow_path: bool = False) -> str:
    """A unified diff of the canonical texts, empty when they mean the same.

    Raises: PolicyError for a policy that does not compile.
    """
    before, after = (_lines(source, allow_path) for source in (old, new))
    return "\n".join(unified_diff(before, after, old.name, new.name, lineterm="", n=0))


def _lines(source: SourceFile, allow_path: bool) -> list[str]:
    # In the order of the source: by hash, a statement would move whenever it changes.
    policy = compile_source(source, allow_path=allow_path)
    return canonical_policy(replace(policy.ir, clauses=policy.clauses_as_written)).splitlines()
