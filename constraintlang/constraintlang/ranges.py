"""Warns where a range or a level decides what a comparison says: of nothing (PC406), of the good side (PC408)."""

from __future__ import annotations

import operator
from fractions import Fraction

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.constants import exact_decimal, fold
from constraintlang.declarations import Declarations
from constraintlang.fixes import replacing
from constraintlang.normal_form import TURNED
from constraintlang.printer import format_number
from constraintlang.report import Report
from constraintlang.tree import descendants, dotted

COMPARES = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_AVERAGES = (v.PROBABILITY, "mean")  # a quantile below 1 is more than not certain
Range = tuple[Fraction | None, Fraction | None]


def check_ranges(formula: n.Formula, declarations: Declarations, report: Report) -> None:
    """Look at every comparison of a score, a statistic of one, or a probability with a number."""
    for node in descendants(formula):
        if isinstance(node, n.Compare) and len(node.operators) == 1 and node.operators[0] in COMPARES:
            left, right = node.operands
            for side, other, sign in (
                (left, right, node.operators[0]),
                (right, left, TURNED[node.operators[0]]),
            ):
                number = fold(other, declarations.values.fractions)
                if number is not None:
                    _judge(node, side, sign, number, declarations, report)
        elif isinstance(node, n.InRange):
            ends = [fold(end, declarations.values.fractions) for end in (node.low, node.high)]
            if None not in ends and ends[0] > ends[1]:  # type: ignore[operator]
                report.warning(
                    "PC406", node.span, "no number lies in this interval", "write its lower end first"
                )
        elif isinstance(node, n.Apply) and node.function == "cvar" and len(node.arguments) == 2:
            _check_tail(node, declarations, report)


def _judge(
    node: n.Compare, side: n.Expr, sign: str, number: Fraction, declarations: Declarations, report: Report
) -> None:
    found = _range_of(side, declarations)
    if found is None:
        return
    name, (low, high) = found
    holds = COMPARES[sign]
    rising = sign in (">", ">=")
    worst, best = (low, high) if rising else (high, low)
    if worst is not None and holds(worst, number):
        outcome = "always holds"
    elif best is not None and not holds(best, number):
        outcome = "never holds"
    elif (
        low == 0
        and high == 1 == number
        and sign == "<"
        and isinstance(side, n.Apply)
        and side.function in _AVERAGES
    ):
        message = f"{name} lies between 0 and 1, so that only certainty violates this"
        report.warning("PC406", node.span, message, "a share is written `1%`")
        return
    else:
        return
    share = low == 0 and high == 1 and 1 < number <= 100
    help_text = f"a share is written `{float(number):g}%`" if share else "write a number inside the range"
    report.warning("PC406", node.span, f"{name} {_lies(low, high)}, so that this {outcome}", help_text)


def _check_tail(node: n.Apply, declarations: Declarations, report: Report) -> None:
    """PC408: the share of the tail may have been written for that of the rest."""
    place = node.arguments[1]
    level = exact_decimal(fold(place, declarations.values.fractions) or Fraction(1))  # type: ignore[arg-type]
    if level is None or level >= v.LEAST_CONFIDENCE:
        return
    rest, meant = format_number(1 - level, percent=True), format_number(1 - level)
    message = f"this is the mean of the worst {rest} of the values"
    help = f"write `{meant}` for the worst {format_number(level, percent=True)}"
    report.warning("PC408", place.span, message, help, fix=replacing(place.span, meant))


def _lies(low: Fraction | None, high: Fraction | None) -> str:
    ends = ["" if end is None else f"{float(end):g}" for end in (low, high)]
    if low is not None and high is not None:
        return f"lies between {ends[0]} and {ends[1]}"
    return f"is at least {ends[0]}" if high is None else f"is at most {ends[1]}"


def _range_of(side: n.Expr, declarations: Declarations) -> tuple[str, Range] | None:
    """What a side of a comparison is called, and where it lies; None where that is not known."""
    if isinstance(side, n.Apply) and side.function == v.PROBABILITY:
        return "the probability", (Fraction(0), Fraction(1))
    if isinstance(side, n.Apply) and side.function in v.OF_NUMBERS:
        side = side.arguments[0]  # type: ignore[assignment]
    if not isinstance(side, n.Name):
        return None
    name = dotted(side)
    info = declarations.attributes.get(name) or v.ROWS_QUANTITIES.get(name)
    if info is None:
        return None
    low, high = (None if end is None else Fraction(end) for end in (info.low, info.high))
    return f"`{name}`", (low, high)
