"""The tree of reasons for people: one line for each sub-formula, with its truth value, margin and scores."""

from __future__ import annotations

from collections.abc import Iterator

from constraintlang.reasons import Reason, margin_text, value_text

MAX_TEXT = 60
WORDS = {True: "true", False: "false", None: "unknown"}


def reason_lines(root: Reason) -> list[str]:
    """The lines of a tree, its columns aligned."""
    rows = list(_rows(root, 0))
    width = min(max(len(row[0]) for row in rows), MAX_TEXT)
    return [
        f"{text.ljust(width)}  {truth.ljust(7)}  {margin.rjust(7)}  {rest}".rstrip()
        for text, truth, margin, rest in rows
    ]


def _rows(reason: Reason, depth: int) -> Iterator[tuple[str, str, str, str]]:
    text = "  " * depth + reason.text
    shown = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
    values = ", ".join(f"{name} = {value_text(value)}" for name, value in reason.values)
    marks = [word for word, holds in (("decides", reason.decides), ("fails", reason.fails)) if holds]
    rest = "  ".join(part for part in (values, f"<- {' and '.join(marks)}" if marks else "") if part)
    yield shown, WORDS[reason.truth], margin_text(reason.margin), rest
    for part in reason.parts:
        yield from _rows(part, depth + 1)
