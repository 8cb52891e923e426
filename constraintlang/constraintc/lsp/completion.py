"""What may be written at the cursor: names by their kind, values of tags, settings, and the keywords that fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from constraintc.lsp import words
from constraintc.lsp.context import Context, context_at
from constraintc.lsp.document import Document
from constraintc.lsp.hover import type_words
from constraintlang import vocabulary as v
from constraintlang.declarations import Declarations
from constraintlang.printer import format_number, format_scalar
from constraintlang.source import Span
from constraintlang.units import unit_of
from constraintlang.wording import FIRST_WORDS, KEYWORDS

Kind = Literal[
    "attribute", "constant", "statistic", "keyword", "domain", "tag", "value", "label", "word", "snippet"
]
_TEMPORAL = frozenset(
    ["UNTIL", "WEAK_UNTIL", "RELEASE", "BEFORE", "GLOBALLY", "EVENTUALLY", "NEXT", "WEAK_NEXT", "LAST"]
)
_DECLARING = FIRST_WORDS - {"GROUP", "TEST", "REQUIRE", "PREFER", "PRESERVE", "ALWAYS"}
_SNIPPETS = {
    "attribute": "attribute ${1:name}: ${2:score} ${3:lower_is_better}",
    "domain": "domain ${1:name} { tags = {${2:lang}} }",
    "tag": "tag ${1:name} in {${2:a, b}}",
    "let": "let ${1:name} = ${2:0.1}",
    "group": "group ${1:name} for ${2:domain=chat} {\n  $0\n}",
    "test": 'test "${1:name}" {\n  given ${2:toxicity} = ${3:0.1}\n  ${4:fail} on ${5:label}\n}',
    "edition": f"edition {v.EDITIONS[-1]}",
}


@dataclass(frozen=True)
class Completion:
    """A word to offer; ``snippet`` is what to insert in its place, with `$1` where the cursor goes."""

    label: str
    kind: Kind
    detail: str = ""
    documentation: str = ""
    snippet: str | None = None


@dataclass(frozen=True)
class Completions:
    """The words to offer, the likeliest first, and the part of the text that they replace."""

    items: tuple[Completion, ...]
    replaced: Span


def complete(document: Document, offset: int) -> Completions:
    """What may be written at an offset; nothing in comments and quotes."""
    context = context_at(document.text, offset, document.memory)
    if context is None:
        return Completions((), Span(offset, offset))
    found: dict[str, Completion] = {}
    for completion in _Completer(context, document.declarations).all():
        found.setdefault(completion.label, completion)
    return Completions(tuple(found.values()), context.word)


class _Completer:
    def __init__(self, context: Context, declarations: Declarations) -> None:
        self.context = context
        self.declarations = declarations

    def all(self) -> Iterator[Completion]:
        context = self.context
        if context.type() == "AT":
            yield Completion("base", "word", documentation=words.QUANTITIES["base"])
        elif context.first in ("ATTRIBUTE", "DOMAIN") and context.open_brackets:
            yield from self.fields()
        elif context.first == "ATTRIBUTE":
            yield from self.attribute()
        elif context.first == "TEST" and context.open_brackets:
            yield from self.in_test()
        elif context.first in ("TAG", "IMPORT", "EDITION"):
            yield from self.keywords()
        elif context.first == "LET":
            if context.type() != "LET":
                yield from self.constants()
        elif context.first in ("GROUP", "TEST", "DOMAIN") and not context.clause:
            yield from self.keywords()
        else:
            yield from self.in_statement()

    # ------------------------------------------------------------ declarations
    def attribute(self) -> Iterator[Completion]:
        if self.context.type() == "COLON":
            yield from _words(words.TYPES)
        elif "NAME" in self.context.expected and "COLON" in [t.type for t in self.context.tokens]:
            yield from _words(words.DIRECTIONS)
        yield from self.keywords()

    def fields(self) -> Iterator[Completion]:
        context = self.context
        known = v.ATTRIBUTE_FIELDS if context.first == "ATTRIBUTE" else v.DOMAIN_FIELDS
        innermost = context.tokens[context.open_brackets[-1]]
        if context.call is not None and innermost.type == "LPAR":
            yield from self.backend_arguments(context.call)
        elif len(context.open_brackets) > 1:  # a set
            field = context.text(context.open_brackets[-1] - 2 - len(context.tokens))
            yield from _words(words.LEVELS if field == "levels" else {})
            yield from (self.tags() if field == "tags" else ())
        elif context.type() == "EQUAL" and context.text(-2) == "backend":
            for name in v.BACKENDS:
                yield Completion(name, "statistic", "backend", words.BACKENDS[name], f"{name}($1)")
        elif context.type() != "EQUAL" and "NAME" in context.expected:
            for name in known:
                yield Completion(name, "word", "field", words.FIELDS[name], f"{name} = $0")

    def backend_arguments(self, backend: str) -> Iterator[Completion]:
        context = self.context
        if context.type() == "EQUAL":
            yield from self.keywords()
            return
        shape = v.BACKENDS.get(backend)
        if shape is not None and shape.choices:
            yield from _words({word: words.CHOICES.get(word, "") for word in shape.choices})
        if shape is not None and context.type() == "COMMA":
            for name, kind in shape.keywords.items():
                yield Completion(name, "word", v.argument_words(kind, shape), "", f"{name}=$0")

    # ------------------------------------------------------------ tests
    def in_test(self) -> Iterator[Completion]:
        context = self.context
        if context.type() == "GIVEN":
            yield from self.attributes(self.declarations.attributes)
        elif context.type() == "ON":
            yield from (Completion(label, "label") for label in self.declarations.labels)
        elif "NAME" in context.expected and context.type() in ("LBRACE", "_NL"):
            yield from _words(words.OUTCOMES)
        yield from self.keywords()

    # ------------------------------------------------------------ statements
    def in_statement(self) -> Iterator[Completion]:
        context = self.context
        if context.type() == "OVER":
            yield from _words({name: words.LEVELS[name] for name in v.LEVELS if name != "sequence"})
            return
        if context.on_prompts and (context.type() == "EQUAL" or context.set_of is not None):
            yield from self.values()
        elif context.on_prompts and "NAME" in context.expected:
            yield Completion("domain", "keyword", "", words.KEYWORDS["domain"], "domain=$0")
            yield from self.tags()
            yield from self.keywords()
        elif context.clause == "PER" and "NAME" in context.expected:
            yield from self.tags()
        elif context.clause == "UNDER" and context.type() in ("UNDER", "COMMA"):
            for name in v.UNDER:
                detail = v.UNDER[name].words
                yield Completion(name, "word", detail, words.SETTINGS[name], f"{name}=$0")
        elif context.clause == "UNDER" and context.type() == "EQUAL":
            return
        elif context.clause == "WEIGHT" and "NAME" in context.expected:
            yield from self.constants()
        else:
            yield from self.condition() if "NAME" in context.expected else ()
            yield from self.keywords()

    def condition(self) -> Iterator[Completion]:
        context, known = self.context, self.declarations.attributes
        preserve = any(token.type == "PRESERVE" for token in context.tokens)
        outside = context.comparison
        begun = any(token.type in ("CMP", "ADD", "MUL", "IN") for token in outside)
        statistic = next((t for t in outside if t.type == "NAME" and str(t) in v.STATISTICS), None)
        if context.call in v.STATISTICS:
            if context.call != v.PROBABILITY and context.type() == "COMMA":
                yield from self.constants()
                return
            numbers = [name for name in known if known[name].type != "flag"]
            flags_fit = context.call == v.PROBABILITY and not begun
            yield from self.attributes(known if flags_fit else self.same_unit(numbers))
            yield from self.rows(preserve)
            yield from self.constants() if begun else ()
            return
        compared = [t for t in outside if t.type == "NAME" and str(t) in known]
        if begun:
            yield from self.constants()
            if preserve:
                yield Completion("base", "word", "", words.QUANTITIES["base"])
            numbers = [name for name in known if known[name].type != "flag"]
            yield from self.attributes(self.same_unit(numbers) if statistic is None else ())
        else:
            yield from self.attributes(known)
        if not compared:
            for name, sentence in words.STATISTICS.items():
                detail = "statistic, not compiled yet" if name in v.INSTEAD_OF else "statistic"
                yield Completion(name, "statistic", detail, sentence, f"{name}($1)")
        yield from self.rows(preserve and not begun)
        yield from self.constants()

    def same_unit(self, names: Iterable[str]) -> list[str]:
        """Of some attributes, those that can be compared with the ones that stand in the comparison."""
        known = self.declarations.attributes
        units = {unit_of(known[str(t)]) for t in self.context.comparison if str(t) in known}
        return [name for name in names if not units or unit_of(known[name]) in units]

    # ------------------------------------------------------------ names
    def attributes(self, names: Iterable[str]) -> Iterator[Completion]:
        # Those of the file come before those that every policy knows.
        known = self.declarations.attributes
        for name in sorted(names, key=lambda name: known[name].from_prelude):
            sentence = words.TYPES[known[name].type]
            yield Completion(name, "attribute", type_words(known[name]), sentence)

    def constants(self) -> Iterator[Completion]:
        values = self.declarations.values.decimals
        for name in self.declarations.lets:
            yield Completion(name, "constant", format_number(values[name]) if name in values else "")

    def rows(self, preserve: bool) -> Iterator[Completion]:
        if preserve:
            for name in v.ROWS_QUANTITIES:
                yield Completion(name, "attribute", "of the model on your rows", words.QUANTITIES[name])

    def tags(self) -> Iterator[Completion]:
        for key in sorted(self.declarations.tag_keys):
            tag = self.declarations.tags.get(key)
            values = "" if tag is None else ", ".join(format_scalar(value) for value in tag.values)
            yield Completion(key, "tag", values)

    def values(self) -> Iterator[Completion]:
        context = self.context
        at = -1 if context.set_of is None else context.set_of - len(context.tokens)
        if context.type(at - 1) == "DOMAIN":
            yield from (Completion(name, "domain") for name in self.declarations.domains)
        elif context.text(at - 1) in self.declarations.tags:
            for value in self.declarations.tags[context.text(at - 1)].values:
                yield Completion(format_scalar(value), "value")

    def keywords(self) -> Iterator[Completion]:
        context = self.context
        found = (context.expected & KEYWORDS) | context.continuing
        if context.in_group:
            found -= _DECLARING if not context.tokens else set()
        if not any(token.type == "OVER" for token in context.tokens):
            found -= _TEMPORAL
        continuing = context.continuing
        for keyword in sorted(found, key=lambda k: (k not in continuing, k in ("TRUE", "FALSE"), k)):
            word = keyword.lower()
            snippet = _SNIPPETS.get(word) if not context.tokens else None
            yield Completion(word, "keyword", "", words.KEYWORDS[word], snippet)


def _words(sentences: dict[str, str]) -> Iterator[Completion]:
    for name, sentence in sentences.items():
        yield Completion(name, "word", "", sentence)
