"""Tokens to chunks: which newlines end an item, so that each item is parsed, and can fail, alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from constraintlang.diagnostics import Diagnostic, Label
from constraintlang.fixes import inserting, removing, replacing
from constraintlang.source import Span

NEWLINE = "_NL"
OPENING = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
PARTNER = {"LPAR": ")", "LSQB": "]", "LBRACE": "}"}
MAX_ERRORS = 1_000
"""After so many errors nothing more is read or checked."""
MAX_LOOKAHEAD = 100  # tokens; without an end, many wrong brackets on one line would take quadratic time
CLOSING = {closing: opening for opening, closing in OPENING.items()}
_TEMPORAL = frozenset(
    ["UNTIL", "WEAK_UNTIL", "RELEASE", "BEFORE", "GLOBALLY", "EVENTUALLY", "NEXT", "WEAK_NEXT", "OVER"]
)
CLAUSE_WORDS = frozenset(["FOR", "PER", "UNDER", "WEIGHT", "PRIORITY", "CONFIDENCE", "BECAUSE"])
STRENGTH_WORDS = frozenset(["REQUIRE", "PREFER", "PRESERVE"])
# A line cannot end after these; after all but `=` the next line continues it ...
DANGLING = (
    frozenset(
        [
            "CMP",
            "ADD",
            "MUL",
            "AND",
            "OR",
            "IMPLIES",
            "NOT",
            "EQUAL",
            "COMMA",
            "COLON",
            "DOT",
            "AT",
            "IN",
            "VBAR",
            "ALWAYS",
            "AS",
            "LET",
        ]
    )
    | _TEMPORAL
    | CLAUSE_WORDS
    | STRENGTH_WORDS
)
# ... and a line that begins with these belongs to the one before it.
CONTINUING = frozenset(["AND", "OR", "IMPLIES", "UNTIL", "WEAK_UNTIL", "RELEASE", "BEFORE"]) | CLAUSE_WORDS
_ITEM_WORDS = (
    frozenset(["EDITION", "IMPORT", "LET", "ATTRIBUTE", "TAG", "GROUP", "TEST", "GIVEN"]) | STRENGTH_WORDS
)


class Token(Protocol):
    """What the lexer yields: a string with a type and its place."""

    type: str
    start_pos: int
    end_pos: int


def span_of(token: Token) -> Span:
    """Where a token stands."""
    return Span(token.start_pos, token.end_pos)


@dataclass
class Chunk:
    """The tokens of one item; ``body`` holds the chunks between the braces of a group."""

    tokens: list[Token] = field(default_factory=list)
    body: list[Chunk] | None = None
    closing: Token | None = None
    broken: bool = False  # already reported, must not be parsed
    joined_at: list[int] = field(
        default_factory=list
    )  # indices of tokens that begin a line after an operator


def split(tokens: Sequence[Token]) -> tuple[list[Chunk], list[Diagnostic]]:
    """Cut a token sequence into chunks and report brackets that do not match."""
    splitter = _Splitter(_single_newlines(tokens))
    splitter.run()
    return splitter.top, splitter.diagnostics


def _single_newlines(tokens: Sequence[Token]) -> list[Token]:
    """Of several newlines in a row the first: whoever looks for the next line takes one step."""
    kept: list[Token] = []
    for token in tokens:
        if token.type != NEWLINE or not kept or kept[-1].type != NEWLINE:
            kept.append(token)
    return kept


class _Splitter:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.top: list[Chunk] = []
        self.groups: list[Chunk] = []
        self.current = Chunk()
        self.brackets: list[Token] = []
        self.diagnostics: list[Diagnostic] = []
        self.last_closed: Token | None = None

    def run(self) -> None:
        for index, token in enumerate(self.tokens):
            if len(self.diagnostics) > MAX_ERRORS:
                break
            if token.type == NEWLINE:
                self.newline(index, token)
            elif token.type == "RBRACE":
                self.closing_brace(index, token)
            elif token.type in CLOSING:
                self.closing_bracket(index, token)
            else:
                self.other(token)
        self.end_of_item()
        for group in self.groups:
            self.unclosed(group.tokens[-1])

    # ------------------------------------------------------------ one method per situation
    def newline(self, index: int, token: Token) -> None:
        self.last_closed = None
        if not self.current.tokens:
            return
        new_item = self.item_starts(index + 1)
        if self.brackets:
            if new_item:
                self.end_of_item()
            elif not any(b.type != "LBRACE" for b in self.brackets):
                self.current.tokens.append(token)
            return
        following = self.following(index + 1)
        if following is not None and following.type in CONTINUING:
            return
        last = self.current.tokens[-1].type
        if last in DANGLING and last != "EQUAL" and following is not None and not new_item:
            self.current.joined_at.append(len(self.current.tokens))
            return
        self.end_of_item()

    def closing_brace(self, index: int, token: Token) -> None:
        if any(b.type == "LBRACE" for b in self.brackets):
            self.closing_bracket(index, token)
            return
        self.end_of_item()  # reports what is still open
        if self.groups:
            self.groups.pop().closing = token
            self.last_closed = token
        else:
            self.unmatched(token)

    def closing_bracket(self, index: int, token: Token) -> None:
        opening = CLOSING[token.type]
        if not any(b.type == opening for b in self.brackets):
            if self.brackets and not self.is_closed_on_its_line(index, self.brackets[-1]):
                self.mistaken(self.brackets.pop(), token)
            else:
                self.current.broken |= bool(self.brackets)
                self.unmatched(token)
            return
        while self.brackets[-1].type != opening:
            self.unclosed(self.brackets.pop(), before=token)
            self.current.broken = True
        self.brackets.pop()
        self.current.tokens.append(token)

    def other(self, token: Token) -> None:
        if self.last_closed is not None:
            self.diagnostics.append(
                Diagnostic(
                    "PC001",
                    "error",
                    span_of(token),
                    "a new item must start on a new line",
                    help="break the line after `}`",
                    fix=inserting(token.start_pos, "\n", "safe"),
                )
            )
            self.last_closed = None
        tokens = self.current.tokens
        opens_group = (
            token.type == "LBRACE"
            and not self.brackets
            and tokens
            and tokens[0].type == "GROUP"
            and tokens[-1].type != "IN"
        )
        tokens.append(token)
        if opens_group:
            group, self.current = self.current, Chunk()
            group.body = []
            self.add(group)
            self.groups.append(group)
        elif token.type in OPENING:
            self.brackets.append(token)

    # ------------------------------------------------------------ helpers
    def following(self, index: int) -> Token | None:
        while index < len(self.tokens) and self.tokens[index].type == NEWLINE:
            index += 1
        return self.tokens[index] if index < len(self.tokens) else None

    def item_starts(self, index: int) -> bool:
        """Whether the next line begins with what can only be the beginning of an item."""
        while index < len(self.tokens) and self.tokens[index].type == NEWLINE:
            index += 1
        first, second, third = (
            self.tokens[i].type if i < len(self.tokens) else "" for i in (index, index + 1, index + 2)
        )
        if first == "GIVEN":
            return not (self.current.tokens and self.current.tokens[0].type == "TEST")
        if first == "DOMAIN":
            return second == "NAME" and third == "LBRACE"
        return first in _ITEM_WORDS or (first == "NAME" and second == "COLON")

    def is_closed_on_its_line(self, index: int, opening: Token) -> bool:
        """Whether the right partner of a bracket follows before the end of the line."""
        for token in self.tokens[index + 1 : index + 1 + MAX_LOOKAHEAD]:
            if token.type in (NEWLINE, OPENING[opening.type]):
                return token.type != NEWLINE
        return False

    def add(self, chunk: Chunk) -> None:
        body = self.groups[-1].body if self.groups else self.top
        assert body is not None
        body.append(chunk)

    def end_of_item(self) -> None:
        # One message per item: the innermost bracket is the one whose partner is missing.
        if self.brackets:
            self.unclosed(self.brackets[-1])
            self.current.broken = True
            self.brackets.clear()
        if self.current.tokens:
            while self.current.tokens[-1].type == NEWLINE:
                self.current.tokens.pop()
            self.add(self.current)
        self.current = Chunk()

    def unclosed(self, opening: Token, before: Token | None = None) -> None:
        labels = (Label(span_of(before), "this closes another bracket"),) if before is not None else ()
        closing = PARTNER[opening.type]
        self.diagnostics.append(
            Diagnostic(
                "PC002",
                "error",
                span_of(opening),
                f"this `{opening}` is never closed",
                help=f"add `{closing}` where the part that it opens ends",
                labels=labels,
            )
        )

    def mistaken(self, opening: Token, closing: Token) -> None:
        right = PARTNER[opening.type]
        self.current.broken = True
        self.diagnostics.append(
            Diagnostic(
                "PC003",
                "error",
                span_of(closing),
                f"`{closing}` does not close `{opening}`",
                help=f"write `{right}`",
                labels=(Label(span_of(opening), "opened here"),),
                fix=replacing(span_of(closing), right),
            )
        )

    def unmatched(self, token: Token) -> None:
        self.diagnostics.append(
            Diagnostic(
                "PC003",
                "error",
                span_of(token),
                f"this `{token}` closes nothing",
                help="remove it, or add the opening bracket before it",
                fix=removing(span_of(token)),
            )
        )
