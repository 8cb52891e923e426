"""Breaks a canonical line that is too long, at the places where the language lets a line end.

A line may end before a word that continues a statement, after `,` or `{` in a set, and anywhere in round and
square brackets. Nothing else is broken: a single name or text may stay longer than the width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from constraintlang.layout import CLAUSE_WORDS

STEP = "  "
CONTINUED = 2 * STEP
"""The indentation of lines that continue the statement above them."""

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[A-Za-z_][A-Za-z0-9_]*|[^\sA-Za-z_"]|\s+')
_CLAUSES = frozenset(word.lower() for word in CLAUSE_WORDS)
# From the loosest to the tightest: a line is broken at the loosest word that it has.
_CONNECTIVES = (frozenset(["implies"]), frozenset(["or"]), frozenset(["and"]))
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_BRACKETS = _OPENING | _CLOSING


def wrap(line: str, width: int) -> list[str]:
    """The lines of a statement or a `given`, the first without indentation.

    >>> wrap("polite: toxicity < 0.1 and words < 200 for domain=chat", 30)
    ['polite: toxicity < 0.1', '    and words < 200', '    for domain=chat']
    """
    if len(line) <= width:
        return [line]
    head, *clauses = _before(line, _CLAUSES)
    behind = " ".join(clauses)
    if len(CONTINUED) + len(behind) <= width:
        clauses = [behind] if behind else []
    lines = list(_connected(head, "", width))
    for clause in clauses:
        lines += _connected(clause, CONTINUED, width)
    return lines


def _connected(text: str, indent: str, width: int) -> Iterator[str]:
    """``text`` broken before its loosest connective, else inside its brackets."""
    if len(indent) + len(text) <= width:
        yield indent + text
        return
    for words in _CONNECTIVES:
        first, *rest = _before(text, words)
        if rest:
            yield from _bracketed(first, indent, width)
            for part in rest:
                yield from _bracketed(part, indent or CONTINUED, width)
            return
    yield from _bracketed(text, indent, width)


def _bracketed(text: str, indent: str, width: int, lead: str = "") -> Iterator[str]:
    """``lead + text`` with the content of its first long outermost brackets on lines of its own."""
    brackets = _outermost(text) if len(indent) + len(lead) + len(text) > width else None
    if brackets is None:
        yield indent + lead + text
        return
    opening, closing = brackets
    content = text[opening + 1 : closing].strip()
    yield indent + lead + text[: opening + 1]
    inside = _filled if text[opening] != "(" or _has_comma(content) else _connected
    yield from inside(content, indent + STEP, width)
    yield from _bracketed(text[closing + 1 :], indent, width, lead=text[closing])


def _filled(content: str, indent: str, width: int) -> Iterator[str]:
    """A list with as many entries on each line as fit."""
    line = ""
    for entry in _entries(content):
        if line and len(indent) + len(line) + 1 + len(entry) > width:
            yield indent + line
            line = ""
        if not line and len(indent) + len(entry) > width:
            yield from _connected(entry, indent, width)
        else:
            line = f"{line} {entry}" if line else entry
    if line:
        yield indent + line


# ---------------------------------------------------------------- reading the line
def _tokens(text: str) -> Iterator[tuple[int, str, int]]:
    """Start, text and bracket depth of every token; a bracket has the depth of what surrounds it."""
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        depth -= token in _CLOSING
        yield match.start(), token, depth
        depth += token in _OPENING


def _before(text: str, words: frozenset[str]) -> list[str]:
    """``text`` cut before each of ``words`` that stands outside brackets."""
    cuts = [start for start, token, depth in _tokens(text) if depth == 0 and token in words and start > 0]
    return [text[a:b].strip() for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def _outermost(text: str) -> tuple[int, int] | None:
    """The places of the first outermost bracket with content and of its partner; None without one."""
    places = [start for start, token, depth in _tokens(text) if depth == 0 and token in _BRACKETS]
    pairs = zip(places[::2], places[1::2], strict=False)
    return next(((a, b) for a, b in pairs if text[a + 1 : b].strip()), None)


def _entries(content: str) -> list[str]:
    cuts = [start + 1 for start, token, depth in _tokens(content) if depth == 0 and token == ","]
    return [content[a:b].strip() for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


def _has_comma(content: str) -> bool:
    return any(token == "," and depth == 0 for _, token, depth in _tokens(content))
