"""Warns where a demand pushes what is measured the way that is called bad, or keeps nothing from it (PC405)."""

from __future__ import annotations

from fractions import Fraction

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.base_model import reads_base, write_out
from constraintlang.constants import exact_decimal, fold, substitute
from constraintlang.declarations import Declarations
from constraintlang.diagnostics import Label
from constraintlang.fixes import replacing
from constraintlang.normal_form import TURNED, links
from constraintlang.printer import format_formula, format_number
from constraintlang.report import Report
from constraintlang.scales import CONSTANT, difference
from constraintlang.source import Span
from constraintlang.tree import descendants, dotted, names_in

_UP, _DOWN = (">", ">="), ("<", "<=")


def check_directions(
    formula: n.Formula, declarations: Declarations, report: Report, *, preserve: bool = False
) -> None:
    """Look at the comparisons that are demanded outright.

    What stands under ``or``, ``not`` or ``implies`` may be a case distinction and is left alone: best
    effort, so a warning only. A bound that the base model keeps with room to spare, such as `<= base + 5%`, asks for
    no change and may be meant whatever the direction; only a ``preserve`` would keep nothing by it.
    """
    stack: list[tuple[n.Formula, int, n.Compare | None]] = [(formula, 1, None)]
    while stack:
        node, sign, turned = stack.pop()
        if isinstance(node, n.And) and sign > 0:
            bounded = [_bounded(operand, declarations) for operand in node.operands]
            ends = {(format_formula(side), upward) for sides in bounded for side, upward, _ in sides}
            for operand, sides in zip(node.operands, bounded, strict=True):
                # Who bounds a thing from both sides means a band.
                if not any((format_formula(side), not upward) in ends for side, upward, _ in sides):
                    stack.append((operand, sign, turned))
        elif isinstance(node, n.Compare):
            if not preserve and _roomy(node, declarations) is not None:
                continue
            for side, upward, other in _bounded(node, declarations):
                goes_up = upward == (sign > 0)
                if isinstance(side, n.Apply) and side.function == v.PROBABILITY:
                    # What is rare is bounded by little from above, what is usual by much from below.
                    bound = fold(other, declarations.values.fractions)
                    is_usual_form = bound is not None and goes_up == (2 * bound >= 1)
                    outer = turned if is_usual_form else node
                    stack.append((side.arguments[0], 1 if goes_up else -1, outer))  # type: ignore[arg-type]
                else:
                    _judge(node, side, goes_up, turned or node, declarations, report)


def _bounded(node: n.Formula, declarations: Declarations) -> list[tuple[n.Expr, bool, n.Expr]]:
    """The sides of a comparison that can move, whether they are bounded from below, and what bounds them."""
    if not isinstance(node, n.Compare) or len(node.operators) != 1 or node.operators[0] not in _UP + _DOWN:
        return []
    left, right = node.operands
    upward = node.operators[0] in _UP
    pairs = ((left, upward, right), (right, not upward, left))
    return [pair for pair in pairs if _stands_still(pair[2], declarations)]


def _stands_still(side: n.Expr, declarations: Declarations) -> bool:
    """Whether a side is a number or the base model's, so that only the other one can move."""
    return all(
        name.model == "base"
        or name.parts == ("base",)
        or dotted(name) in declarations.lets
        or dotted(name) in declarations.constants
        for name in names_in(side)
    )


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
    name = dotted(side)
    info = declarations.attributes.get(name) if side.model is None else None
    direction = v.ROWS_QUANTITIES[name].direction if name in v.ROWS_QUANTITIES else info and info.direction
    if direction is None or (direction == "higher") == goes_up:
        return
    labels = (Label(info.span, "declared here"),) if info and info.span and info.source is None else ()
    declared = f"which is declared `{direction}_is_better`" if info else f"which is better when {direction}"
    roomy = _roomy(turned, declarations)
    if roomy is not None:
        message = f"this lets `{name}` become as bad as it likes, {declared}"
        help, fix = f"write `{roomy}` to keep it", replacing(turned.span, roomy)
        report.warning("PC405", node.span, message, help, labels=labels, fix=fix)
        return
    asked = "more" if goes_up else "less"
    help = "turn the comparison round" + (", or correct the declaration" if info else "")
    left, right = turned.operands
    written = report.source.find("[<>]=?", Span(left.span.end, right.span.start))
    report.warning(
        "PC405",
        node.span,
        f"this asks for {asked} `{name}`, {declared}",
        help,
        labels=labels,
        fix=None if written is None else replacing(written, TURNED[turned.operators[0]]),
    )


def _roomy(node: n.Compare, declarations: Declarations) -> str | None:
    """For a bound that the base model keeps with room to spare, the one that leaves as much on the other side.

    Equation: x <= f base + o with f >= 1 and o >= 0, or x >= f base + o with f <= 1 and o <= 0, but not f = 1, o = 0.
    """
    if len(node.operators) != 1 or node.operators[0] not in _UP + _DOWN:
        return None
    plain = substitute(node, declarations.values.decimals)
    (link,) = links(write_out(plain))
    form = difference(link) or {}
    sign = 1 if link.operator in _DOWN else -1
    sides = [side for side in plain.operands if not reads_base(side)]
    of_base = next((key for key in form if "@base" in key), "")
    of_own = of_base.replace("@base", "")
    if len(sides) != 1 or not of_base or form.keys() - {CONSTANT} != {of_own, of_base}:
        return None
    own = form[of_own]
    is_upper = sign * own < 0
    factor, offset = form[of_base] / -own, form.get(CONSTANT, Fraction(0)) / -own
    room = (factor - 1, offset) if is_upper else (1 - factor, -offset)
    kept = exact_decimal(2 - factor if factor < 2 else Fraction(1))
    distance = exact_decimal(abs(offset))
    if min(room) < 0 or max(room) == 0 or kept is None or distance is None:
        return None
    percent = any(isinstance(part, n.Number) and part.percent for part in descendants(node))
    base = "base" if kept == 1 else f"{format_number(kept)} * base"
    if distance:
        base += f" {'-' if is_upper else '+'} {format_number(distance, percent=percent)}"
    return f"{format_formula(sides[0])} {'>=' if is_upper else '<='} {base}"
