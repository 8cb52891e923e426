"""The texts that a policy judges, out of the shapes in which data sets and trainers hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from constraintlang_runtime.columns import WITHHELD, row_tags
from constraintlang_runtime.errors import DataError

USUAL_SHAPES = "`text`, or `prompt` and `completion`, or `messages`"


def as_text(value: Any) -> str:
    r"""A text as it is; of a conversation, the contents of its turns, a line each.

    Raises: DataError for anything else.

    >>> as_text([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}])
    'Hello\nHi'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return as_text(value.get("content"))
    if isinstance(value, Sequence) and all(isinstance(turn, Mapping) for turn in value):
        return "\n".join(_content(turn) for turn in value)
    raise DataError(
        f"got {value!r:.60} where a text is needed", help="give a string, or a list of turns with `content`"
    )


def _content(turn: Mapping[str, Any]) -> str:
    content = turn.get("content")
    if isinstance(content, str) or content is None:
        return content or ""
    # A turn of several parts, as multimodal templates write them: its texts, in order.
    return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))


def row_texts(row: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Prompt, completion and tags of one row; of a conversation, what stands before its last assistant turn, and it.

    Raises: DataError for a row without content, or a conversation that does not end with the assistant.
    """
    tags = row_tags(row)
    if row.get(WITHHELD) is not None:
        row = _silent(row)
    if row.get("messages") is not None:
        turns = row["messages"]
        if not turns or turns[-1].get("role") != "assistant":
            raise DataError(
                "the last message of a row is not from the assistant", help="a policy judges the last answer"
            )
        return as_text(turns[:-1]), as_text(turns[-1:]), tags
    if row.get("prompt") is not None and row.get("completion") is not None:
        return as_text(row["prompt"]), as_text(row["completion"]), tags
    if row.get("text") is not None:
        return "", as_text(row["text"]), tags
    raise DataError(
        f"a row has none of the usual shapes; it has {', '.join(row)}", help=f"give {USUAL_SHAPES}"
    )


def _silent(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row whose reply a server withheld, as one with an empty reply; its column keeps that from being scored."""
    if row.get("messages") is not None:
        return {**row, "messages": [*row["messages"], {"role": "assistant", "content": ""}]}
    return {**row, "completion": ""}


def require_texts(given: Any, name: str) -> None:
    """Raise DataError for one text where a list of them is needed, which would be read letter by letter."""
    if isinstance(given, str):
        raise DataError("got one text, expected a list", help="write [text]", parameter=name)


def given_rows(given: Iterable[Mapping[str, Any] | str], name: str = "prompts") -> list[dict[str, Any]]:
    """Rows of a caller's, texts as prompts. Raises: DataError for one row in the place of a list."""
    require_texts(given, name)
    if isinstance(given, Mapping):
        raise DataError("got one row, expected a list", help="write [row]", parameter=name)
    return [{"prompt": row} if isinstance(row, str) else dict(row) for row in given]
