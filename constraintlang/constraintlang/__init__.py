"""The language: text to tree and back, checked."""

from __future__ import annotations

from constraintlang.checker import CheckResult, check_source
from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.errors import ConstraintLangError
from constraintlang.parser import parse
from constraintlang.printer import format_policy
from constraintlang.source import SourceFile, Span
from constraintlang.version import VERSION

__version__ = VERSION

LANGUAGE_EDITION = 1

__all__ = [
    "LANGUAGE_EDITION",
    "CheckResult",
    "ConstraintLangError",
    "Diagnostic",
    "PolicyError",
    "SourceFile",
    "Span",
    "check_source",
    "format_policy",
    "parse",
]
