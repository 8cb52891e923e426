"""Finds the code in an answer that may wrap it in Markdown."""

from __future__ import annotations

import re

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[^\n`]*$", re.MULTILINE)


def code_of(text: str) -> str:
    """The inside of the first fenced block, to its end or the end of the text; the whole text when there is none.

    A fence is three or more backticks or tildes at the start of a line; one of the same kind, as long or longer, with
    nothing after it ends the block (CommonMark 0.31, section 4.5). Linear in the text.
    """
    text = text.replace("\r\n", "\n")
    opening = FENCE.search(text)
    if opening is None:
        return text
    fence = opening.group(1)
    start = opening.end() + 1
    ending = re.compile(rf"^ {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
    closing = ending.search(text, start)
    return text[start : closing.start() if closing else len(text)]
