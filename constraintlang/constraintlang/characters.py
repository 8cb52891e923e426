"""Characters that make a policy look like what it is not: invisible, reordering, from another script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import Fix, removing
from constraintlang.source import SourceFile, Span

_HIDDEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_WORD = re.compile(r"[^\W\d_]+")


def check_characters(source: SourceFile, comments: Iterable[Span]) -> list[Diagnostic]:
    """PC106 for every suspicious character outside comments.

    Letters of one foreign script in quotes are welcome; a word that mixes Latin with look-alikes is not.
    """
    if source.text.isascii():
        return []
    skipped = [(span.start, span.end) for span in comments]
    found = []
    for match in _HIDDEN.finditer(source.text):
        if not _inside(match.start(), skipped):
            code = f"U+{ord(match[0]):04X}"
            name = unicodedata.name(match[0], "no name").lower()
            message = f"the character {code} ({name}) cannot be seen, but changes the text"
            fix = removing(Span(*match.span()))
            found.append(_warning(match.span(), message, "remove it", fix))
    for match in _WORD.finditer(source.text):
        if match[0].isascii() or _inside(match.start(), skipped):
            continue
        scripts = {unicodedata.name(char, "").split(" ")[0] for char in match[0]}
        if "LATIN" in scripts and scripts & {"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"}:
            message = f"the word `{match[0]}` mixes Latin letters with others that look like them"
            found.append(_warning(match.span(), message, "write the whole word in one script"))
    return found


def _inside(offset: int, spans: list[tuple[int, int]]) -> bool:
    return any(start <= offset < end for start, end in spans)


def _warning(place: tuple[int, int], message: str, help: str, fix: Fix | None = None) -> Diagnostic:
    return Diagnostic("PC106", "warning", Span(*place), message, help=help, fix=fix)
