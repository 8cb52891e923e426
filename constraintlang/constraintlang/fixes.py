"""Edits that a machine can make to repair a finding, how far they can be trusted, and making them.

``safe``: the meaning of a policy that has one stays, and of a broken one there is only one reading.
``unsafe``: a guess that is likely right. ``placeholder``: the author still has to fill something in, so it is
shown and never made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from constraintlang.source import Span

Applicability = Literal["safe", "unsafe", "placeholder"]


@dataclass(frozen=True)
class Edit:
    """The text under ``span`` becomes ``text``; an empty span inserts."""

    span: Span
    text: str


@dataclass(frozen=True)
class Fix:
    """Edits that belong together: all of them are made, or none."""

    edits: tuple[Edit, ...]
    applicability: Applicability = "unsafe"


def replacing(span: Span, text: str, applicability: Applicability = "unsafe") -> Fix:
    """The fix that writes ``text`` in the place of what stands under a span."""
    return Fix((Edit(span, text),), applicability)


def inserting(offset: int, text: str, applicability: Applicability = "unsafe") -> Fix:
    """The fix that writes ``text`` before an offset."""
    return replacing(Span(offset, offset), text, applicability)


def removing(span: Span, applicability: Applicability = "unsafe") -> Fix:
    """The fix that takes out what stands under a span."""
    return replacing(span, "", applicability)


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """``text`` with edits made that do not overlap; insertions at one place keep their order.

    >>> apply_edits("a =< 1", replacing(Span(2, 4), "<=").edits)
    'a <= 1'
    """
    parts, position = [], 0
    for edit in sorted(edits, key=_place):
        if edit.span.start < position:
            raise ValueError(f"edits overlap at offset {edit.span.start}")
        parts += [text[position : edit.span.start], edit.text]
        position = edit.span.end
    return "".join([*parts, text[position:]])


def compatible(fixes: Sequence[Fix], protected: Sequence[Span] = ()) -> list[int]:
    """The indexes of fixes that can be made together, the first of several that touch winning.

    A fix that would take out a part of a protected span (a comment) is left out.
    """
    taken: list[Span] = []
    chosen: list[int] = []
    for index, fix in enumerate(fixes):
        spans = [edit.span for edit in fix.edits]
        meets = any(_touch(span, other) for span in spans for other in taken)
        if not meets and not any(_cuts(span, kept) for span in spans for kept in protected):
            chosen.append(index)
            taken += spans
    return chosen


def _place(edit: Edit) -> tuple[int, int]:
    return (edit.span.start, edit.span.end)


def _touch(left: Span, right: Span) -> bool:
    # Insertions at one place touch, too: which of them comes first would be chance.
    return (left.start < right.end and right.start < left.end) or left.start == right.start


def _cuts(span: Span, kept: Span) -> bool:
    return span.start < kept.end and kept.start < span.end
