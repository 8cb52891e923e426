"""Finding a name's declaration and uses, and giving it another."""

from __future__ import annotations

import re

from constraintc.lsp.document import Document
from constraintc.lsp.occurrences import Occurrence
from constraintlang import vocabulary as v
from constraintlang.fixes import Edit
from constraintlang.source import SourceFile, Span
from constraintlang.wording import KEYWORDS

RENAMED = ("attribute", "constant", "domain", "tag", "value", "label", "group")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHARED = {"attribute": "name", "constant": "name"}  # one may not be called like the other


class Refused(Exception):
    """Why a name cannot be changed, for the user to read."""


def same_name(document: Document, offset: int) -> list[Occurrence]:
    """Everything that names what the name under an offset names, in order; nothing where there is no name."""
    found = document.occurrence_at(offset)
    if found is None:
        return []
    key = (found.kind, found.name, found.owner)
    return [one for one in document.occurrences if (one.kind, one.name, one.owner) == key]


def imported_name(document: Document, offset: int) -> tuple[SourceFile, Span] | None:
    """Where an imported file declares the attribute that is named under an offset; None for all else."""
    found = document.occurrence_at(offset)
    if found is None or found.kind != "attribute":
        return None
    info = document.declarations.attributes.get(found.name)
    return None if info is None or info.source is None or info.span is None else (info.source, info.span)


def renamable(document: Document, offset: int) -> Span:
    """The place of the name under an offset.

    Raises: Refused when there is none, or when it is not a name of this file.
    """
    found = document.occurrence_at(offset)
    if found is None or found.kind not in RENAMED:
        raise Refused("only names that a policy declares can be changed")
    if document.syntax_errors:
        raise Refused("correct the syntax errors first: the name may stand in what cannot be read")
    if not any(one.defines for one in same_name(document, offset)):
        raise Refused(f"`{found.name}` is not declared in this file")
    return found.span


def rename(document: Document, offset: int, name: str) -> list[Edit]:
    """The edits that give what is named under an offset another name.

    Raises: Refused when the file would not say the same afterwards.
    """
    renamable(document, offset)
    places = same_name(document, offset)
    if not _NAME.fullmatch(name):
        raise Refused(f"`{name}` is no name: letters, digits and `_`, and no digit first")
    if name.upper() in KEYWORDS and name == name.lower():
        raise Refused(f"`{name}` is a reserved word")
    kind, owner = places[0].kind, places[0].owner
    if kind in _SHARED and name in v.RESERVED_NAMES:
        raise Refused(f"`{name}` has a meaning of its own in the language")
    if name != places[0].name and _taken(document, kind, owner, name):
        raise Refused(f"`{name}` is already in use")
    return [Edit(place.span, name) for place in places]


def _taken(document: Document, kind: str, owner: str | None, name: str) -> bool:
    if kind in _SHARED and name in document.declarations.attributes:
        return True  # one of the prelude, too
    space = _SHARED.get(kind, kind)
    return any(
        one.name == name and one.owner == owner and _SHARED.get(one.kind, one.kind) == space
        for one in document.occurrences
    )
