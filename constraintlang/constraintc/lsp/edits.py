"""Changes to a text that an editor makes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher

from constraintlang.source import Span


@dataclass(frozen=True)
class Edit:
    """The text under ``span`` becomes ``text``; an empty span inserts."""

    span: Span
    text: str


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """A text with edits made that do not overlap.

    >>> apply_edits("a =< 1", [Edit(Span(2, 4), "<=")])
    'a <= 1'
    """
    for edit in sorted(edits, key=lambda edit: edit.span.start, reverse=True):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text


def line_edits(old: str, new: str) -> list[Edit]:
    """The edits that turn one text into another, whole lines at a time, so that cursors stay where they are."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    starts = [0]
    for line in before:
        starts.append(starts[-1] + len(line))
    return [
        Edit(Span(starts[first], starts[last]), "".join(after[begin:end]))
        for kind, first, last, begin, end in SequenceMatcher(
            None, before, after, autojunk=False
        ).get_opcodes()
        if kind != "equal"
    ]
