"""Rows read from files and hub data sets, named by ``[DOMAIN=]FILE_OR_ID``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from constraintlang_runtime.columns import CONTENT_COLUMNS, Row, split_domain
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.score.row_stream import Position, RowStream, not_loaded

BATCH = 4096


def load_rows(
    specs: Sequence[str] | str, *, role: str = "data", columns: Sequence[str] = CONTENT_COLUMNS
) -> list[Row]:
    """Read rows from files (.jsonl, .json, .csv, .parquet, .txt) or hub data sets, in order.

    ``specs`` are ``[DOMAIN=]FILE_OR_ID``, one or several; the domain written there wins over a ``domain`` column.
    ``role`` is the flag that named them, for messages ("--data").
    Raises: DataError for a missing or unreadable file, an empty file, or rows without a known column.
    """
    rows: list[Row] = []
    for spec in [specs] if isinstance(specs, str) else specs:
        domain, source = split_domain(spec)
        loaded = _load_source(spec, source, role)
        if not loaded:
            raise DataError(f"{role}: `{source}` has no rows", help="give a file with at least one row")
        known = [c for c in columns if any(c in row for row in loaded)]
        if not known:
            raise DataError(
                f"{role}: `{source}` has none of the columns {', '.join(columns)}; it has {', '.join(loaded[0])}",
                help='rename a column, or write rows such as {"prompt": ..., "completion": ...}',
            )
        for number, row in enumerate(loaded):
            if all(row.get(c) is None for c in known):
                raise DataError(
                    f"{role}: row {number} of `{source}` has no value in {', '.join(known)}",
                    help="drop the row or fill the column",
                )
            rows.append({**row, "domain": domain} if domain is not None else row)
    return rows


def _load_source(spec: str, source: str, role: str) -> list[Row]:
    """Rows of one file or hub data set as plain dictionaries."""
    path = Path(source)
    kinds = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
    if path.is_dir():
        raise DataError(f"{role}: `{source}` is a folder", help="name the files in it")
    if path.suffix in kinds and not path.exists():
        raise DataError(f"{role}: no file `{source}`", help=f"looked in {Path.cwd()}; check the path")
    if not path.exists():
        return _load_hub(source, role)
    if path.suffix not in kinds:
        raise DataError(
            f"{role}: cannot tell the format of `{source}` from its ending",
            help=f"use one of {', '.join(sorted(kinds))}",
        )
    if path.stat().st_size == 0:
        return []
    if path.suffix in (
        ".jsonl",
        ".csv",
        ".parquet",
    ):  # CSV as text: a region `NA` is one, and `007` no number
        batches = RowStream(spec, role).batches(BATCH, Position())
        rows = [row for batch in batches for row in batch.rows]
        if path.suffix == ".csv":  # where rows are learned from or asked, an empty cell is no value
            rows = [{key: None if value == "" else value for key, value in row.items()} for row in rows]
        return rows
    import datasets

    try:
        loaded = datasets.load_dataset(kinds[path.suffix], data_files=str(path), split="train")
    except Exception as error:  # every reader raises its own kind
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise DataError(
            f"{role}: cannot read `{source}`: {reason}",
            help="check that the file is whole and has this format",
        ) from error
    return [dict(row) for row in loaded]


def _load_hub(source: str, role: str) -> list[Row]:
    """A hub data set by id, ``owner/name[:split]``."""
    import datasets

    name, _, split = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, split=split or "train")
    except Exception as error:
        raise not_loaded(role, source, error) from error
    return [dict(row) for row in loaded]
