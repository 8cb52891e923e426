"""Which rows of a data set satisfy a policy: one row, or a batch of columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from constraintlang_compiler.domains import domain_name, matches
from constraintlang_runtime.columns import CONTENT_COLUMNS
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.integrations.texts import USUAL_SHAPES, row_texts

logger = logging.getLogger(__name__)
MANY = 32  # rows without one that is judged, after which that is said

if TYPE_CHECKING:
    from constraintlang_runtime.integrations.policy import Policy


class RowFilter:
    """``satisfied_rows`` of a policy, which says once when none of many rows lies in a domain of the policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._unjudged = 0
        self._judges_all = any(clause.domain is None for clause in policy.clauses)

    def __call__(self, rows: Mapping[str, Any]) -> bool | list[bool]:
        """Whether a row satisfies the policy; for a batch of columns, one answer per row."""
        rows = _plain_columns(rows)
        found = satisfied_rows(self._policy, rows)
        if not self._judges_all:
            own = _rows_of(rows) if isinstance(found, list) else [rows]
            clauses = self._policy.clauses
            self._judges_all = any(matches(clause.domain, row) for row in own for clause in clauses)
            before, self._unjudged = self._unjudged, self._unjudged + len(own)
            if before < MANY <= self._unjudged and not self._judges_all:
                domains = dict.fromkeys(str(domain_name(clause.domain)) for clause in clauses)
                logger.warning(
                    "none of the first %d rows lies in a domain of the policy (%s), so that all of them are kept",
                    self._unjudged, ", ".join(domains),
                )  # fmt: skip
        return found


def satisfied_rows(policy: Policy, rows: Mapping[str, Any]) -> bool | list[bool]:
    """Whether a row of Python values satisfies the policy; for a batch of columns, one answer per row.

    Raises: DataError for rows of another shape, ScorerError when a scorer fails.
    """
    batch = _is_batch(rows)
    found = [row_texts(row) for row in (_rows_of(rows) if batch else [rows])]
    if not found:
        return []
    prompts, completions, tags = (list(part) for part in zip(*found, strict=True))
    answers = policy.satisfied(completions, prompts, tags)
    return answers if batch else answers[0]


def _plain_columns(rows: Any) -> dict[str, Any]:
    """A row or a batch as Python values, in whatever format a data set gives it."""
    if isinstance(rows, Mapping):
        columns = dict(rows)
    elif hasattr(rows, "to_pydict"):  # a table of arrow
        columns = rows.to_pydict()
    elif hasattr(rows, "to_dict"):  # of pandas
        columns = rows.to_dict("list")
    else:
        raise DataError(
            f"got rows as {type(rows).__name__}, expected a mapping of columns", help=f"give {USUAL_SHAPES}"
        )
    return {name: _plain(value) for name, value in columns.items()}


def _plain(value: Any) -> Any:
    """Arrays and series as lists, inside of lists and turns too."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _is_batch(rows: Mapping[str, Any]) -> bool:
    for name in CONTENT_COLUMNS:
        if rows.get(name) is not None:
            value = rows[name]
            if isinstance(value, str):
                return False
            if isinstance(value, list):
                # A conversation is a list of turns; a batch of conversations, or of texts, a list of those.
                return not (value and isinstance(value[0], Mapping))
    raise DataError(
        f"the rows have none of the usual columns; they have {', '.join(rows)}", help=f"give {USUAL_SHAPES}"
    )


def _rows_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
