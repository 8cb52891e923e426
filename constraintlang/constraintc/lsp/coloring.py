"""What kind of word each token is, for editors that colour by meaning."""

from __future__ import annotations

from dataclasses import dataclass

from constraintc.lsp.document import Document
from constraintlang.source import Span
from constraintlang.wording import KEYWORDS

KINDS = (
    "comment", "keyword", "string", "regexp", "number", "operator",
    "property", "variable", "namespace", "enumMember", "decorator", "function", "type", "modifier", "parameter",
)  # fmt: skip
"""The protocol's names of kinds; a token is sent as an index into them."""

_BY_TOKEN = {
    "COMMENT": "comment",
    "STRING": "string",
    "BAD_STRING": "string",
    "REGEX": "regexp",
    "INT": "number",
    "NUMBER": "number",
    "PERCENT": "number",
    "CMP": "operator",
    "ADD": "operator",
    "MUL": "operator",
    **dict.fromkeys(KEYWORDS, "keyword"),
}
_BY_NAME = {
    "attribute": "property",
    "constant": "variable",
    "domain": "namespace",
    "tag": "parameter",
    "value": "enumMember",
    "label": "decorator",
    "group": "decorator",
    "import": "namespace",
    "statistic": "function",
    "backend": "function",
    "source": "function",
    "quantity": "property",
    "base": "property",
    "type": "type",
    "direction": "modifier",
    "level": "enumMember",
    "outcome": "keyword",
}


@dataclass(frozen=True)
class Coloured:
    """A part of one line, and its kind."""

    span: Span
    kind: str


def coloured(document: Document) -> list[Coloured]:
    """The tokens that have a kind, in order; names that mean nothing have none."""
    names = {found.span.start: found.kind for found in document.occurrences}
    parts = []
    for token in document.tokens:
        kind = _BY_TOKEN.get(token.type)
        named = names.get(token.start_pos)
        if named is not None and token.type not in ("STRING", "INT", "NUMBER", "PERCENT"):
            kind = _BY_NAME.get(named, kind)
        if kind is not None:
            parts.append(Coloured(Span(token.start_pos, token.end_pos), kind))
    return parts
