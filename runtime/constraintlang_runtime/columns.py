"""Which columns of a row are content, which are tags, and how a data file is named; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONTENT_COLUMNS = ("text", "prompt", "completion", "messages")
CHAT_OPTIONS = ("tools", "chat_template_kwargs")  # columns that a chat template reads, as TRL names them
WITHHELD = (
    "endpoint_withheld"  # column: how a server ended a reply that it withheld, of which nothing is known
)

Row = dict[str, Any]


class FileRow(dict[str, Any]):
    """A row that knows where it was read: ``place`` is its line, or its number, and its file."""

    __slots__ = ("place",)

    def __init__(self, row: Mapping[str, Any], place: str) -> None:
        super().__init__(row)
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return FileRow, (dict(self), self.place)


def place_of(row: Mapping[str, Any], number: int) -> str:
    """Where a row was read, else its number among those that a caller gave."""
    return row.place if isinstance(row, FileRow) else f"row {number}"


def split_domain(spec: str) -> tuple[str | None, str]:
    """``chat=rows.jsonl`` -> ("chat", "rows.jsonl"); a path that merely contains ``=`` after a separator is kept."""
    head, equals, tail = spec.partition("=")
    if equals and head and not any(mark in head for mark in "/\\."):
        return head, tail
    return None, spec


def row_tags(row: Mapping[str, Any]) -> dict[str, Any]:
    """Everything in a row that is not content: its domain and other tags."""
    content = (*CONTENT_COLUMNS, *CHAT_OPTIONS)
    return {key: value for key, value in row.items() if key not in content and value is not None}
