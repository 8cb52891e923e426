"""A source text and positions in it: offsets inside, lines and columns on demand."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from msgspec import Struct


class Span(Struct, frozen=True, gc=False):
    """A half-open range of character offsets ``[start, end)`` in one source text."""

    start: int
    end: int

    def to(self, other: Span) -> Span:
        """The smallest span that covers both."""
        return Span(min(self.start, other.start), max(self.end, other.end))


@dataclass(frozen=True)
class SourceFile:
    """The text of one policy and the name under which messages speak of it.

    ``folder`` is where the files that it names lie; None for a text that is no file.
    """

    text: str
    name: str = "<policy>"
    folder: Path | None = field(default=None, compare=False, repr=False)

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both counted from 1."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def line_span(self, number: int) -> Span:
        """A line (counted from 1) without its newline."""
        start = self._line_starts[number - 1]
        end = self.text.find("\n", start)
        return Span(start, len(self.text) if end < 0 else end)

    def line(self, number: int) -> str:
        """The text of a line (counted from 1) without its line end."""
        return self.extract(self.line_span(number)).removesuffix("\r")

    def whole_line(self, span: Span) -> Span:
        """``span`` with the rest of its lines and the newline, when nothing but space stands beside it."""
        start = self.text.rfind("\n", 0, span.start) + 1
        end = self.text.find("\n", span.end)
        end = len(self.text) if end < 0 else end
        if self.text[start : span.start].strip() or self.text[span.end : end].strip():
            return span
        return Span(start, min(end + 1, len(self.text)))

    def find(self, pattern: str, span: Span) -> Span | None:
        """Where a pattern first matches within a span, comments left out; meant for our own short patterns."""
        for match in re.compile(rf"#[^\n]*|({pattern})").finditer(self.text, span.start, span.end):
            if match[1] is not None:
                return Span(*match.span())
        return None

    def extract(self, span: Span) -> str:
        """The text under a span."""
        return self.text[span.start : span.end]
