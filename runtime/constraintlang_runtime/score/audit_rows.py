"""The rows that an audit judged, found again in their sources by its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from constraintlang_runtime.columns import Row
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.integrations.texts import row_texts
from constraintlang_runtime.score.row_stream import Position, RowStream

KEYS = frozenset({"source", "row", "satisfied", "violated", "scores"})
_BATCH = 4096


def is_record(row: Mapping[str, Any]) -> bool:
    """Whether a row is a record of ``constraintc score``: the verdict on a row of a source."""
    return row.keys() >= KEYS


class AuditedRows:
    """What the records speak of; each source is read once, when its first record comes."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._sources: dict[str, dict[int, Row]] = {}

    def found(self, record: Mapping[str, Any], place: str) -> dict[str, Any]:
        """The prompt and completion of a record's row, its tags, and the scores of the record.

        Raises: DataError naming the record when its source cannot be read, or has no such row.
        """
        source, number = str(record["source"]), record["row"]
        try:
            row = self._rows(source)[number]
            prompt, completion, tags = row_texts(row)
        except (DataError, ConfigError, LookupError, TypeError) as error:
            reason = (
                error.message if isinstance(error, DataError | ConfigError) else f"it has no row {number}"
            )
            raise DataError(
                f"{place} is a record of `constraintc score` about `{source}`: {reason}",
                help="run it where the audit was run, with the same data, or give rows with `text` and `scores`",
                parameter=self._role,
            ) from error
        named = {"domain": record["domain"]} if record.get("domain") is not None else {}
        return {
            **tags,
            **named,
            "prompt": prompt or None,
            "completion": completion,
            "scores": record["scores"],
        }

    def _rows(self, source: str) -> dict[int, Row]:
        if source == "-":
            raise ConfigError("standard input is gone")
        if source not in self._sources:
            batches = RowStream(source, self._role).batches(_BATCH, Position())
            self._sources[source] = {
                number: row
                for batch in batches
                for number, row in zip(batch.numbers, batch.rows, strict=True)
            }
        return self._sources[source]
