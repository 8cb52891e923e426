"""A file in the canonical layout, or the reason why it stays as it is."""

from __future__ import annotations

from constraintc.lsp.document import Document
from constraintc.lsp.edits import Edit, line_edits
from constraintlang.parser import parse
from constraintlang.printer import format_policy


def formatted(document: Document) -> list[Edit] | None:
    """The edits that format a file; None while it has syntax errors, because a part of it would be lost."""
    if document.syntax_errors:
        return None
    text = format_policy(document.tree)
    again, found = parse(text)
    # INVARIANT: what is written back says what was there, with all comments.
    kept = [c.text for c in document.tree.comments if c.text] == [c.text for c in again.comments if c.text]
    if any(d.is_error for d in found) or again != document.tree or not kept:
        raise AssertionError("formatting would have changed the policy")
    return line_edits(document.text, text)
