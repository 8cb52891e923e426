"""Rows of a data file, one batch after another, from any row on; nothing but the batch is held."""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from constraintlang_runtime.columns import Row, split_domain
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.missing_paths import looked

MAX_FIELD = 1 << 30  # characters of one CSV field
ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".parquet", ".txt")


def require_cells(row: dict[Any, Any], place: str, role: str) -> None:
    """Drop the empty cells of a CSV row beyond the header, and raise DataError for others.

    They are of a text with a comma outside quotes, whose rest would be lost.
    """
    if any(row.pop(None, ())):
        raise DataError(
            f"{place} has more cells than the header",
            help="put texts that hold a comma into quotes",
            parameter=role,
        )


@dataclass(frozen=True)
class Position:
    """Where the next row begins: rows before it, and bytes where the format can be entered at one."""

    row: int = 0
    offset: int = 0


@dataclass(frozen=True)
class RowBatch:
    """Some rows of a source, the position behind them, and the part of the source that lies before it, if known.

    ``numbers`` are those of the rows in the source from 0, where empty lines of text count. ``lines`` are those of a
    file of text at which the rows begin, from 1 as editors count.
    """

    rows: list[Row]
    numbers: Sequence[int]
    end: Position
    done: float | None
    lines: Sequence[int] | None = None

    def place(self, index: int, source: str) -> str:
        """Where a row of the batch stands in its source, in words."""
        if self.lines is not None:
            return f"line {self.lines[index]} of `{source}`"
        return f"row {self.numbers[index]} of `{source}`"


