"""What to say when the parts of a formula do not go together: different kinds, different units."""

from __future__ import annotations

from typing import Literal

from constraintlang import nodes as n
from constraintlang.diagnostics import Label
from constraintlang.report import Report
from constraintlang.source import Span
from constraintlang.units import Unit, unit_words

MAX_SHOWN = 60  # characters of a condition in a help
Level = Literal["const", "seq", "dist", "rows", "base", "error"]


def report_mixed(report: Report, parts: list[tuple[Level, Span]], joined_by: str | None = None) -> None:
    """PC201: the parts of a formula speak of different things.

    ``joined_by`` is what keeps them from being two statements: `or`, `implies`, `not`, or a comparison.
    """
    words = {
        "seq": "one response at a time",
        "dist": "distribution: taken over all responses",
        "rows": "the model on your rows",
        "base": "the model on your rows",
    }
    order = [level for level in ("seq", "dist", "rows", "base") if any(p[0] == level for p in parts)]
    first, second = (next(p for p in parts if p[0] == level) for level in order[:2])
    what = "one response with the whole distribution" if first[0] == "seq" else "two kinds of quantities"
    report.error(
        "PC201",
        first[1],
        f"this formula mixes {what}",
        _separation(report, first, second, joined_by),
        label=words[first[0]],
        labels=(Label(second[1], words[second[0]]),),
        notes=("a bare comparison is pointwise: it judges one response at a time",)
        if first[0] == "seq"
        else (),
    )


def _separation(
    report: Report, first: tuple[Level, Span], second: tuple[Level, Span], joined_by: str | None
) -> str:
    """How to write what was meant with one kind of quantity in each statement."""
    if joined_by is None:
        return "write one statement for each"
    text = report.source.extract(first[1])
    written = text if "\n" not in text and len(text) <= MAX_SHOWN else "..."
    if first[0] == "seq" and second[0] == "dist":
        if joined_by == "comparison":
            return f"take a statistic of both, for example `mean({written})`"
        example = f"`P({written}) >= 95%`"
        return (
            f"no statement is split at `{joined_by}`: turn this part into a statistic, for example {example}"
        )
    if joined_by == "comparison":
        return "compare each of them with a number"
    return f"no statement is split at `{joined_by}`: demand one of the two by itself"


def report_units(
    report: Report, left: n.Expr, left_unit: Unit | None, right: n.Expr, right_unit: Unit | None
) -> None:
    """PC205: two expressions have different units."""
    report.error(
        "PC205",
        right.span,
        "the two sides have different units",
        "compare quantities of one kind, or compare each with a number",
        label=f"in {unit_words(right_unit)}",
        labels=(Label(left.span, f"in {unit_words(left_unit)}"),),
    )
