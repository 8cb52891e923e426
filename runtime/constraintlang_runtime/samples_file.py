"""Reads responses from a file, one JSON object a line: what ``eval`` or ``score`` writes, or rows of the user's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from constraintlang.checked import AttributeInfo
from constraintlang.scores import score_problem
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.score.audit_rows import AuditedRows, is_record

TEXT_KEYS, OTHER_KEYS = ("completion", "text"), ("prompt", "scores", "clause", "statistic")


@dataclass(frozen=True)
class Response:
    """One response: its text, the scores that the file has for it, and the tags of its prompt.

    ``clause``: ``eval`` wrote it as a sample of this clause, and it counts for no other.
    """

    text: str | None
    prompt: str | None = None
    scores: Mapping[str, Decimal | None] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    clause: str | None = None


def read_samples(name: str, attributes: Mapping[str, AttributeInfo]) -> list[Response]:
    """The responses of a JSONL file, or of standard input when it is ``-``.

    Raises: DataError naming the line, for what is not JSON, no object, or a score that cannot be one.
    """
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"cannot read `{name}`: {error.strerror}", help="check the path", parameter="samples"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"`{name}` is not UTF-8", help="save it as UTF-8", parameter="samples") from error
    found, audited = [], AuditedRows("samples")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            found.append(_response(line, f"line {number} of `{name}`", attributes, audited))
    if not found:
        raise DataError(
            f"`{name}` has no rows",
            help='write rows such as {"text": ..., "scores": {...}}',
            parameter="samples",
        )
    return found


def _response(
    line: str, place: str, attributes: Mapping[str, AttributeInfo], audited: AuditedRows
) -> Response:
    try:
        row = json.loads(line, parse_float=Decimal)
    except ValueError as error:
        raise DataError(
            f"{place} is not JSON: {error}", help="write one JSON object a line", parameter="samples"
        ) from error
    if not isinstance(row, dict):
        raise DataError(
            f"{place} holds a {type(row).__name__}, expected an object",
            help="write one object a line",
            parameter="samples",
        )
    if is_record(row):
        row = audited.found(row, place)
    text = next((row[key] for key in TEXT_KEYS if row.get(key) is not None), None)
    scores = row.get("scores") or {}
    texts = {"text": text, "prompt": row.get("prompt"), "clause": row.get("clause")}
    for key, value in texts.items():
        if value is not None and not isinstance(value, str):
            raise DataError(f"{place}: `{key}` is {value!r}, expected a text", parameter="samples")
    if not isinstance(scores, dict):
        raise DataError(
            f"{place}: `scores` is {scores!r}, expected an object",
            help='such as {"toxicity": 0.1}',
            parameter="samples",
        )
    tags = {key: value for key, value in row.items() if key not in TEXT_KEYS + OTHER_KEYS}
    read = {key: _score(key, value, place, attributes) for key, value in scores.items()}
    return Response(text, row.get("prompt"), read, tags, row.get("clause"))


def _score(name: str, value: Any, place: str, attributes: Mapping[str, AttributeInfo]) -> Decimal | None:
    if value is None:
        return None
    if not isinstance(value, (int, Decimal)):  # a truth value is an int, and a flag may be written so
        raise DataError(
            f"{place}: the score of `{name}` is {value!r}, expected a number or null", parameter="samples"
        )
    info = attributes.get(name.removesuffix("@base"))
    problem = None if info is None else score_problem(info, Decimal(value))
    if problem is not None:
        raise DataError(
            f"{place}: `{name}` {problem}, and this is {value}",
            help="correct the file, or the declared range",
            parameter="samples",
        )
    return Decimal(value)
