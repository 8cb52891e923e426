"""Warns where a demand pushes an attribute the way its declaration calls bad (PC405)."""

from __future__ import annotations

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.checked import AttributeInfo
from constraintlang.constants import fold
from constraintlang.declarations import Declarations
from constraintlang.diagnostics import Label
from constraintlang.fixes import replacing
from constraintlang.normal_form import TURNED
from constraintlang.report import Report
from constraintlang.source import Span
from constraintlang.tree import dotted

_UP, _DOWN = (">", ">="), ("<", "<=")


def check_directions(formula: n.Formula, declarations: Declarations, report: Report) -> None:
    """Look at the comparisons that are demanded outright.

    What stands under ``or``, ``not`` or ``implies`` may be a case distinction and is left alone: best
    effort, so a warning only.
    """
    stack = [(formula, 1)]
    while stack:
        node, sign = stack.pop()
        if isinstance(node, n.And) and sign > 0:
            stack.extend((operand, sign) for operand in node.operands)
        elif isinstance(node, n.Compare) and len(node.operators) == 1:
            operator = node.operators[0]
            if operator not in _UP + _DOWN:
                continue
            left, right = node.operands
            upward = (operator in _UP) == (sign > 0)
            for side, goes_up in ((left, upward), (right, not upward)):
                other = right if side is left else left
                if fold(other, declarations.values.fractions) is None:
                    continue
                if isinstance(side, n.Apply) and side.function == v.PROBABILITY:
                    stack.append((side.arguments[0], 1 if goes_up else -1))  # type: ignore[arg-type]
                else:
                    _judge(node, side, goes_up, declarations, report)


def _judge(node: n.Compare, side: n.Expr, goes_up: bool, declarations: Declarations, report: Report) -> None:
    if isinstance(side, n.Apply) and side.function in v.OF_NUMBERS:
        side = side.arguments[0]  # type: ignore[assignment]
    if not isinstance(side, n.Name):
        return
    info: AttributeInfo | None = declarations.attributes.get(dotted(side))
    if info is None or info.direction is None or (info.direction == "higher") == goes_up:
        return
    asked = "more" if goes_up else "less"
    left, right = node.operands
    written = report.source.find("[<>]=?", Span(left.span.end, right.span.start))
    turned = TURNED[node.operators[0]]
    report.warning(
        "PC405",
        node.span,
        f"this asks for {asked} `{info.name}`, which is declared `{info.direction}_is_better`",
        "turn the comparison round, or correct the declaration",
        labels=(Label(info.span, "declared here"),) if info.span is not None and info.source is None else (),
        fix=None if written is None else replacing(written, turned),
    )
