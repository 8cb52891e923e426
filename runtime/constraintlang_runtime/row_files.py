"""Rows read from files and hub data sets, named by ``[DOMAIN=]FILE_OR_ID``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from constraintlang_runtime.columns import CONTENT_COLUMNS, FileRow, Row, split_domain
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.missing_paths import looked
from constraintlang_runtime.score.row_stream import Position, RowStream, not_loaded

BATCH = 4096
KINDS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}


def load_rows(
    specs: Sequence[str] | str, *, role: str = "data", columns: Sequence[str] = CONTENT_COLUMNS
) -> list[Row]:
    """Read rows from files (.jsonl, .json, .csv, .parquet, .txt) or hub data sets, in order.

    ``specs`` are ``[DOMAIN=]FILE_OR_ID``, one or several; the domain written there wins over a ``domain`` column.
    ``role`` is the parameter that named them, for messages.
    Raises: DataError for a missing or unreadable file, an empty file, or rows without a known column.
    """
    rows: list[Row] = []
    for spec in [specs] if isinstance(specs, str) else specs:
        domain, source = split_domain(spec)
        loaded = _load_source(spec, source, role)
        if not loaded:
            raise DataError(
                f"`{source}` has no rows", help="give a file with at least one row", parameter=role
            )
        known = [c for c in columns if any(c in row for row in loaded)]
        if not known:
            raise DataError(
                f"`{source}` has none of the columns {', '.join(columns)}; it has {', '.join(loaded[0])}",
                help='rename a column, or write rows such as {"prompt": ..., "completion": ...}',
                parameter=role,
            )
        for row in loaded:
            if all(row.get(c) is None for c in known):
                raise DataError(
                    f"{row.place} has no value in {', '.join(known)}",
                    help="drop the row or fill the column",
                    parameter=role,
                )
            if domain is not None:
                row["domain"] = domain
            rows.append(row)
    return rows


def require_source(source: str, role: str) -> bool:
    """Whether a source is a file, not a data set of the hub.

    Raises: DataError for a folder, and for a file that does not exist or whose format its ending does not tell.
    """
    path = Path(source)
    if path.is_dir():
        raise DataError(f"`{source}` is a folder", help="name the files in it", parameter=role)
    if path.suffix in KINDS and not path.exists():
        raise DataError(f"no file `{source}`", help=looked(path), parameter=role)
    if path.exists() and path.suffix not in KINDS:
        raise DataError(
            f"cannot tell the format of `{source}` from its ending",
            help=f"use one of {', '.join(sorted(KINDS))}",
            parameter=role,
        )
    return path.exists()


def _load_source(spec: str, source: str, role: str) -> list[FileRow]:
    """Rows of one file or hub data set with their places."""
    if not require_source(source, role):
        return _load_hub(source, role)
    path = Path(source)
    if path.stat().st_size == 0:
        return []
    if path.suffix in (
        ".jsonl",
        ".csv",
        ".parquet",
    ):  # CSV as text: a region `NA` is one, and `007` no number
        batches = RowStream(spec, role).batches(BATCH, Position())
        rows = [
            FileRow(row, batch.place(index, source))
            for batch in batches
            for index, row in enumerate(batch.rows)
        ]
        if path.suffix == ".csv":  # where rows are learned from or asked, an empty cell is no value
            for row in rows:
                row.update((key, None) for key, value in row.items() if value == "")
        return rows
    import datasets

    try:
        loaded = datasets.load_dataset(KINDS[path.suffix], data_files=str(path), split="train")
    except Exception as error:  # every reader raises its own kind
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise DataError(
            f"cannot read `{source}`: {reason}",
            help="check that the file is whole and has this format",
            parameter=role,
        ) from error
    first, unit = (1, "line") if path.suffix == ".txt" else (0, "row")
    return [FileRow(row, f"{unit} {number} of `{source}`") for number, row in enumerate(loaded, first)]


def _load_hub(source: str, role: str) -> list[FileRow]:
    """The rows of a hub data set by id, ``owner/name[:split]``."""
    import datasets

    name, _, split = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, split=split or "train")
    except Exception as error:
        raise not_loaded(role, source, error) from error
    return [FileRow(row, f"row {number} of `{source}`") for number, row in enumerate(loaded)]
