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
    stack: list[tuple[n.Formula, int, n.Compare | None]] = [(formula, 1, None)]
    while stack:
        node, sign, turned = stack.pop()
        if isinstance(node, n.And) and sign > 0:
            stack.extend((operand, sign, turned) for operand in node.operands)
        elif isinstance(node, n.Compare) and len(node.operators) == 1:
            operator = node.operators[0]
            if operator not in _UP + _DOWN:
                continue
            left, right = node.operands
            upward = (operator in _UP) == (sign > 0)
            for side, goes_up in ((left, upward), (right, not upward)):
                other = right if side is left else left
                bound = fold(other, declarations.values.fractions)
                if bound is None:
                    continue
                if isinstance(side, n.Apply) and side.function == v.PROBABILITY:
                    # What is rare is bounded by little from above, what is usual by much from below.
                    is_usual_form = goes_up == (2 * bound >= 1)
                    outer = turned if is_usual_form else node
                    stack.append((side.arguments[0], 1 if goes_up else -1, outer))  # type: ignore[arg-type]
                else:
                    _judge(node, side, goes_up, turned or node, declarations, report)


def _judge(
    node: n.Compare,
    side: n.Expr,
    goes_up: bool,
    turned: n.Compare,
    declarations: Declarations,
    report: Report,
) -> None:
    """Warn of a comparison that goes the wrong way; ``turned`` is the one to turn round."""
    if isinstance(side, n.Apply) and side.function in v.OF_NUMBERS:
        side = side.arguments[0]  # type: ignore[assignment]
    if not isinstance(side, n.Name):
        return
    info: AttributeInfo | None = declarations.attributes.get(dotted(side))
    if info is None or info.direction is None or (info.direction == "higher") == goes_up:
        return
    asked = "more" if goes_up else "less"
    left, right = turned.operands
    written = report.source.find("[<>]=?", Span(left.span.end, right.span.start))
    operator = TURNED[turned.operators[0]]
    report.warning(
        "PC405",
        node.span,
        f"this asks for {asked} `{info.name}`, which is declared `{info.direction}_is_better`",
        "turn the comparison round, or correct the declaration",
        labels=(Label(info.span, "declared here"),) if info.span is not None and info.source is None else (),
        fix=None if written is None else replacing(written, operator),
    )
