"""Small changes of a statement, each a mistake that its tests should notice.

Operators are flipped and thresholds shifted. On single responses a threshold moves by a tenth, a count by 1;
thresholds on the distribution and tolerances, which a sample decides less finely, are halved and doubled, and
there `<` is not told from `<=`. A tolerance that is the language's own is left alone. `eventually` and `globally`
are confused, and the sides of `before`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from msgspec import structs

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.checked import AttributeInfo, CheckedStatement
from constraintlang.constants import exact_decimal, fold, number_node
from constraintlang.normal_form import NEGATED
from constraintlang.printer import format_number
from constraintlang.source import Span
from constraintlang.tree import dotted, names_in

_STRICT: dict[str, n.Comparator] = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
Change = tuple[Span, str, Any]  # where, what in words, the node in its place


_OTHER_WORD: dict[str, Literal["eventually", "globally"]] = {
    "eventually": "globally",
    "globally": "eventually",
}


@dataclass(frozen=True)
class Mutant:
    """A statement with one change; ``change`` says which, in words."""

    span: Span
    change: str
    statement: CheckedStatement


def mutants(statement: CheckedStatement, attributes: Mapping[str, AttributeInfo]) -> Iterator[Mutant]:
    """Every mutant of a statement, in the order of the text."""
    on_law = statement.reading != "pointwise"
    changer = _Changer(attributes)
    for span, change, formula in changer.changes(statement.formula, on_law):
        yield Mutant(span, change, replace(statement, formula=formula))
    if statement.reading == "pointwise" and statement.tolerance not in (0, v.DEFAULT_TOLERANCE):
        assert statement.tolerance is not None
        span = statement.span or statement.formula.span
        for factor in (Decimal("0.5"), Decimal(2)):
            tolerance = statement.tolerance * factor
            if tolerance < 1:
                shown = (
                    format_number(statement.tolerance, percent=True),
                    format_number(tolerance, percent=True),
                )
                change = f"tolerance {shown[0]} read as {shown[1]}"
                yield Mutant(span, change, replace(statement, tolerance=tolerance))


@dataclass(frozen=True)
class _Changer:
    attributes: Mapping[str, AttributeInfo]

    def changes(self, node: Any, on_law: bool) -> Iterator[Change]:
        """Every version of ``node`` with one change in it."""
        if isinstance(node, n.Compare):
            yield from self.comparison(node, on_law)
        elif isinstance(node, n.InRange):
            yield from self.interval(node, on_law)
        elif isinstance(node, n.And | n.Or):
            words, other = ("and", "or"), n.Or if isinstance(node, n.And) else n.And
            old, new = words if isinstance(node, n.And) else words[::-1]
            if not on_law:
                yield node.span, f"`{old}` read as `{new}`", other(operands=node.operands, span=node.span)
        elif isinstance(node, n.Implies):
            yield (
                node.span,
                "`implies` read as `and`",
                n.And(operands=(node.left, node.right), span=node.span),
            )
        elif isinstance(node, n.Not):
            yield node.span, "`not` left out", node.operand
        elif isinstance(node, n.Temporal) and node.op in _OTHER_WORD:
            other_word = _OTHER_WORD[node.op]
            yield node.span, f"`{node.op}` read as `{other_word}`", structs.replace(node, op=other_word)
        elif isinstance(node, n.TemporalBinary) and node.op == "before" and node.left != node.right:
            exchanged = structs.replace(node, left=node.right, right=node.left)
            yield node.span, "the sides of `before` exchanged", exchanged
        yield from self.inside(node, on_law)

    def inside(self, node: Any, on_law: bool) -> Iterator[Change]:
        """``node`` with a change in one of its parts."""
        if isinstance(node, n.And | n.Or):
            for index, operand in enumerate(node.operands):
                for span, change, new in self.changes(operand, on_law):
                    yield span, change, _with_operand(node, index, new)
        elif isinstance(node, n.Implies | n.TemporalBinary):
            for name in ("left", "right"):
                for span, change, new in self.changes(getattr(node, name), on_law):
                    yield span, change, structs.replace(node, **{name: new})
        elif isinstance(node, n.Not | n.Over | n.Temporal):
            for span, change, new in self.changes(node.operand, on_law):
                yield span, change, structs.replace(node, operand=new)
        elif isinstance(node, n.Compare):
            for index, side in enumerate(node.operands):
                for span, change, new in self.in_chances(side):
                    yield span, change, _with_operand(node, index, new)

    def in_chances(self, node: Any) -> Iterator[Change]:
        """An expression with a change in the condition of one of its chances."""
        if isinstance(node, n.Apply) and node.function == v.PROBABILITY:
            for span, change, new in self.changes(node.arguments[0], False):
                yield span, change, structs.replace(node, arguments=(new, *node.arguments[1:]))
        elif isinstance(node, n.Arithmetic):
            for name in ("left", "right"):
                for span, change, new in self.in_chances(getattr(node, name)):
                    yield span, change, structs.replace(node, **{name: new})
        elif isinstance(node, n.Negate):
            for span, change, new in self.in_chances(node.operand):
                yield span, change, structs.replace(node, operand=new)

    # ------------------------------------------------------------ comparisons
    def comparison(self, node: n.Compare, on_law: bool) -> Iterator[Change]:
        for index, operator in enumerate(node.operators):
            span = node.operands[index].span.to(node.operands[index + 1].span)
            flips = (
                [NEGATED[operator]]
                if on_law or operator not in _STRICT
                else [_STRICT[operator], NEGATED[operator]]
            )
            for new in flips:
                operators = (*node.operators[:index], new, *node.operators[index + 1 :])
                yield span, f"`{operator}` read as `{new}`", structs.replace(node, operators=operators)
        for index, operand in enumerate(node.operands):
            for span, change, number in self.shifted(operand, node, on_law):
                yield span, change, _with_operand(node, index, number)

    def interval(self, node: n.InRange, on_law: bool) -> Iterator[Change]:
        for name in ("low", "high"):
            for span, change, number in self.shifted(getattr(node, name), node, on_law):
                yield span, change, structs.replace(node, **{name: number})

    def shifted(self, operand: n.Expr, among: n.Node, on_law: bool) -> Iterator[Change]:
        """A constant operand, moved down and up."""
        value = fold(operand, {})
        if value is None:
            return
        for new in self.neighbours(value, among, on_law):
            decimal, old = exact_decimal(new), exact_decimal(value)
            if decimal is not None and old is not None:
                change = f"the threshold {format_number(old)} read as {format_number(decimal)}"
                yield operand.span, change, number_node(decimal, operand.span)

    def neighbours(self, value: Fraction, among: n.Node, on_law: bool) -> tuple[Fraction, Fraction]:
        if on_law and value != 0:
            return value / 2, value * 2
        types = {self.attributes[dotted(x)].type for x in names_in(among) if dotted(x) in self.attributes}
        if types and types <= {"int", "count"} and value.denominator == 1 and not on_law:
            return value - 1, value + 1
        step = abs(value) / 10 or Fraction(1, 100)
        return value - step, value + step


def _with_operand(node: Any, index: int, operand: n.Node) -> Any:
    return structs.replace(node, operands=(*node.operands[:index], operand, *node.operands[index + 1 :]))
