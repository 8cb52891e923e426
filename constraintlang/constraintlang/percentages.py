"""Warns where a percentage stands for a number of what is no share: `words < 5%`, `perplexity <= base + 2%` (PC409)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.declarations import Declarations
from constraintlang.fixes import replacing
from constraintlang.printer import format_formula, format_number
from constraintlang.report import Report
from constraintlang.tree import descendants, dotted, names_in

_LEAST_FACTOR = Decimal("0.5")  # below it `2% * base` as an upper bound was meant as 2% more


def check_percentages(formula: n.Formula, declarations: Declarations, report: Report) -> None:
    """Look at every comparison of a count or of another quantity that may exceed 1, or of a statistic of one."""
    for node in descendants(formula):
        if isinstance(node, n.InRange):
            sides: tuple[n.Expr, ...] = (node.operand, node.low, node.high)
            upper = {2}
        elif isinstance(node, n.Compare):
            sides = node.operands
            upper = {i + (op[0] == "<") for i, op in enumerate(node.operators) if op[0] in "<>"}
        else:
            continue
        name = next(filter(None, (_beyond_a_share(side, declarations) for side in sides)), None)
        if name is not None:
            judge = _Judge(name, declarations, report)
            for index, side in enumerate(sides):
                judge.side(side, is_upper=index in upper)


def _beyond_a_share(side: n.Expr, declarations: Declarations) -> str | None:
    """The name of what a side measures where it may exceed 1; None for shares and for everything calculated."""
    if isinstance(side, n.Apply) and side.function in v.OF_NUMBERS:
        side = side.arguments[0]  # type: ignore[assignment]
    if not isinstance(side, n.Name):
        return None
    info = declarations.attributes.get(dotted(side)) or v.ROWS_QUANTITIES.get(dotted(side))
    return None if info is None or (info.high is not None and info.high <= 1) else dotted(side)


@dataclass(frozen=True)
class _Judge:
    name: str
    declarations: Declarations
    report: Report

    def side(self, side: n.Expr, *, is_upper: bool) -> None:
        """Report a percentage that is a side, a term of it, or a small factor of an upper bound."""
        alone = self.percent(side)
        if alone is not None:
            number = format_number(alone * 100)
            message = f"`{_share(alone)}` is the number {format_number(alone)}, and `{self.name}` is no share"
            self.warn(side, message, number)
        if not isinstance(side, n.Arithmetic):
            return
        for part, other in ((side.left, side.right), (side.right, side.left)):
            percent = self.percent(part)
            if percent is None or not list(names_in(other)):
                continue
            if side.op in "+-" and not (side.op == "-" and part is side.left):
                message = (
                    f"`{side.op} {_share(percent)}` adds the number {format_number(percent)}, not a share"
                )
                message = message.replace("adds", "takes away") if side.op == "-" else message
                self.scaled(side, other, message, 1 + percent if side.op == "+" else 1 - percent)
            elif side.op == "*" and is_upper and percent < _LEAST_FACTOR:
                message = f"the bound is {_share(percent)} of it, not {_share(percent)} above it"
                self.scaled(side, other, message, 1 + percent)

    def scaled(self, side: n.Arithmetic, other: n.Expr, message: str, factor: Decimal) -> None:
        """Propose a multiple, or a number where a multiple is refused (PC204) because it may be negative."""
        inner = format_formula(other)
        info = self.declarations.attributes.get(self.name)
        if info is not None and (info.low is None or info.low < 0):
            self.report.warning("PC409", side.span, message, f"write a number, for example `{inner} + 0.1`")
            return
        inner = f"({inner})" if isinstance(other, n.Arithmetic) else inner
        self.warn(side, message, f"{format_number(factor)} * {inner}")

    def warn(self, place: n.Expr, message: str, right: str) -> None:
        self.report.warning(
            "PC409", place.span, message, f"write `{right}`", fix=replacing(place.span, right)
        )

    def percent(self, node: n.Expr) -> Decimal | None:
        """The value of a percentage, also of one that a constant is set to; None for everything else."""
        if isinstance(node, n.Name) and dotted(node) in self.declarations.lets:
            node = self.declarations.lets[dotted(node)].value
        return node.value if isinstance(node, n.Number) and node.percent and node.value > 0 else None


def _share(value: Decimal) -> str:
    return format_number(value, percent=True)
