"""A place where an item does not fit the grammar, and the form of what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from constraintlang.fixes import Fix
from constraintlang.source import Span
from constraintlang.tokens import NEWLINE, Token, span_of


@dataclass(frozen=True)
class Situation:
    """Where parsing an item stopped: its tokens, the index that did not fit, what would have, the place."""

    tokens: Sequence[Token]
    index: int
    expected: frozenset[str]
    place: str

    def type(self, offset: int = 0) -> str:
        """The type of the token ``offset`` places from the failing one, empty outside the item."""
        index = self.index + offset
        return self.tokens[index].type if 0 <= index < len(self.tokens) else ""

    def text(self, offset: int = 0) -> str:
        """The text of that token."""
        index = self.index + offset
        return str(self.tokens[index]) if 0 <= index < len(self.tokens) else ""

    @property
    def at_end(self) -> bool:
        """Whether the item is over."""
        return self.index >= len(self.tokens) or self.type() == NEWLINE

    def span(self, first: int = 0, last: int = 0) -> Span:
        """From the token ``first`` places away to the one ``last`` places away."""
        clamp = range(len(self.tokens))
        start = self.tokens[max(0, min(self.index + first, clamp[-1]))]
        end = self.tokens[max(0, min(self.index + last, clamp[-1]))]
        return span_of(start).to(span_of(end))

    def touches(self, offset: int = 0) -> bool:
        """Whether no white space stands between the token ``offset`` places away and the one after it."""
        if not self.type(offset) or not self.type(offset + 1):
            return False
        return self.tokens[self.index + offset].end_pos == self.tokens[self.index + offset + 1].start_pos

    def written(self, first: int, last: int) -> str:
        """The tokens from ``first`` places away to the one ``last`` places away, one space where any white space is."""
        text = self.text(first)
        for offset in range(first + 1, last + 1):
            text += self.text(offset) if self.touches(offset - 1) else f" {self.text(offset)}"
        return text

    def joined(self, first: int, count: int) -> str:
        """The text of at most ``count`` tokens that touch each other, from ``first`` places away on."""
        text = self.text(first)
        for offset in range(first, first + count - 1):
            if not self.touches(offset):
                break
            text += self.text(offset + 1)
        return text


@dataclass(frozen=True)
class Found:
    """What a rule of the table answers."""

    span: Span
    message: str
    help: str
    fix: Fix | None = None


@dataclass(frozen=True)
class Mistake:
    """A situation that has its own words; every text in ``examples`` must produce ``code``."""

    code: str
    recognise: Callable[[Situation], Found | None]
    examples: tuple[str, ...]


MAX_TOKEN, MAX_ITEM = 40, 200  # characters of what is shown in a message


def shown(text: str, most: int = MAX_TOKEN) -> str:
    """A token for a message, or several of an item: cut where it is long."""
    return text if len(text) <= most else text[: most - 3] + "..."
