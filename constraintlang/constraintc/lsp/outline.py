"""The items of a policy as a tree of names, for an editor's outline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from constraintc.lsp.document import Document
from constraintlang import nodes as n
from constraintlang.diagnostics import visible
from constraintlang.printer import format_formula
from constraintlang.source import Span

Kind = Literal["statement", "group", "test", "attribute", "constant", "domain", "tag", "other"]
MAX_SHOWN = 60


@dataclass(frozen=True)
class Symbol:
    """An item: ``span`` is all of it, ``name_span`` lies in it."""

    kind: Kind
    name: str
    detail: str
    span: Span
    name_span: Span
    children: tuple[Symbol, ...] = ()


def outline(document: Document) -> list[Symbol]:
    """The items of a file in order, those of groups below their group."""
    return [_symbol(item, document) for item in document.tree.items]


def _symbol(item: n.Item, document: Document) -> Symbol:
    match item:
        case n.Group():
            children = tuple(_symbol(inner, document) for inner in item.items)
            return _made("group", item.name or "group", "", item, item.name_span, children)
        case n.Test():
            return _made("test", item.name or "test", "", item, None)
        case n.Attribute():
            return _made("attribute", item.name, item.type, item, item.name_span)
        case n.Let():
            return _made("constant", item.name, format_formula(item.value), item, item.name_span)
        case n.Domain():
            return _made("domain", item.name, "", item, item.name_span)
        case n.Tag():
            return _made("tag", item.key, "", item, item.name_span)
        case n.Statement():
            formula = format_formula(item.formula)
            detail = formula if item.label else ""
            return _made(
                "statement", item.label or formula, detail, item, item.label_span or item.formula.span
            )
        case _:
            return _made("other", document.source.extract(item.span), "", item, None)


def _made(
    kind: Kind,
    name: str,
    detail: str,
    item: n.Item,
    name_span: Span | None,
    children: tuple[Symbol, ...] = (),
) -> Symbol:
    # Editors refuse an empty name, and a name that lies outside its item.
    return Symbol(kind, _short(name) or kind, _short(detail), item.span, name_span or item.span, children)


def _short(text: str) -> str:
    shown = visible(" ".join(text.split()))
    return shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 3] + "..."
