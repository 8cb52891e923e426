"""What a name in a formula stands for, and what to say when it stands for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.checked import AttributeInfo
from constraintlang.declarations import Declarations
from constraintlang.fixes import replacing
from constraintlang.printer import format_number
from constraintlang.report import Report
from constraintlang.situations import shown
from constraintlang.source import Span
from constraintlang.suggestions import closest
from constraintlang.tree import dotted
from constraintlang.undeclared import ALSO_CALLED, Use, declaration


@dataclass(frozen=True)
class Meaning:
    """What a name stands for."""

    kind: Literal["let", "attribute", "rows", "base"]
    attribute: AttributeInfo | None = None


def resolve(name: n.Name, declarations: Declarations, report: Report, use: Use) -> Meaning | None:
    """The meaning of a name; None when it has none, which is reported unless its definition failed."""
    first, whole = name.parts[0], dotted(name)
    if {first, whole} & declarations.quiet:
        return None
    if whole in declarations.lets or whole in declarations.constants:
        return Meaning("let")
    if whole in declarations.attributes:
        return Meaning("attribute", declarations.attributes[whole])
    if whole in v.ROWS_QUANTITIES:
        return Meaning("rows")
    if whole == "base":
        return Meaning("base")
    unknown_attribute(name, declarations, report, use)
    return None


def unknown_attribute(name: n.Name, declarations: Declarations, report: Report, use: Use) -> None:
    """Report PC101, with the most similar name there is."""
    whole = dotted(name)
    written = shown(whole)
    if whole in declarations.lets or whole in declarations.constants:
        help = "name an attribute that a statement reads"
        report.error("PC101", name.span, f"`{written}` is a constant, not an attribute", help)
        return
    known = [*declarations.attributes, *declarations.lets, *declarations.constants, *v.ROWS_QUANTITIES]
    if whole in declarations.tags:
        help = _choose(whole, next(iter(declarations.tag_values.get(whole, {})), "x"))
        message = f"`{written}` is a tag of prompts, not an attribute"
        report.error("PC101", name.span, message, help, label="chooses prompts")
        return
    near = ALSO_CALLED.get(whole.lower())
    near = near if near in known else closest(whole, known)
    tag = next((tag for tag, values in declarations.tag_values.items() if whole in values), None)
    if near is None and tag is not None:
        message = f"`{written}` is a value of the tag `{tag}`, not an attribute"
        report.error("PC101", name.span, message, _choose(tag, whole), label="chooses prompts")
        return
    if near is None:
        help = _declare(name, declarations, use)
        report.error("PC101", name.span, f"no attribute named `{written}`", help, label="not declared")
        return
    info = declarations.attributes.get(near)
    kind = "attribute" if info is not None else "quantity" if near in v.ROWS_QUANTITIES else "constant"
    detail = f" ({describe(info)})" if info is not None else ""
    alike = "a similar" if closest(whole, [near]) else "the"
    label = f"{alike} {kind} exists: `{near}`{detail}"
    fix = replacing(Span(name.span.start, name.span.start + len(whole)), near)
    message = f"no attribute named `{written}`"
    report.error("PC101", name.span, message, f"write `{near}`", label=label, fix=fix)


def _choose(tag: str, value: str) -> str:
    """How prompts are chosen by a tag."""
    chosen = f"{shown(tag)}={shown(value)}"
    return f"write `toxicity < 0.1 for {chosen}`, and inside a statistic `P(toxicity > 0.5 | {chosen})`"


def _declare(name: n.Name, declarations: Declarations, use: Use) -> str:
    """What to do about a name that is like no other."""
    alias, last = name.parts[0], name.parts[-1]
    if len(name.parts) == 1:
        return f"declare it: `{declaration(last, use)}`"
    if alias not in declarations.imports:
        return f'import the file that declares it: `import "{alias}.policy" as {alias}`'
    if len(name.parts) > 2:
        return "what a file imports is not passed on: import the file that declares the name"
    if last in declarations.attributes:
        return f"write `{last}`"
    own = sorted(k for k in [*declarations.attributes, *declarations.constants] if k.startswith(f"{alias}."))
    listed = ", ".join(f"`{k}`" for k in own) or "nothing"
    return f"`{declarations.imports[alias]}` declares {listed}"


def describe(info: AttributeInfo) -> str:
    """An attribute in a few words: ``score in [0, 1], from the prelude``."""
    words = str(info.type)
    if info.low is not None and info.high is not None:
        words += f" in [{format_number(info.low)}, {format_number(info.high)}]"
    return words + (", from the prelude" if info.from_prelude else "")
