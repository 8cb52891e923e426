"""The difference of two policies as text: their canonical forms, line by line."""

from __future__ import annotations

from difflib import unified_diff

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
    policies = (compile_source(source, allow_path=allow_path) for source in (old, new))
    before, after = (canonical_policy(policy.ir).splitlines() for policy in policies)
    return "\n".join(unified_diff(before, after, old.name, new.name, lineterm="", n=0))
