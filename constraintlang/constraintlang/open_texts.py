"""A text without its closing quote: what it has swallowed, and where the quote was meant to stand."""

from __future__ import annotations

import re
from collections.abc import Sequence

from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import Fix, inserting
from constraintlang.tokens import OPENING, PARTNER, Token, span_of

_ENTRY = re.compile(r'\s*,\s*\w+\s*=\s*"\Z')  # `, label="` at the end of a text that went on for too long


def num_swallowed(text: Token, brackets: Sequence[Token]) -> int:
    """How many of the open brackets, from the innermost on, have their partners within the text."""
    return len(_partners(text, brackets))


def never_closed(text: Token, before: Sequence[Token] = (), brackets: Sequence[Token] = ()) -> Diagnostic:
    """PC008 for a text that goes on to the end of its line.

    ``before`` are the tokens of its item to the left, ``brackets`` those that are open there.
    """
    place, fix = span_of(text), _quote(text, brackets)
    first = _paired_wrongly([*before, text])
    entry = None if first is None else _ENTRY.search(str(first))
    if first is not None and entry is not None:
        place, fix = span_of(first), inserting(first.start_pos + entry.start(), '"')
    help = 'end it with `"` on the same line'
    return Diagnostic("PC008", "error", place, "this text is never closed", help=help, fix=fix)


def _partners(text: Token, brackets: Sequence[Token]) -> list[int]:
    """Where in the text the partners of the open brackets stand, the innermost first."""
    found: list[int] = []
    for place, sign in enumerate(str(text)):
        if len(found) < len(brackets) and sign == PARTNER[brackets[-1 - len(found)].type]:
            found.append(place)
    return found


def _quote(text: Token, brackets: Sequence[Token]) -> Fix | None:
    """The quote before the brackets that end the text, else before the first one that the text swallowed."""
    content = str(text).rstrip()
    partners = _partners(text, brackets)
    closed = content
    for place in reversed(partners):
        if not closed.endswith(content[place]):
            closed = content[: partners[0]]
            break
        closed = closed[:-1].rstrip()
    return None if closed.endswith("\\") else inserting(text.start_pos + len(closed.rstrip()), '"')


def _paired_wrongly(tokens: Sequence[Token]) -> Token | None:
    """The first text of `f("a, b="c")`: words between two texts, all without white space."""
    for index in range(len(tokens) - 1, 0, -1):
        if tokens[index - 1].end_pos != tokens[index].start_pos or tokens[index - 1].type in OPENING:
            return None
        if tokens[index - 1].type == "STRING":
            return tokens[index - 1] if index < len(tokens) - 1 else None
    return None
