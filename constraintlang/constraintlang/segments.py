"""The parts of a response that ``over sentences`` and ``over turns`` speak of: one pass, no backtracking.

A *sentence* ends after a run of ``.``, ``!``, ``?``, ``…`` and the closing quotes and brackets behind it,
when white space or the end of the text follows; directly after ``。``, ``！``, ``？``; and at a line break.
So ``v1.2`` is no end, and ``e.g. this`` is one: abbreviations are not known.
A *turn* begins at a line that begins with a role and a colon, such as ``User:``; the role stays in the turn,
so that a pattern can look for it. What precedes the first role is a turn of its own.
White space around a part is dropped, and parts without anything else are none: an empty text has no parts.
Parts at the level ``tokens`` are not made here, because they depend on a tokenizer: the part of a token is
the text up to and including it.
"""

from __future__ import annotations

from constraintlang import vocabulary as v

STOPS = ".!?…"
CLOSERS = "\"')]}»”’*_"
FULL_STOPS = "。！？｡"
LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
ROLES = ("user", "human", "assistant", "ai", "bot", "system", "tool")


def split(text: str, level: str) -> list[str]:
    """The parts of a text at a level.

    >>> split("Hi! It costs 1.5 dollars.", "sentences")
    ['Hi!', 'It costs 1.5 dollars.']
    """
    if level == "sentences":
        return sentences(text)
    if level == "turns":
        return turns(text)
    if level == v.WHOLE:
        return [text]
    raise ValueError(f"got the level {level!r}, expected `sentences`, `turns` or `{v.WHOLE}`")


def sentences(text: str) -> list[str]:
    """The sentences of a text."""
    parts: list[str] = []
    start = 0
    ended = False  # the text so far ends with a stop, perhaps with closers behind it
    for index, char in enumerate(text):
        if char in LINE_BREAKS or (ended and char.isspace()):
            parts.append(text[start:index])
            start, ended = index, False
        elif char in FULL_STOPS:
            parts.append(text[start : index + 1])
            start, ended = index + 1, False
        else:
            ended = char in STOPS or (ended and char in CLOSERS)
    parts.append(text[start:])
    return [stripped for part in parts if (stripped := part.strip())]


def turns(text: str) -> list[str]:
    r"""The turns of a dialogue that stands in one text.

    >>> turns("User: Is it safe?\nAssistant: Yes.\nMostly.")
    ['User: Is it safe?', 'Assistant: Yes.\nMostly.']
    """
    parts: list[list[str]] = [[]]
    for line in text.splitlines(keepends=True):
        role, colon, _ = line.lstrip().partition(":")
        if colon and role.rstrip().lower() in ROLES:
            parts.append([])
        parts[-1].append(line)
    return [stripped for part in parts if (stripped := "".join(part).strip())]
