"""Reads responses from a file, one JSON object a line: what ``eval`` writes, or rows of the user's own."""

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
            f"--samples: cannot read `{name}`: {error.strerror}", help="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"--samples: `{name}` is not UTF-8", help="save it as UTF-8") from error
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            found.append(_response(line, f"--samples: line {number} of `{name}`", attributes))
    if not found:
        raise DataError(
            f"--samples: `{name}` has no rows", help='write rows such as {"text": ..., "scores": {...}}'
        )
    return found


def _response(line: str, place: str, attributes: Mapping[str, AttributeInfo]) -> Response:
    try:
        row = json.loads(line, parse_float=Decimal)
    except ValueError as error:
        raise DataError(f"{place} is not JSON: {error}", help="write one JSON object a line") from error
    if not isinstance(row, dict):
        raise DataError(
            f"{place} holds a {type(row).__name__}, expected an object", help="write one object a line"
        )
    text = next((row[key] for key in TEXT_KEYS if row.get(key) is not None), None)
    scores = row.get("scores") or {}
    texts = {"text": text, "prompt": row.get("prompt"), "clause": row.get("clause")}
    for key, value in texts.items():
        if value is not None and not isinstance(value, str):
            raise DataError(f"{place}: `{key}` is {value!r}, expected a text")
    if not isinstance(scores, dict):
        raise DataError(
            f"{place}: `scores` is {scores!r}, expected an object", help='such as {"toxicity": 0.1}'
        )
    tags = {key: value for key, value in row.items() if key not in TEXT_KEYS + OTHER_KEYS}
    read = {key: _score(key, value, place, attributes) for key, value in scores.items()}
    return Response(text, row.get("prompt"), read, tags, row.get("clause"))


def _score(name: str, value: Any, place: str, attributes: Mapping[str, AttributeInfo]) -> Decimal | None:
    if value is None:
        return None
    if not isinstance(value, (int, Decimal)):  # a truth value is an int, and a flag may be written so
        raise DataError(f"{place}: the score of `{name}` is {value!r}, expected a number or null")
    info = attributes.get(name.removesuffix("@base"))
    problem = None if info is None else score_problem(info, Decimal(value))
    if problem is not None:
        raise DataError(
            f"{place}: `{name}` {problem}, and this is {value}",
            help="correct the file, or the declared range",
        )
    return Decimal(value)
