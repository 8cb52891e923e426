"""A file in the canonical layout, or the reason why it stays as it is."""

from __future__ import annotations

from constraintc.lsp.document import Document
from constraintc.lsp.edits import line_edits
from constraintlang.diagnostics import PolicyError
from constraintlang.fixes import Edit
from constraintlang.formatting import format_source


def formatted(document: Document) -> list[Edit] | None:
    """The edits that format a file; None while it has syntax errors, because a part of it would be lost."""
    try:
        text = format_source(document.source)
    except PolicyError:
        return None
    return line_edits(document.text, text)
