"""The exceptions that a Python caller of the compiler sees.

ConstraintLangError             root of the whole project (defined by the language)
├── PolicyError                 the policy is wrong; carries every diagnostic (defined by the language) (3)
└── CompilerFailure             what the caller, not the policy, got wrong
    ├── SourceError             a policy file is missing or unreadable (2)
    ├── ArtifactError           a compiled directory is missing, incomplete, altered or too new (2)
    ├── LockError               a lock is missing, unreadable or too new (2)
    ├── TargetError             clauses, samples or indexes do not fit the auxiliary model's target (2)
    ├── StratumError            the data have no strata, or too many, for a statement with `per` (2)
    └── ScoreRangeError         a score is unknown where it must be known, or outside its declared range (4)

The number is the exit code of a command that ends with the error.

Every message says what was got, what was expected and what to do.
"""

from __future__ import annotations

from constraintlang.diagnostics import PolicyError
from constraintlang.errors import ConstraintLangError

__all__ = [
    "ArtifactError",
    "CompilerFailure",
    "LockError",
    "PolicyError",
    "ScoreRangeError",
    "SourceError",
    "StratumError",
    "TargetError",
]


class CompilerFailure(ConstraintLangError):
    """Root of the compiler's errors: ``message`` says what was got and expected, ``help`` what to do."""

    exit_code = 2

    def __init__(self, message: str, *, help: str | None = None) -> None:
        super().__init__(message if help is None else f"{message}\n  help: {help}")
        self.message = message
        self.help = help


class SourceError(CompilerFailure):
    """A policy file is missing or unreadable."""


class ArtifactError(CompilerFailure):
    """A compiled directory is missing, incomplete, altered or written by a newer format."""


class LockError(CompilerFailure):
    """A lock is missing, unreadable or written by a newer format."""


class TargetError(CompilerFailure):
    """Clauses, samples or indexes do not fit the target of the auxiliary model."""


class StratumError(CompilerFailure):
    """The data have no strata, or too many, for a statement with ``per``."""


class ScoreRangeError(CompilerFailure):
    """A score lies outside the declared range of its attribute, or is unknown where it must be known."""

    exit_code = 4

    def __init__(self, attribute: str, index: int, value: float, expected: str) -> None:
        super().__init__(
            f"got {value!r} as the score of `{attribute}` at index {index}, expected {expected}",
            help=f"correct the scorer of `{attribute}`, or declare the range that it really has",
        )
        self.attribute = attribute
        self.index = index
        self.value = value
        self.expected = expected
