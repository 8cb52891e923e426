"""Changes to a text that leave the lines alone that stay the same."""

from __future__ import annotations

from difflib import SequenceMatcher

from constraintlang.fixes import Edit
from constraintlang.source import Span


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
