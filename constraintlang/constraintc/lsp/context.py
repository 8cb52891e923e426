"""Where the cursor stands in the item that is being typed: the tokens before it, and what may come next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from constraintlang.layout import CLAUSE_WORDS, CONTINUING, Chunk, split
from constraintlang.memory import Memory
from constraintlang.parser import accepted_after, tokens_of
from constraintlang.source import Span
from constraintlang.tokens import CLOSING, NEWLINE, OPENING

_WORD_BEFORE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_CONNECTIVES = frozenset(
    ["AND", "OR", "IMPLIES", "NOT", "COLON", "REQUIRE", "PREFER", "PRESERVE", "ALWAYS", "COMMA"]
)


@dataclass(frozen=True)
class Context:
    """What stands before the word under the cursor.

    ``tokens`` are those of its item, ``expected`` the kinds of token that may follow them; ``word`` is what has
    been typed of the word. ``continuing`` are the words by which the item above could go on in this
    line, when it is indented.
    """

    tokens: tuple[Any, ...]
    expected: frozenset[str]
    word: Span
    in_group: bool
    continuing: frozenset[str] = frozenset()

    def type(self, offset: int = -1) -> str:
        """The kind of the token ``offset`` places before the word, empty outside the item."""
        return self.tokens[offset].type if len(self.tokens) >= -offset else ""

    def text(self, offset: int = -1) -> str:
        """The text of that token."""
        return str(self.tokens[offset]) if len(self.tokens) >= -offset else ""

    @property
    def first(self) -> str:
        """The kind of the first token of the item."""
        return self.tokens[0].type if self.tokens else ""

    @property
    def open_brackets(self) -> list[int]:
        """The indexes of the brackets around the word, the innermost last."""
        found: list[int] = []
        for index, token in enumerate(self.tokens):
            if token.type in OPENING:
                found.append(index)
            elif token.type in CLOSING and found:
                found.pop()
        return found

    @property
    def call(self) -> str | None:
        """The function whose argument the word is in."""
        for index in reversed(self.open_brackets):
            if self.tokens[index].type == "LPAR" and index and self.tokens[index - 1].type == "NAME":
                return str(self.tokens[index - 1])
        return None

    @property
    def on_prompts(self) -> bool:
        """Whether the word stands in a condition on prompts: behind `for`, or behind the bar of a statistic."""
        around = [i for i in self.open_brackets if i and self.tokens[i - 1].type == "NAME"]
        if around:
            return any(token.type == "VBAR" for token in self.tokens[around[-1] :])
        return self.clause == "FOR"

    @property
    def set_of(self) -> int | None:
        """The index of what stands before the innermost brace: the `in` or `=` of a set."""
        brackets = self.open_brackets
        if not brackets or self.tokens[brackets[-1]].type != "LBRACE":
            return None
        return brackets[-1] - 1

    @property
    def clause(self) -> str:
        """The clause that the word is in, by its first word; empty in the condition."""
        depth, found = 0, ""
        for token in self.tokens:
            depth += (token.type in OPENING) - (token.type in CLOSING)
            if depth == 0 and token.type in CLAUSE_WORDS:
                found = token.type
        return found

    @property
    def comparison(self) -> tuple[Any, ...]:
        """The tokens since the condition began that the word is a part of, without the arguments of calls."""
        depth = 0
        found: list[Any] = []
        for token in reversed(self.tokens):
            depth += (token.type in CLOSING) - (token.type in OPENING)
            if depth < 0 or (depth == 0 and token.type in _CONNECTIVES):
                break
            if depth == 0 or token.type in CLOSING:
                found.append(token)
        return tuple(reversed(found))


def context_at(text: str, offset: int, memory: Memory | None = None) -> Context | None:
    """The context of an offset; None inside comments and quotes, and behind a number."""
    match = _WORD_BEFORE.search(text, max(0, offset - 200), offset)
    start = match.start() if match is not None else offset
    # A word in the place of the one that is being typed shows to which item it belongs.
    tokens = tokens_of(text[:start] + "x", memory)
    if not tokens or tokens[-1].start_pos != start or tokens[-1].type != "NAME":
        return None
    before = tokens[-2] if len(tokens) > 1 else None
    if before is not None and before.type in ("INT", "NUMBER", "PERCENT") and before.end_pos == start:
        return None
    chunks, _ = split([token for token in tokens if token.type != "COMMENT"])
    in_group = False
    while chunks[-1].body:
        chunks, in_group = chunks[-1].body, True
    item = chunks[-1].tokens[:-1]
    indented = text[text.rfind("\n", 0, start) + 1 : start].isspace()
    continuing = _continuing(chunks[-2]) if not item and indented and len(chunks) > 1 else frozenset()
    return Context(tuple(item), accepted_after(item), Span(start, offset), in_group, continuing)


def _continuing(above: Chunk) -> frozenset[str]:
    if above.body is not None or above.broken:
        return frozenset()
    tokens: Sequence[Any] = [token for token in above.tokens if token.type != NEWLINE]
    return accepted_after(tokens) & CONTINUING
