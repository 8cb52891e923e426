"""The records of the files of an artifact, and the way between them and the IR, away from the disk."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Literal

from pydantic import Field

from constraintlang_compiler.canonical import Json, record_json
from constraintlang_compiler.ir import (
    AttributeRecord,
    Clause,
    DecimalText,
    DomainPredicate,
    PolicyIR,
    Record,
    Shown,
    Statistic,
)

FORMAT: Literal["constraintc.ir"] = "constraintc.ir"
MAP_FORMAT: Literal["constraintc.map"] = "constraintc.map"
VERSION = "1.0"

Hash = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
SafeInt = Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1)]  # what canonical JSON can hold
VersionText = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+$")]


class ClauseSemantics(Record):
    """A clause without its label and text: the fields of ``ir.Clause``, described there."""

    id: Hash
    kind: Literal["violation", "mean", "probability", "utility"]
    strength: Literal["require", "prefer", "preserve"]
    domain: DomainPredicate | None
    statistic: Statistic
    bound: DecimalText
    strict: bool
    hard: bool
    shown: Shown
    base_factor: DecimalText | None
    at_least: bool
    weight: DecimalText
    priority: SafeInt
    confidence: DecimalText
    sampling: dict[str, DecimalText]


class Semantics(Record):
    """Everything that is hashed."""

    edition: SafeInt
    attributes: tuple[AttributeRecord, ...]
    clauses: tuple[ClauseSemantics, ...]


class Tool(Record):
    """What wrote the file; not hashed."""

    name: str
    version: str

    @classmethod
    def current(cls) -> Tool:
        """The installed version, ``0`` in a checkout that is not installed."""
        try:
            return cls(name="constraintc", version=version("constraintlang"))
        except PackageNotFoundError:
            return cls(name="constraintc", version="0")


class IRFile(Record):
    """``policy.ir.json``."""

    format: Literal["constraintc.ir"]
    version: VersionText
    edition: int
    semantic_hash: Hash
    tool: Tool
    semantics: Semantics


class Position(Record):
    """Where a statement stands: lines and columns from 1, the end exclusive."""

    label: str | None
    text: str
    line: int
    column: int
    end_line: int
    end_column: int


class ClauseMap(Record):
    """How people call a clause, and the statements that say it (more than one when they mean the same)."""

    id: Hash
    label: str | None
    text: str
    statements: tuple[Position, ...] = Field(min_length=1)


class FileMap(Record):
    """A file of the directory ``files``, and its content."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    hash: Hash


class MapFile(Record):
    """``policy.map.json``: clauses in the order of the IR; ``source`` is a file name without folders.

    ``files`` are the word lists by attribute.
    """

    format: Literal["constraintc.map"] = MAP_FORMAT
    version: VersionText = VERSION
    semantic_hash: Hash
    source: str
    clauses: tuple[ClauseMap, ...]
    files: dict[str, FileMap] = {}


def semantics_json(ir: PolicyIR) -> Json:
    """The hashed part of the IR as plain JSON values."""
    attributes: list[Json] = [record_json(attribute) for attribute in ir.attributes]
    clauses: list[Json] = [record_json(clause, exclude={"label", "text"}) for clause in ir.clauses]
    return {"edition": ir.edition, "attributes": attributes, "clauses": clauses}


def assemble(semantics: Semantics, map_file: MapFile) -> PolicyIR:
    """The IR from the two files.

    Raises: ValueError when the map lists other clauses than the semantics, or a source with folders.
    """
    if [clause.id for clause in semantics.clauses] != [clause.id for clause in map_file.clauses]:
        raise ValueError("the map lists other clauses than the semantics")
    if "/" in map_file.source or "\\" in map_file.source:
        raise ValueError(f"the map names the source `{map_file.source}`, expected a name without folders")
    clauses = tuple(
        Clause(
            label=names.label,
            text=names.text,
            **{field: getattr(clause, field) for field in ClauseSemantics.model_fields},
        )
        for clause, names in zip(semantics.clauses, map_file.clauses, strict=True)
    )
    return PolicyIR(edition=semantics.edition, attributes=semantics.attributes, clauses=clauses)
