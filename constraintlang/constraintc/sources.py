"""Policy arguments of the command line: a file, a compiled directory, or ``-`` for standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.source import SourceFile
from constraintlang_compiler.sources import MAX_SOURCE_BYTES, decode_source, read_source

if TYPE_CHECKING:
    from constraintlang_compiler.artifact import CompiledPolicy


def read_argument(name: str) -> SourceFile:
    """The source named by an argument.

    Raises: SourceError when it is missing; PolicyError when it is not UTF-8 or too large.
    """
    if name == "-":
        return decode_source(sys.stdin.buffer.read(MAX_SOURCE_BYTES + 1), "<stdin>")
    return read_source(name)


def compile_argument(name: str) -> tuple[CompiledPolicy, tuple[Diagnostic, ...]]:
    """The policy named by an argument, and what was found while compiling it (nothing for a compiled
    directory).

    Raises: PolicyError with every finding; SourceError; ArtifactError.
    """
    from constraintlang_compiler.pipeline import compile_path, compile_with_diagnostics

    if name != "-" and Path(name).is_dir():
        return compile_path(name), ()
    source = read_argument(name)
    outcome = compile_with_diagnostics(source)
    if outcome.policy is None:
        raise PolicyError(outcome.diagnostics, source)
    return outcome.policy, outcome.diagnostics


def policy_folder(name: str) -> Path:
    """The folder that files named in the policy are relative to."""
    path = Path(name)
    return Path.cwd() if name == "-" else path if path.is_dir() else path.parent
