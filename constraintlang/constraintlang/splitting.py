"""The fix of a statement that mixes readings (PC201): one statement for each reading."""

from __future__ import annotations

from collections.abc import Iterator, Set

from msgspec.structs import replace

from constraintlang import nodes as n
from constraintlang.fixes import Fix, replacing
from constraintlang.mixtures import Level
from constraintlang.printer import format_statement
from constraintlang.source import SourceFile


def split_fix(
    statement: n.Statement,
    levels: list[Level],
    source: SourceFile,
    *,
    labels: Set[str],
    tested: Set[str],
) -> Fix | None:
    """One statement per level in the place of ``statement``, whose top-level ``and`` joins parts of ``levels``.

    The clauses are kept, each on the statements that it fits. None when a part has no level of its own. Only
    a guess for ``prefer``, whose weight would count twice, and where a test names the label.
    """
    if not isinstance(statement.formula, n.And) or not set(levels) <= {"seq", "dist", "rows"}:
        return None
    written = []
    fresh = _fresh_labels(statement.label, labels)
    for level in dict.fromkeys(levels):
        parts = [p for p, own in zip(statement.formula.operands, levels, strict=True) if own == level]
        formula = parts[0] if len(parts) == 1 else replace(statement.formula, operands=tuple(parts))
        clauses = tuple(c for c in map(_without_tolerance, statement.clauses) if c is not None)
        written.append(
            replace(
                statement,
                label=next(fresh) if statement.label else None,
                formula=formula,
                always=statement.always and level == "seq",
                clauses=statement.clauses if level == "seq" else clauses,
            )
        )
    line_start = source.text.rfind("\n", 0, statement.span.start) + 1
    before = source.text[line_start : statement.span.start]
    indent = before if not before.strip() else ""
    text = f"\n{indent}".join(format_statement(part) for part in written)
    guess = statement.strength == "prefer" or statement.label in tested
    return replacing(statement.span, text, "unsafe" if guess else "safe")


def _fresh_labels(label: str | None, taken: Set[str]) -> Iterator[str]:
    number = 1
    while True:
        if f"{label}_{number}" not in taken:
            yield f"{label}_{number}"
        number += 1


def _without_tolerance(clause: n.Clause) -> n.Clause | None:
    if not isinstance(clause, n.UnderClause):
        return clause
    rest = tuple(setting for setting in clause.settings if setting[0] != "tolerance")
    return replace(clause, settings=rest) if rest else None
