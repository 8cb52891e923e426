"""Policy arguments of the command line: a file, a compiled directory, or ``-`` for standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.source import SourceFile
from constraintlang_compiler.sources import MAX_SOURCE_BYTES, decode_source, read_source

if TYPE_CHECKING:
    from constraintlang.checked import CheckedPolicy
    from constraintlang_compiler.artifact import CompiledPolicy
    from constraintlang_compiler.ir import PolicyIR


def read_argument(name: str) -> SourceFile:
    """The source named by an argument.

    Raises: SourceError when it is missing, not UTF-8 or too large.
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


def read_policy(name: str) -> tuple[CheckedPolicy, PolicyIR, SourceFile, tuple[Diagnostic, ...]]:
    """The checked and the lowered policy named by an argument, with its source and the findings.

    A test that contradicts the policy is no error here. Of a compiled directory the source that it holds is read.
    Raises: PolicyError with every finding; SourceError; ArtifactError.
    """
    from constraintlang_compiler.front import check_and_lower

    if name != "-" and Path(name).is_dir():
        from constraintlang_compiler.artifact import CompiledPolicy

        source = CompiledPolicy.load(name).source
    else:
        source = read_argument(name)
    front = check_and_lower(source, judge_tests=False)
    if front.checked is None or front.lowered is None:
        raise PolicyError(front.diagnostics, source)
    return front.checked, front.lowered.ir, source, front.diagnostics


def policy_folder(name: str) -> Path:
    """The folder that files named in the policy are relative to."""
    path = Path(name)
    return Path.cwd() if name == "-" else path if path.is_dir() else path.parent
