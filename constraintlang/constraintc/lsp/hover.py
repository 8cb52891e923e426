"""What there is to say about the place under the cursor, as Markdown in which no text of a policy is markup."""

from __future__ import annotations

import re
from dataclasses import dataclass

from constraintc.lsp import words
from constraintc.lsp.document import Document
from constraintc.lsp.occurrences import Occurrence
from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.checked import AttributeInfo
from constraintlang.diagnostics import visible
from constraintlang.printer import format_number, format_policy, format_scalar
from constraintlang.source import Span
from constraintlang.wording import KEYWORDS

_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&])")


@dataclass(frozen=True)
class Hover:
    """A text, and the place that it speaks of."""

    text: str
    span: Span


def hover(document: Document, offset: int) -> Hover | None:
    """The word under an offset, then the statement around it, in words."""
    token, found = document.token_at(offset), document.occurrence_at(offset)
    if token is not None and token.type == "COMMENT":
        return None
    parts: list[str] = []
    span: Span | None = None
    if found is not None:
        parts, span = [about(found, document)], found.span
    elif token is not None and token.type in KEYWORDS:
        parts, span = (
            [_line(f"**{token}**", words.KEYWORDS[str(token)])],
            Span(token.start_pos, token.end_pos),
        )
    statement = document.statement_at(offset)
    if statement is not None:
        parts += reading(document, statement)
        span = span or statement.span
    text = "\n\n".join(part for part in parts if part)
    return Hover(text, span) if text and span is not None else None


def reading(document: Document, statement: n.Statement) -> list[str]:
    """What a statement demands, what would break it, and how many samples show that it holds."""
    paragraphs = []
    for explanation in document.explanations(statement):
        name = escape(statement.label or "this statement")
        sentences = (explanation.demand, explanation.falsified_by, explanation.evidence)
        paragraphs.append(
            f"**{name}**: {escape(explanation.reading)}\n\n" + "\n\n".join(map(escape, sentences))
        )
    return paragraphs


def about(found: Occurrence, document: Document) -> str:
    """A name in a few words."""
    name, declarations = found.name, document.declarations
    match found.kind:
        case "attribute" if name in declarations.attributes:
            return attribute_words(declarations.attributes[name])
        case "constant" if name in declarations.values.decimals:
            return _line(_code(f"let {name} = {format_number(declarations.values.decimals[name])}"), "")
        case "domain" if name in declarations.domains:
            # Not from the text: the domain may be one of an imported file.
            return _fence(format_policy(n.Policy(items=(declarations.domains[name],))).rstrip())
        case "tag" | "value":
            key = name if found.kind == "tag" else found.owner or ""
            if key in declarations.tags:
                values = ", ".join(format_scalar(value) for value in declarations.tags[key].values)
                return _fence(f"tag {key} in {{{values}}}")
            return _line(f"**{escape(key)}**", "A tag of the prompts; its values are not declared.")
        case "label" if name in declarations.labels and not found.defines:
            return "\n\n".join(reading(document, declarations.labels[name]))
        case "setting" if name in v.UNDER:
            return _line(f"**{name}**", f"{words.SETTINGS[name]} Takes {v.UNDER[name].words}.")
        case "backend" if name in v.BACKENDS:
            return _line(f"**{name}**", words.BACKENDS[name]) + "\n\n" + _fence(v.BACKENDS[name].example)
        case _:
            sentence = _WORDS.get(found.kind, {}).get(name)
            return "" if sentence is None else _line(f"**{name}**", sentence)


_WORDS = {
    "statistic": words.STATISTICS,
    "quantity": words.QUANTITIES,
    "base": words.QUANTITIES,
    "level": words.LEVELS,
    "type": words.TYPES,
    "direction": words.DIRECTIONS,
    "field": words.FIELDS,
    "outcome": words.OUTCOMES,
}


def attribute_words(info: AttributeInfo) -> str:
    """Type, range and direction of an attribute, and who measures it."""
    backend = "" if info.backend is None else info.backend.function
    measured = f"Measured by `{backend}`." if backend else "Its scorer is named when a command runs."
    origin = " Every policy knows it." if info.from_prelude else ""
    return _line(
        _code(f"attribute {info.name}: {type_words(info)}"), words.TYPES[info.type] + " " + measured + origin
    )


def type_words(info: AttributeInfo) -> str:
    """Type, range and direction as they are written in a declaration.

    >>> type_words(AttributeInfo("words", "count", v.CONFIDENCE.low, None, "lower", None))
    'count in [0, inf] lower_is_better'
    """
    low, high = info.low, info.high
    shown = info.type + (
        ""
        if low is None and high is None
        else f" in [{'-inf' if low is None else format_number(low)}, {'inf' if high is None else format_number(high)}]"
    )
    return shown + (f" {info.direction}_is_better" if info.direction else "")


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\1", "\n".join(visible(line) for line in text.split("\n")))


def _code(text: str) -> str:
    # Only for text without backticks: names, numbers and words of the language.
    return f"`{text}`"


def _line(head: str, sentence: str) -> str:
    return f"{head}\n\n{escape_but_code(sentence)}" if sentence else head


def escape_but_code(sentence: str) -> str:
    """Our own sentences, in which backticks stand around words of the language."""
    parts = sentence.split("`")
    return "".join(f"`{part}`" if index % 2 else escape(part) for index, part in enumerate(parts))


def _fence(text: str) -> str:
    # Only for text that parses: no line of it begins with a backtick, which would close the block.
    shown = "\n".join(visible(line) for line in text.split("\n"))
    return f"```policy\n{shown}\n```"
