"""Where the names of a policy stand: each declaration and each use, with what it names."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.declarations import Declarations
from constraintlang.printer import plain_text
from constraintlang.source import Span
from constraintlang.tree import descendants, dotted

Kind = Literal[
    "attribute", "constant", "domain", "tag", "value", "label", "group", "import",
    "statistic", "quantity", "base", "setting", "level", "type", "direction", "field", "backend", "source",
    "option", "outcome",
]  # fmt: skip
"""What a name names; those of the second row are words of the language."""


@dataclass(frozen=True)
class Occurrence:
    """A name at a place; ``owner`` is the tag of a value and the backend of an option."""

    kind: Kind
    name: str
    span: Span
    defines: bool = False
    owner: str | None = None


def occurrences(tree: n.Policy, declarations: Declarations, tokens: Sequence[Any]) -> list[Occurrence]:
    """Every name of the items that parse, in order; ``tokens`` are those of the text."""
    found: list[Occurrence] = []
    finder = _Finder(declarations, tokens)
    for node in descendants(tree):
        found += finder.of(node)
    return sorted(found, key=lambda one: one.span.start)


class _Finder:
    def __init__(self, declarations: Declarations, tokens: Sequence[Any]) -> None:
        self.declarations = declarations
        self.tokens = tokens
        self.starts = [token.start_pos for token in tokens]

    def of(self, node: n.Node) -> Iterator[Occurrence]:
        """The names of one node, without those of the nodes below it."""
        match node:
            case n.Let():
                yield from _declared("constant", node.name, node.name_span)
            case n.Attribute():
                yield from self.attribute(node)
            case n.Domain():
                yield from _declared("domain", node.name, node.name_span)
                for entry in node.fields:
                    yield from self.field(entry, "source")
            case n.Tag():
                yield from _declared("tag", node.key, node.name_span)
                for value in node.values:
                    yield Occurrence("value", plain_text(value), value.span, defines=True, owner=node.key)
            case n.Group() if node.name:
                yield from _declared("group", node.name, node.name_span)
            case n.Statement() if node.label is not None:
                yield from _declared("label", node.label, node.label_span)
            case n.Given():
                if node.name_span is not None:
                    yield Occurrence("attribute", node.name, node.name_span)
            case n.Expect():
                yield Occurrence("outcome", node.outcome, _head(node, node.outcome))
                if node.on is not None:
                    yield Occurrence("label", node.on, Span(node.span.end - len(node.on), node.span.end))
            case n.Name():
                yield from self.name(node)
            case n.Apply():
                yield Occurrence("statistic", node.function, node.function_span or node.span)
            case n.Over():
                yield Occurrence("level", node.level, self.names(node.span)[0])
            case n.DomainEquals() | n.DomainIn():
                yield from self.domain(node)
            case n.PerClause():
                for key, span in zip(node.keys, self.names(node.span), strict=True):
                    yield Occurrence("tag", key, span)
            case n.UnderClause():
                for (key, _), span in zip(node.settings, node.key_spans, strict=True):
                    yield Occurrence("setting", key, span)

    # ------------------------------------------------------------ one method per construct
    def attribute(self, node: n.Attribute) -> Iterator[Occurrence]:
        yield from _declared("attribute", node.name, node.name_span)
        if node.type_span is not None:
            yield Occurrence("type", node.type, node.type_span)
        for flag, span in zip(node.flags, node.flag_spans, strict=True):
            yield Occurrence("direction", flag, span)
        for entry in node.fields:
            yield from self.field(entry)

    def field(self, entry: n.Field, caller: Kind = "backend") -> Iterator[Occurrence]:
        yield Occurrence("field", entry.name, _head(entry, entry.name))
        if isinstance(entry.value, n.Call):
            call = entry.value
            yield Occurrence(caller, call.function, _head(call, call.function))
            for (key, _), span in zip(call.keywords, call.key_spans, strict=True):
                yield Occurrence("option", key, span, owner=call.function)
        elif isinstance(entry.value, n.SetValue) and entry.name in ("levels", "tags"):
            kind: Kind = "level" if entry.name == "levels" else "tag"
            for value in entry.value.values:
                yield Occurrence(kind, plain_text(value), value.span)

    def name(self, node: n.Name) -> Iterator[Occurrence]:
        first = node.parts[0]
        span = _head(node, first)
        if len(node.parts) > 1:
            spans = self.names(node.span)[: len(node.parts)]
            yield Occurrence("import", first, spans[0])
            whole = dotted(node)
            if whole in self.declarations.constants:
                yield Occurrence("constant", whole, spans[-1])
            elif whole in self.declarations.attributes:
                yield Occurrence("attribute", whole, spans[-1])
        elif first in self.declarations.lets:
            yield Occurrence("constant", first, span)
        elif first in self.declarations.attributes:
            yield Occurrence("attribute", first, span)
        elif first in v.ROWS_QUANTITIES:
            yield Occurrence("quantity", first, span)
        elif first == "base":
            yield Occurrence("base", first, span)

    def domain(self, node: n.DomainEquals | n.DomainIn) -> Iterator[Occurrence]:
        if node.key != "domain":
            yield Occurrence("tag", node.key, _head(node, node.key))
        values = (node.value,) if isinstance(node, n.DomainEquals) else node.values
        for value in values:
            if node.key == "domain":
                yield Occurrence("domain", plain_text(value), value.span)
            else:
                yield Occurrence("value", plain_text(value), value.span, owner=node.key)

    # ------------------------------------------------------------ names that have no node of their own
    def names(self, span: Span) -> list[Span]:
        """The plain names under a span."""
        first, end = bisect_left(self.starts, span.start), bisect_left(self.starts, span.end)
        under = self.tokens[first:end]
        return [Span(token.start_pos, token.end_pos) for token in under if token.type == "NAME"]


def _declared(kind: Kind, name: str, span: Span | None) -> Iterator[Occurrence]:
    if span is not None:
        yield Occurrence(kind, name, span, defines=True)


def _head(node: n.Node, name: str) -> Span:
    return Span(node.span.start, node.span.start + len(name))
