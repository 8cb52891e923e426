"""Rows read from files and hub data sets, named by ``[DOMAIN=]FILE_OR_ID``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from constraintlang_runtime.columns import CONTENT_COLUMNS, Row, split_domain
from constraintlang_runtime.errors import DataError


def load_rows(
    specs: Sequence[str], *, role: str = "data", columns: Sequence[str] = CONTENT_COLUMNS
) -> list[Row]:
    """Read rows from files (.jsonl, .json, .csv, .parquet, .txt) or hub data sets, in order.

    ``specs`` are ``[DOMAIN=]FILE_OR_ID``; the domain written there wins over a ``domain`` column. ``role`` is the
    flag that named them, for messages ("--data").
    Raises: DataError for a missing or unreadable file, an empty file, or rows without a known column.
    """
    rows: list[Row] = []
    for spec in specs:
        domain, source = split_domain(spec)
        loaded = _load_source(source, role)
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


def _load_source(source: str, role: str) -> list[Row]:
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
    if kinds[path.suffix] == "json" and path.suffix == ".jsonl":
        return _load_jsonl(path, role)
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


def _load_jsonl(path: Path, role: str) -> list[Row]:
    """One JSON object a line, errors with the line's number."""
    import json

    rows: list[Row] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{role}: cannot read `{path}`: {error}", help="the file must be UTF-8 JSON lines"
        ) from error
    for number, line in enumerate(
        text.split("\n"), start=1
    ):  # splitlines also splits inside JSON texts (U+2028)
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{role}: line {number} of `{path}` is not JSON: {error}", help="write one JSON object a line"
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"{role}: line {number} of `{path}` is a JSON {type(row).__name__}, expected an object",
                help='write rows such as {"prompt": "...", "completion": "..."}',
            )
        rows.append(row)
    return rows


def _load_hub(source: str, role: str) -> list[Row]:
    """A hub data set by id, ``owner/name[:split]``."""
    import datasets

    name, _, split = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, split=split or "train")
    except Exception as error:
        raise DataError(
            f"{role}: `{source}` is neither a file here nor a data set that can be loaded ({type(error).__name__})",
            help=f"looked in {Path.cwd()}; check the path, or the id and the network",
        ) from error
    return [dict(row) for row in loaded]
