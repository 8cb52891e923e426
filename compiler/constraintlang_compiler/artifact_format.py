"""The records of the files of an artifact, and the way between them and the IR, away from the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import asdict

from constraintlang.version import VERSION as TOOL_VERSION
from constraintlang_compiler.attributes import attributes_needed, parts_needed
from constraintlang_compiler.canonical import NAMES, Json, record_json
from constraintlang_compiler.ir import (
    END,
    AttributeRecord,
    Clause,
    ClauseMeaning,
    Hash,
    PolicyIR,
    Record,
    SafeInt,
)

FORMAT: Literal["constraintc.ir"] = "constraintc.ir"
MAP_FORMAT: Literal["constraintc.map"] = "constraintc.map"
VERSION = "1.0"

VersionText = Annotated[str, Meta(pattern=r"^[0-9]+\.[0-9]+" + END)]


class Semantics(Record, frozen=True, kw_only=True):
    """Everything that is hashed."""

    edition: SafeInt
    attributes: tuple[AttributeRecord, ...]
    clauses: tuple[ClauseMeaning, ...]


class Tool(Record, frozen=True, kw_only=True):
    """What wrote the file; not hashed."""

    name: str
    version: str

    @classmethod
    def current(cls) -> Tool:
        """This version."""
        return cls(name="constraintc", version=TOOL_VERSION)


class IRFile(Record, frozen=True, kw_only=True):
    """``policy.ir.json``."""

    format: Literal["constraintc.ir"]
    version: VersionText
    edition: int
    semantic_hash: Hash
    tool: Tool
    semantics: Semantics


class Position(Record, frozen=True, kw_only=True):
    """Where a statement stands: lines and columns from 1, the end exclusive."""

    label: str | None
    text: str
    line: int
    column: int
    end_line: int
    end_column: int


class ClauseMap(Record, frozen=True, kw_only=True):
    """How people call a clause, and the statements that say it (more than one when they mean the same)."""

    id: Hash
    label: str | None
    text: str
    stratum: dict[str, str]
    statements: Annotated[tuple[Position, ...], Meta(min_length=1)]


class FileMap(Record, frozen=True, kw_only=True):
    """A file of the directory ``files``, and its content."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    hash: Hash


class MapFile(Record, frozen=True, kw_only=True):
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
    clauses: list[Json] = [record_json(clause, exclude=NAMES) for clause in ir.clauses]
    return {"edition": ir.edition, "attributes": attributes, "clauses": clauses}


def assemble(semantics: Semantics, map_file: MapFile) -> PolicyIR:
    """The IR from the two files.

    Raises: ValueError when the map lists other clauses than the semantics, or a source with folders, and for clauses or
    attributes that no policy compiles to.
    """
    if [clause.id for clause in semantics.clauses] != [clause.id for clause in map_file.clauses]:
        raise ValueError("the map lists other clauses than the semantics")
    if "/" in map_file.source or "\\" in map_file.source:
        raise ValueError(f"the map names the source `{map_file.source}`, expected a name without folders")
    clauses = tuple(
        Clause(
            label=names.label,
            text=names.text,
            stratum=names.stratum,
            **asdict(clause),
        )
        for clause, names in zip(semantics.clauses, map_file.clauses, strict=True)
    )
    ir = PolicyIR(edition=semantics.edition, attributes=semantics.attributes, clauses=clauses)
    for problem in _contradictions(ir):
        raise ValueError(problem)
    return ir


def _contradictions(ir: PolicyIR) -> Iterator[str]:
    names = [attribute.name for attribute in ir.attributes]
    for name in sorted(name for name, times in Counter(names).items() if times > 1):
        yield f"the attribute `{name}` is declared twice"
    needed = {
        *attributes_needed(ir.clauses),
        *(k for keys in parts_needed(ir.clauses).values() for k in keys),
    }
    for missing in sorted({key.removesuffix("@base") for key in needed} - set(names)):
        yield f"the attribute `{missing}` is read and not declared"
    for attribute in ir.attributes:
        if attribute.low and attribute.high and float(attribute.low) >= float(attribute.high):
            yield f"the range of `{attribute.name}` is [{attribute.low}, {attribute.high}]"
    for clause in ir.clauses:
        if not 0 < float(clause.confidence) < 1:
            yield f"the confidence of `{clause.name}` is {clause.confidence}"