class RowStream:
    """``[DOMAIN=]FILE_OR_ID``: JSON lines (also gzipped), CSV, Parquet, lines of text, ``-`` for JSON lines on
    standard input, or a data set of the hub, ``owner/name[:split]``.

    ``role`` is the parameter that named it, for messages.
    Raises: DataError for a source that does not exist or cannot be read, with the row.
    """

    def __init__(self, spec: str, role: str = "data") -> None:
        self.domain, self.source = split_domain(spec)
        self.role = role
        self.path = Path(self.source)
        self.kind = self._kind()

    def _kind(self) -> str:
        if self.source == "-":
            return ".jsonl"
        for ending in ENDINGS:
            if self.source.endswith(ending):
                if not self.path.is_file():
                    raise DataError(
                        f"no file `{self.source}`",
                        help=looked(self.path),
                        parameter=self.role,
                    )
                return ending
        if self.path.exists():
            raise DataError(
                f"cannot tell the format of `{self.source}` from its ending",
                help=f"use one of {', '.join(ENDINGS)}",
                parameter=self.role,
            )
        return "hub"

    def batches(self, size: int, start: Position) -> Iterator[RowBatch]:
        """The rows from ``start`` on, ``size`` at a time."""
        readers = {".jsonl": self._json_lines, ".jsonl.gz": self._json_lines, ".txt": self._json_lines,
                   ".csv": self._csv, ".parquet": self._parquet, "hub": self._hub}  # fmt: skip
        try:
            for batch in readers[self.kind](size, start):
                if self.domain is not None:
                    for row in batch.rows:
                        row["domain"] = self.domain
                yield batch
        except (OSError, EOFError) as error:
            raise DataError(
                f"cannot read `{self.source}`: {error}",
                help="check that the file is whole",
                parameter=self.role,
            ) from error

    # ------------------------------------------------------------ formats
    def _open(self) -> Any:
        if self.source == "-":
            return sys.stdin.buffer
        return gzip.open(self.path) if self.kind == ".jsonl.gz" else self.path.open("rb")

    def _json_lines(self, size: int, start: Position) -> Iterator[RowBatch]:
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        is_text = self.kind == ".txt"
        seeks = self.kind != ".jsonl.gz" and self.source != "-"
        total = self.path.stat().st_size if seeks else None
        with self._open() as file:
            if seeks:
                file.seek(start.offset)
            elif start.row:
                for _ in islice(file, start.row):
                    pass
            number, offset = start.row, start.offset
            while lines := list(islice(file, size)):
                rows: list[Row] = []
                numbers: list[int] = []
                for line in lines:
                    number += 1
                    if number == 1:
                        line = line.removeprefix(b"\xef\xbb\xbf")
                    if not line.strip():
                        continue
                    numbers.append(number - 1)
                    rows.append(
                        {"text": self._text(line, number)} if is_text else self._object(decode, line, number)
                    )
                offset += sum(map(len, lines))
                done = None if total is None else offset / max(1, total)
                yield RowBatch(rows, numbers, Position(number, offset), done, [n + 1 for n in numbers])

    def _object(self, decode: Any, line: bytes, number: int) -> Row:
        try:
            return decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._tolerant(line, number)

    def _tolerant(self, line: bytes, number: int) -> Row:
        """What Python's own reader accepts and the fast one does not: NaN, half a surrogate pair."""
        import json

        text = self._text(line, number)
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"line {number} of `{self.source}` is not JSON: {error}",
                help="write one JSON object a line",
                parameter=self.role,
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"line {number} of `{self.source}` is a JSON {type(row).__name__}, expected an object",
                help='write rows such as {"prompt": "...", "completion": "..."}',
                parameter=self.role,
            )
        return row

    def _text(self, line: bytes, number: int) -> str:
        try:
            return line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number} of `{self.source}` is not UTF-8: {error.reason} at byte {error.start}",
                help="save the file as UTF-8",
                parameter=self.role,
            ) from error

    def _csv(self, size: int, start: Position) -> Iterator[RowBatch]:
        csv.field_size_limit(MAX_FIELD)
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                for _row in islice(reader, start.row):
                    pass
                number = start.row
                lines: list[int] = []
                rows: list[Row] = []
                _ = reader.fieldnames  # the header, which comes before the first row
                before = reader.line_num
                for row in reader:
                    require_cells(row, f"line {before + 1} of `{self.source}`", self.role)
                    rows.append(row)
                    lines.append(before + 1)
                    before = reader.line_num
                    if len(rows) == size:
                        yield self._csv_batch(rows, lines, number)
                        number += size
                        rows, lines = [], []
                if rows:
                    yield self._csv_batch(rows, lines, number)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"cannot read `{self.source}`: {error}",
                help="the file must be CSV in UTF-8 with a header",
                parameter=self.role,
            ) from error

    @staticmethod
    def _csv_batch(rows: list[Row], lines: list[int], number: int) -> RowBatch:
        end = number + len(rows)
        return RowBatch(rows, range(number, end), Position(end), None, lines)

    def _parquet(self, size: int, start: Position) -> Iterator[RowBatch]:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise ConfigError(
                "reading Parquet needs the package pyarrow", help="pip install 'constraintlang[train]'"
            ) from None
        try:
            with parquet.ParquetFile(self.path) as file:
                total, number = file.metadata.num_rows, start.row
                groups: list[int] = []
                skipped = 0
                for group in range(file.metadata.num_row_groups):
                    length = file.metadata.row_group(group).num_rows
                    if skipped + length <= start.row and not groups:
                        skipped += length
                    else:
                        groups.append(group)
                ahead = start.row - skipped
                for part in file.iter_batches(batch_size=size, row_groups=groups):
                    rows = part.to_pylist()[ahead:]
                    ahead = max(0, ahead - part.num_rows)
                    if rows:
                        number += len(rows)
                        own = range(number - len(rows), number)
                        yield RowBatch(rows, own, Position(number), number / max(1, total))
        except pyarrow.ArrowException as error:
            raise DataError(
                f"cannot read `{self.source}`: {error}",
                help="check that the file is whole",
                parameter=self.role,
            ) from error

    def _hub(self, size: int, start: Position) -> Iterator[RowBatch]:
        try:
            import datasets
        except ImportError:
            raise ConfigError(
                f"no file `{self.source}`, and data sets of the hub need the package datasets",
                help="check the path, or pip install 'constraintlang[train]'",
                parameter=self.role,
            ) from None
        name, _, split = self.source.partition(":")
        try:
            rows = iter(datasets.load_dataset(name, split=split or "train", streaming=True).skip(start.row))
            number = start.row
            while part := [dict(row) for row in islice(rows, size)]:
                number += len(part)
                yield RowBatch(part, range(number - len(part), number), Position(number), None)
        except Exception as error:  # every reader raises its own kind
            raise not_loaded(self.role, self.source, error) from error


def not_loaded(role: str, source: str, error: Exception) -> DataError:
    """What to say of a data set of the hub that could not be had, with the reason that the library gave."""
    reason = " ".join(str(error).split()) or type(error).__name__
    help = f"looked in {Path.cwd()}; check the path, or the id and the network"
    if "config" in reason.lower():  # no name of one can be given here
        help = "save one configuration to a file: load_dataset(ID, NAME, split=...).to_json('rows.jsonl')"
    return DataError(
        f"`{source}` is neither a file here nor a data set that can be loaded: {reason[:300]}",
        help=help,
        parameter=role,
    )
