"""A compiled policy in memory and on disk: a directory of text files, no code, no pickle.

``policy.ir.json``        the semantics, canonical JSON, and their hash; tool version outside what is hashed
``policy.map.json``       labels, texts and positions of the clauses, and the *name* of the source file
``policy.source.policy``  a copy of the source, so that messages can quote it
``files/``                the word lists that attributes name, so that the directory can be moved alone
``dfa/HASH.json``         for each ``over`` its minimal automaton, for other readers; see ``artifact_monitors``

Labels are not hashed: renaming a label changes the map only; so does moving a word list. Loading trusts
nothing: unknown fields, higher major versions, a hash that does not fit, a word list that was changed and a
map of other clauses are errors. Bytes depend on the policy and
the tool version only, not on time, host, path, hash seed or the order of statements (the map keeps positions,
so it does depend on the text).
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from constraintlang.source import SourceFile
from constraintlang_compiler.artifact_format import (
    FORMAT,
    VERSION,
    ClauseMap,
    FileMap,
    IRFile,
    MapFile,
    Position,
    Tool,
    assemble,
    semantics_json,
)
from constraintlang_compiler.artifact_monitors import monitor_problems, write_monitors
from constraintlang_compiler.canonical import Json, canonical_bytes, clause_id, record_json, sha256_of
from constraintlang_compiler.errors import ArtifactError
from constraintlang_compiler.ir import Clause, PolicyIR

IR_NAME, MAP_NAME, SOURCE_NAME = "policy.ir.json", "policy.map.json", "policy.source.policy"
FILES_NAME = "files"
FileT = TypeVar("FileT", IRFile, MapFile)
MAX_BYTES = 64 * 1024 * 1024  # far above what a policy of 4 MiB compiles to


@dataclass(frozen=True)
class CompiledPolicy:
    """A policy ready for the runtime: its meaning (``ir``), the hash of that, its map and its source.

    ``files`` says where the word list of an attribute lies, as far as that is known; ``contents`` is what stood
    there when the policy was compiled.
    """

    ir: PolicyIR
    semantic_hash: str
    map: MapFile
    source: SourceFile
    files: Mapping[str, Path] = field(default_factory=dict)
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write the files, each atomically; an earlier artifact in the directory is replaced.

        Raises: ArtifactError when the path is a file or cannot be written.
        """
        folder = Path(directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for attribute, record in sorted(self.map.files.items()):
                (folder / FILES_NAME).mkdir(exist_ok=True)
                write_whole(folder / FILES_NAME / record.name, self.contents[attribute])
            # The IR comes last: a reader that sees a new map beside an old IR finds that the hashes differ.
            write_whole(folder / SOURCE_NAME, self.source.text.encode())
            write_monitors(folder, self.ir.clauses, write_whole)
            write_whole(folder / MAP_NAME, canonical_bytes(record_json(self.map)) + b"\n")
            write_whole(folder / IR_NAME, canonical_bytes(self.ir_json()) + b"\n")
        except OSError as error:
            raise ArtifactError(
                f"cannot write the compiled policy to `{folder}`: {error.strerror or error}",
                help="choose a directory that you may write to, with `-o DIR`",
            ) from error
        return folder

    def ir_json(self) -> Json:
        """The content of ``policy.ir.json``."""
        semantics = semantics_json(self.ir)
        return {
            "format": FORMAT,
            "version": VERSION,
            "edition": self.ir.edition,
            "semantic_hash": self.semantic_hash,
            "tool": record_json(Tool.current()),
            "semantics": semantics,
        }

    @property
    def clauses_as_written(self) -> tuple[Clause, ...]:
        """The clauses in the order of the source, for people; ``ir.clauses`` is in canonical order."""
        first = {names.id: min((p.line, p.column) for p in names.statements) for names in self.map.clauses}
        return tuple(sorted(self.ir.clauses, key=lambda clause: (first[clause.id], clause.name)))

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> CompiledPolicy:
        """Read a directory that ``save`` wrote, and verify it.

        Raises: ArtifactError saying what was found, what was expected and what to do.
        """
        folder = Path(directory)
        document = _read_json(folder / IR_NAME)
        _check_version(document, folder / IR_NAME)
        ir_file = _validate(IRFile, document, folder / IR_NAME)
        got = sha256_of(record_json(ir_file.semantics))
        if got != ir_file.semantic_hash:
            raise _altered(folder, f"the semantics hash to {got}, the file says {ir_file.semantic_hash}")
        if ir_file.edition != ir_file.semantics.edition:
            raise _altered(
                folder, f"edition {ir_file.edition} outside, {ir_file.semantics.edition} inside the hash"
            )
        map_document = _read_json(folder / MAP_NAME)
        _check_version(map_document, folder / MAP_NAME)
        map_file = _validate(MapFile, map_document, folder / MAP_NAME)
        if map_file.semantic_hash != ir_file.semantic_hash:
            raise _altered(
                folder, f"{MAP_NAME} is of {map_file.semantic_hash}, {IR_NAME} of {ir_file.semantic_hash}"
            )
        try:
            ir = assemble(ir_file.semantics, map_file)
        except ValueError as error:
            raise _altered(folder, str(error)) from error
        for clause in ir.clauses:
            if clause.id != clause_id(clause):
                raise _altered(
                    folder, f"clause `{clause.name}` hashes to {clause_id(clause)}, the file says {clause.id}"
                )
        for problem in monitor_problems(folder, ir.clauses):
            raise _altered(folder, problem)
        source = SourceFile(_read_text(folder / SOURCE_NAME), map_file.source)
        files = {name: folder / FILES_NAME / record.name for name, record in map_file.files.items()}
        contents = {name: _read_bytes(path) for name, path in files.items()}
        for name, record in map_file.files.items():
            if _hash(contents[name]) != record.hash:
                raise _altered(folder, f"`{record.name}` is not the file that the policy was compiled with")
        return cls(ir, ir_file.semantic_hash, map_file, source, files, contents)


def compiled(
    ir: PolicyIR,
    statements: tuple[tuple[Position, ...], ...],
    source: SourceFile,
    files: Mapping[str, Path] | None = None,
) -> CompiledPolicy:
    """A compiled policy from its IR and the positions of the statements of each clause.

    A file of ``files`` that does not exist is not recorded: the attribute has to be bound by the user.
    Raises: ArtifactError for a file that cannot be read.
    """
    files = files or {}
    used = [attribute.name for attribute in ir.attributes]
    contents = {name: _read_bytes(path) for name, path in files.items() if name in used and path.is_file()}
    records = {name: FileMap(name=f"{name}.txt", hash=_hash(content)) for name, content in contents.items()}
    semantic_hash = sha256_of(semantics_json(ir))
    clauses = tuple(
        ClauseMap(
            id=clause.id, label=clause.label, text=clause.text, stratum=clause.stratum, statements=positions
        )
        for clause, positions in zip(ir.clauses, statements, strict=True)
    )
    name = Path(source.name.replace("\\", "/")).name
    map_file = MapFile(semantic_hash=semantic_hash, source=name or "<policy>", clauses=clauses, files=records)
    return CompiledPolicy(ir, semantic_hash, map_file, source, files, contents)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    # Opened by name, not by mkstemp, so that the file gets the permissions that the umask gives.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _hash(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArtifactError(
            f"cannot read `{path}`: {error.strerror or error}", help="compile the policy again"
        ) from error
    if len(content) > MAX_BYTES:
        raise ArtifactError(f"`{path}` has more than {MAX_BYTES} bytes", help="use a shorter word list")
    return content


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ArtifactError(f"`{path}` has {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError as error:
        raise ArtifactError(
            f"no compiled policy in `{path.parent}`: `{path.name}` is missing",
            help="compile one with `constraintc compile my.policy -o DIR`",
        ) from error
    except UnicodeDecodeError as error:
        raise ArtifactError(
            f"`{path}` is not UTF-8 (byte {error.start})", help="compile the policy again"
        ) from error
    except OSError as error:
        raise ArtifactError(f"cannot read `{path}`: {error.strerror or error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    def no_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("an object repeats a key")
        return result

    try:
        document = json.loads(_read_text(path), object_pairs_hook=no_repetition)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"`{path}` is not valid JSON: {error}", help="compile the policy again"
        ) from error
    if not isinstance(document, dict):
        raise ArtifactError(f"`{path}` holds a {type(document).__name__}, expected an object")
    return document


def _check_version(document: dict[str, Any], path: Path) -> None:
    version = document.get("version")
    major = version.split(".")[0] if isinstance(version, str) else None
    if major != VERSION.split(".")[0]:
        raise ArtifactError(
            f"`{path}` has format version {version!r}, this constraintc reads {VERSION!r}",
            help="install the version of constraintlang that wrote it, or compile the policy again",
        )


def _validate(model: type[FileT], document: dict[str, Any], path: Path) -> FileT:
    try:
        record = msgspec.convert(document, model)
        # A field left out is filled in with its default: the hash of the record would not be that of the file.
        if msgspec.json.encode(record, order="sorted") != msgspec.json.encode(document, order="sorted"):
            raise msgspec.ValidationError("a field is missing")
    except (
        msgspec.ValidationError,
        UnicodeError,
        RecursionError,
    ) as error:  # JSON may hold half a surrogate pair
        raise ArtifactError(
            f"`{path}` is not a compiled policy of this version: {error}",
            help="compile the policy again with this version of constraintc",
        ) from error
    return record


def _altered(folder: Path, what: str) -> ArtifactError:
    return ArtifactError(
        f"the compiled policy in `{folder}` was altered: {what}",
        help="compile the policy again; never edit a compiled policy by hand",
    )
