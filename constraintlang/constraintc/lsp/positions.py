"""Offsets in a text, and the lines and columns in which editors count."""

from __future__ import annotations

import re
from bisect import bisect_right

_LINE_END = re.compile(r"\r\n|\n|\r")


class Positions:
    r"""Lines and columns of one text, both from 0; columns in the units of an encoding of Unicode.

    >>> Positions("a\n😀b").position(3), Positions("a\n😀b").offset(1, 2)
    ((1, 2), 3)
    """

    def __init__(self, text: str, encoding: str = "utf-16") -> None:
        self.text = text
        self.encoding = encoding
        ends = list(_LINE_END.finditer(text))
        self.starts = [0, *(end.end() for end in ends)]
        self.ends = [*(end.start() for end in ends), len(text)]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self.starts, offset) - 1
        return line, self._units(self.text[self.starts[line] : offset])

    def offset(self, line: int, column: int) -> int:
        """The offset of a line and column; one that does not exist becomes the nearest before it."""
        if line >= len(self.starts):
            return len(self.text)
        text = self.text[self.starts[line] : self.ends[line]]
        if text.isascii() or self.encoding == "utf-32":
            return self.starts[line] + min(column, len(text))
        passed = 0
        for index, char in enumerate(text):
            passed += self._units(char)
            if passed > column:
                return self.starts[line] + index
        return self.ends[line]

    def _units(self, text: str) -> int:
        if text.isascii() or self.encoding == "utf-32":
            return len(text)
        if self.encoding == "utf-8":
            return len(text.encode("utf-8", "surrogatepass"))
        return len(text) + sum(char > "\uffff" for char in text)
