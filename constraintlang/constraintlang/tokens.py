"""What the lexer yields, and the tokens that open and close."""

from __future__ import annotations

from typing import Protocol

from constraintlang.source import Span

NEWLINE = "_NL"
OPEN_TEXT = "BAD_STRING"
OPENING = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
PARTNER = {"LPAR": ")", "LSQB": "]", "LBRACE": "}"}
CLOSING = {closing: opening for opening, closing in OPENING.items()}


class Token(Protocol):
    """What the lexer yields: a string with a type and its place."""

    type: str
    start_pos: int
    end_pos: int


def span_of(token: Token) -> Span:
    """Where a token stands."""
    return Span(token.start_pos, token.end_pos)
