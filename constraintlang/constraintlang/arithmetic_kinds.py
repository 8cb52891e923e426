"""What is known of an expression, and of arithmetic from what is known of its two sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from constraintlang import nodes as n
from constraintlang.constants import fold
from constraintlang.mixtures import Level, report_mixed, report_units
from constraintlang.printer import format_formula
from constraintlang.situations import MAX_ITEM, shown
from constraintlang.units import Unit, multiply

if TYPE_CHECKING:
    from constraintlang.kinds import Kinds

NOT_COMPILED = "parses but is not compiled by this release"


@dataclass(frozen=True)
class Term:
    """What is known of an expression; ``unit`` is None for constants, which fit every unit."""

    level: Level
    unit: Unit | None = None
    continuous: bool = False
    num_statistics: int = 0


ERROR = Term("error")
CONST = Term("const")
BASE_HELP = "write `mean(toxicity) <= 0.9 * base`, or `preserve mean(perplexity) <= 1.02 * base`"


def arithmetic_kind(kinds: Kinds, node: n.Arithmetic) -> Term:
    """What is known of a sum, difference, product or quotient."""
    left, right = kinds.expression(node.left), kinds.expression(node.right)
    if "error" in (left.level, right.level):
        return ERROR
    if node.op == "/" and fold(node.right, kinds.declarations.values.fractions) == 0:
        kinds.report.error("PC223", node.span, "this divides by zero", "divide by another number")
        return ERROR
    levels = {left.level, right.level} - {"const"}
    statistics = left.num_statistics + right.num_statistics
    if len(levels) > 1:
        if "base" in levels:
            place = node.left if left.level == "base" else node.right
            message = "`base` stands for the whole left side of a comparison and adds to numbers only"
            kinds.report.error("PC225", place.span, message, BASE_HELP)
        else:
            parts = [(left.level, node.left.span), (right.level, node.right.span)]
            report_mixed(kinds.report, parts, "comparison")
        return ERROR
    level: Level = next(iter(levels), "const")
    if level in ("dist", "rows", "base"):
        const_first = left.level == "const"
        if (node.op == "*" and "const" not in (left.level, right.level)) or (node.op == "/" and const_first):
            kinds.report.error(
                "PC120",
                node.span,
                f"arithmetic that is not linear in the statistic {NOT_COMPILED}",
                "multiply and divide a statistic by numbers only",
            )
            return ERROR
        if (node.op == "/" and right.level != "const") or (
            level == "base" and "const" not in (left.level, right.level)
        ):
            help = "mention it once, multiplied by and added to numbers"
            if node.op == "/" and level == "dist":
                left_text, right_text = (shown(format_formula(o), MAX_ITEM) for o in (node.left, node.right))
                help = f"compare with a multiple instead, for example `{left_text} <= 1.2 * {right_text}`"
            kinds.report.error("PC120", node.span, f"this use of a statistic {NOT_COMPILED}", help)
            return ERROR
    if node.op in "+-":
        if None not in (left.unit, right.unit) and left.unit != right.unit:
            report_units(kinds.report, node.left, left.unit, node.right, right.unit)
            return ERROR
        unit = left.unit if left.unit is not None else right.unit
    else:
        unit = multiply(left.unit, right.unit, 1 if node.op == "*" else -1)
    return Term(level, unit, left.continuous or right.continuous or node.op == "/", statistics)
