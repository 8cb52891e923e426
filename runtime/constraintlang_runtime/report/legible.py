"""Texts of users and models made legible in a page: what would be invisible, or reorder the line, becomes a sign."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

RecordT = TypeVar("RecordT", bound=msgspec.Struct)

# Controls but tab and line feed, zero-width and tag characters, bidi overrides and isolates, separators that end a line
# for some programs, half surrogate pairs. Joiners, soft hyphens and the marks of right-to-left text are kept.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
TEXT_LIMIT = 2000  # characters of one prompt or reply that a page holds


def legible(text: str) -> str:
    r"""``text`` with unseen characters as signs: a picture for the old controls, the code point for others.

    >>> legible("a\x1b[31mb\u202ec")
    'a␛[31mb⟨U+202E⟩c'
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSEEN.sub(_sign, text.replace("\r\n", "\n"))


def legible_record(record: RecordT) -> RecordT:
    """The record with every text in it legible."""
    return msgspec.convert(_mapped(msgspec.to_builtins(record)), type(record))


def cut(text: str, limit: int = TEXT_LIMIT) -> str:
    """At most the first ``limit`` characters."""
    return text if len(text) <= limit else text[:limit]


def _sign(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _mapped(value: object) -> object:
    if isinstance(value, str):
        return legible(value)
    if isinstance(value, dict):
        return {_mapped(key): _mapped(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(entry) for entry in value]
    return value
