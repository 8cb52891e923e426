"""The passes in order: text, checked policy, clauses, compiled policy; only this module knows them all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from constraintlang import parse
from constraintlang.checked import CheckedStatement
from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.nodes import NO_SPAN, Import
from constraintlang.source import SourceFile
from constraintlang_compiler.artifact import IR_NAME, CompiledPolicy, compiled
from constraintlang_compiler.artifact_format import Position
from constraintlang_compiler.errors import ArtifactError
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.sources import read_source
from constraintlang_policies.library import PREFIX


@dataclass(frozen=True)
class Compilation:
    """The outcome for one source: a compiled policy unless there are errors, and all findings, sorted."""

    policy: CompiledPolicy | None
    diagnostics: tuple[Diagnostic, ...]


def compile_with_diagnostics(source: SourceFile, *, allow_path: bool = False) -> Compilation:
    """Check and lower a source; never raises for what its author wrote."""
    front = check_and_lower(source, allow_path=allow_path)
    if front.lowered is None or front.checked is None:
        return Compilation(None, front.diagnostics)
    statements = front.checked.statements
    positions = tuple(
        tuple(_position(statements[i], source) for i in indexes) for indexes in front.lowered.origins
    )
    return Compilation(compiled(front.lowered.ir, positions, source, front.files), front.diagnostics)


def compile_source(source: SourceFile, *, allow_path: bool = False) -> CompiledPolicy:
    """Compile the text of a policy.

    ``allow_path`` lets the policy import and name files outside its folder.
    Raises: PolicyError with every finding when there is an error among them.

    >>> policy = compile_source(SourceFile("always toxicity < 0.5"))
    >>> policy.ir.clauses[0].hard
    True
    """
    outcome = compile_with_diagnostics(source, allow_path=allow_path)
    if outcome.policy is None:
        raise PolicyError(outcome.diagnostics, source)
    return outcome.policy


def compile_path(path: str | os.PathLike[str], *, allow_path: bool = False) -> CompiledPolicy:
    """Compile a ``.policy`` file, or load a directory that ``constraintc compile`` wrote.

    Raises: PolicyError (the policy is wrong, or no UTF-8), SourceError (no such file), ArtifactError (the directory
    holds no compiled policy, or an altered one).
    """
    place = Path(path)
    if os.path.isdir(place):
        if not (place / IR_NAME).exists():
            raise ArtifactError(
                f"the directory `{place}` holds no compiled policy (no `{IR_NAME}`)",
                help="name a `.policy` file, or compile one with `constraintc compile my.policy -o DIR`",
            )
        return load_compiled(place)
    return compile_source(read_source(place), allow_path=allow_path)


def load_compiled(directory: str | os.PathLike[str]) -> CompiledPolicy:
    """``CompiledPolicy.load``, and compile the source in it again, where it stands alone: hashes can be made to fit.

    Raises: ArtifactError when what is loaded is not what the source says.
    """
    policy = CompiledPolicy.load(directory)
    items = parse(policy.source)[0].items
    if any(isinstance(item, Import) and not item.path.startswith(PREFIX) for item in items):
        return policy
    again = compile_with_diagnostics(policy.source).policy
    if again is None or _said(again) != _said(policy):
        raise ArtifactError(
            f"`{directory}` was altered, or compiled by another release: its clauses are not those of its source",
            help="compile the policy again with `constraintc compile`",
        )
    return policy


def _said(policy: CompiledPolicy) -> tuple[object, ...]:
    """What a policy means, and what its verdicts are called."""
    return (policy.semantic_hash, *((clause.label, clause.text) for clause in policy.ir.clauses))


def _position(statement: CheckedStatement, source: SourceFile) -> Position:
    span = statement.span or NO_SPAN
    line, column = source.position(span.start)
    end_line, end_column = source.position(span.end)
    return Position(
        label=statement.label,
        text=statement.text,
        line=line,
        column=column,
        end_line=end_line,
        end_column=end_column,
    )
