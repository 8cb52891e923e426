"""Characters that make a policy look like what it is not: invisible, reordering, from another script."""

from __future__ import annotations

import re
import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice

from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import Fix, removing
from constraintlang.layout import MAX_ERRORS
from constraintlang.situations import shown
from constraintlang.source import SourceFile, Span

_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\u3164\ufe00-\ufe0d\ufeff\uffa0"
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
    # Behind a picture, and in the sign of a key, these two are part of what is seen.
    "|(?<![\u00a9\u00ae\u203c-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])[\ufe0e\ufe0f](?!\u20e3)"
)
_BREAKS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # some editors end a line here, we do not
_WORD = re.compile(r"[^\W\d_]+")
REMOVE = "remove it"


def check_characters(
    source: SourceFile, comments: Iterable[Span], known: Iterable[Diagnostic] = ()
) -> list[Diagnostic]:
    """PC106 for every suspicious character outside comments, and for hidden line ends anywhere.

    Letters of one foreign script in quotes are welcome; a word that mixes Latin with look-alikes is not. What
    is underlined by an error in ``known`` is not mentioned again.
    """
    if source.text.isascii() and not _BREAKS.search(source.text):
        return []
    skipped = sorted((span.start, span.end) for span in comments)
    errors = {d.span.start for d in known if d.code == "PC007"}
    found = (
        _warning(place, message, help, removing(Span(*place)) if help == REMOVE else None)
        for place, message, help in _suspicious(source.text, skipped)
        if errors.isdisjoint(range(*place))
    )
    first = list(islice(found, MAX_ERRORS + 1))
    if len(first) > MAX_ERRORS:
        place = first[-1].span.start, first[-1].span.start
        first[-1] = _warning(place, "there are more characters like the ones before", "remove them")
    return first


def _suspicious(text: str, skipped: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], str, str]]:
    """Each suspicious place, what is wrong there, and what to do."""
    for match in _BREAKS.finditer(text):
        code = f"U+{ord(match[0]):04X}"
        message = f"the character {code} ends a line for some editors, and does not end one here"
        yield match.span(), message, REMOVE
    for match in _HIDDEN.finditer(text):
        if not _inside(match.start(), skipped):
            code = f"U+{ord(match[0]):04X}"
            name = unicodedata.name(match[0], "no name").lower()
            message = f"the character {code} ({name}) cannot be seen, but changes the text"
            yield match.span(), message, REMOVE
    for match in _WORD.finditer(text):
        if match[0].isascii() or _inside(match.start(), skipped):
            continue
        scripts = {unicodedata.name(char, "").split(" ")[0] for char in match[0]}
        if "LATIN" in scripts and scripts & {"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"}:
            message = f"the word `{shown(match[0])}` mixes Latin letters with others that look like them"
            yield match.span(), message, "write the whole word in one script"


def _inside(offset: int, spans: list[tuple[int, int]]) -> bool:
    """Whether an offset lies in one of the spans, which are sorted and do not overlap."""
    index = bisect_right(spans, (offset, sys.maxsize)) - 1
    return index >= 0 and spans[index][0] <= offset < spans[index][1]


def _warning(place: tuple[int, int], message: str, help: str, fix: Fix | None = None) -> Diagnostic:
    return Diagnostic("PC106", "warning", Span(*place), message, help=help, fix=fix)
