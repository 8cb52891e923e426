"""What a name in a formula stands for, and what to say when it stands for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.checked import AttributeInfo
from constraintlang.declarations import Declarations
from constraintlang.printer import format_number
from constraintlang.report import Report
from constraintlang.situations import shown
from constraintlang.suggestions import closest


@dataclass(frozen=True)
class Meaning:
    """What a name stands for."""

    kind: Literal["let", "attribute", "rows", "base"]
    attribute: AttributeInfo | None = None


def resolve(
    name: n.Name, declarations: Declarations, report: Report, *, as_flag: bool = False
) -> Meaning | None:
    """The meaning of a name; None when it has none, which is reported unless its definition failed."""
    first = name.parts[0]
    if first in declarations.quiet:
        return None
    if len(name.parts) == 1:
        if first in declarations.lets:
            return Meaning("let")
        if first in declarations.attributes:
            return Meaning("attribute", declarations.attributes[first])
        if first in v.ROWS_QUANTITIES:
            return Meaning("rows")
        if first == "base":
            return Meaning("base")
    unknown_attribute(name, declarations, report, as_flag=as_flag)
    return None


def unknown_attribute(
    name: n.Name, declarations: Declarations, report: Report, *, as_flag: bool = False
) -> None:
    """Report PC101, with the most similar name there is."""
    written = shown(".".join(name.parts))
    known = [*declarations.attributes, *declarations.lets, *v.ROWS_QUANTITIES]
    near = closest(written, known)
    if near is None:
        type = 'flag { backend = regex(re"...") }' if as_flag else "score in [0, 1]"
        help = f"declare it: `attribute {name.parts[-1]}: {type}`"
        report.error("PC101", name.span, f"no attribute named `{written}`", help, label="not declared")
        return
    kind = "constant" if near in declarations.lets else "attribute"
    info = declarations.attributes.get(near)
    detail = f" ({describe(info)})" if info is not None else ""
    label = f"a similar {kind} exists: `{near}`{detail}"
    report.error("PC101", name.span, f"no attribute named `{written}`", f"write `{near}`", label=label)


def describe(info: AttributeInfo) -> str:
    """An attribute in a few words: ``score in [0, 1], from the prelude``."""
    words = str(info.type)
    if info.low is not None and info.high is not None:
        words += f" in [{format_number(info.low)}, {format_number(info.high)}]"
    return words + (", from the prelude" if info.from_prelude else "")
