"""Warns where ``over`` has no word of order inside, so that only the first part is judged (PC407)."""

from __future__ import annotations

from constraintlang import nodes as n
from constraintlang.fixes import Edit, Fix
from constraintlang.report import Report
from constraintlang.source import Span
from constraintlang.tree import names_in, overs_in, speaks_of_order


def check_first_parts(formula: n.Formula, report: Report) -> None:
    """Look at every ``over`` that reads scores: who writes a word of order knows that there is an order."""
    demanded = formula.operands if isinstance(formula, n.And) else (formula,)
    for over in sorted(overs_in(formula), key=lambda over: over.span.start):
        if names_in(over) and not speaks_of_order(over.operand):
            part = over.level.removesuffix("s")
            report.warning(
                "PC407",
                over.operand.span,
                f"without a word of order this is asked of the first {part} alone",
                f"write `globally` for every {part}, `eventually` for some {part}, `eventually[0, 0]` for the first",
                # A chance that is bounded from above, or a `not`, would want `eventually`.
                fix=_globally(over.operand) if over in demanded else None,
            )


def _globally(operand: n.Formula) -> Fix:
    """The fix that asks it of every part; words of order bind tighter than what joins conditions."""
    span = operand.span
    joined = isinstance(operand, n.And | n.Or | n.Implies)
    opening = Edit(Span(span.start, span.start), "globally (" if joined else "globally ")
    return Fix((opening, Edit(Span(span.end, span.end), ")")) if joined else (opening,))
