"""Exact arithmetic on constants, and the values of ``let``: cycles and non-constants are reported once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from msgspec.structs import asdict, replace

from constraintlang import nodes as n
from constraintlang.diagnostics import Label
from constraintlang.limits import MAX_DIGITS
from constraintlang.report import Report
from constraintlang.tree import descendants, dotted, names_in

MAX_SHOWN = 8  # names in the message about a cycle


NO_DECIMAL = (
    "this number cannot be written out with at most 100 digits",
    "write the decimal number that you mean, for example `0.333`",
)
"""What is said of a third, and what to do."""


def fold(node: n.Expr, values: Mapping[str, Fraction]) -> Fraction | None:
    """The value of a constant expression; None when it is not constant or divides by zero.

    >>> fold(n.Number(value=Decimal("0.1")), {})
    Fraction(1, 10)
    """
    if isinstance(node, n.Number):
        return Fraction(node.value)
    if isinstance(node, n.Name):
        return values.get(dotted(node)) if node.model is None else None
    if isinstance(node, n.Negate):
        operand = fold(node.operand, values)
        return None if operand is None else -operand
    if isinstance(node, n.Arithmetic):
        left, right = fold(node.left, values), fold(node.right, values)
        if left is None or right is None or (node.op == "/" and right == 0):
            return None
        return {
            "+": Fraction.__add__,
            "-": Fraction.__sub__,
            "*": Fraction.__mul__,
            "/": Fraction.__truediv__,
        }[node.op](left, right)
    return None


def exact_decimal(value: Fraction) -> Decimal | None:
    """``value`` as a decimal without rounding; None when it has none of at most 100 digits.

    >>> exact_decimal(Fraction(1, 8)), exact_decimal(Fraction(1, 3))
    (Decimal('0.125'), None)
    """
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 4 * MAX_DIGITS:
        return None  # before the loops below, whose time grows with the digits
    denominator, places = value.denominator, 0
    while denominator % 10 == 0:
        denominator, places = denominator // 10, places + 1
    extra = 0
    twos = fives = 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    if denominator != 1:
        return None
    extra = max(twos, fives)
    digits = abs(value.numerator) * 10 ** (places + extra) // value.denominator
    text = str(digits)
    if max(len(text), places + extra + 1) > MAX_DIGITS:
        return None
    return Decimal((int(value < 0), tuple(map(int, text)), -(places + extra)))


def number_node(value: Decimal, span: Any) -> n.Expr:
    """The tree of a number; a negative one is the negation of a literal, as the parser would build it."""
    if value.is_signed() and value != 0:
        return n.Negate(operand=n.Number(value=value.copy_abs(), span=span), span=span)
    return n.Number(value=value.copy_abs(), span=span)


def substitute(node: Any, values: Mapping[str, Decimal]) -> Any:
    """``node`` with every name of a constant replaced by its number."""
    if isinstance(node, n.Name):
        if node.model is None and dotted(node) in values:
            return number_node(values[dotted(node)], node.span)
        return node
    changed = {}
    for key, value in asdict(node).items():
        if isinstance(value, n.Node):
            changed[key] = substitute(value, values)
        elif isinstance(value, tuple) and value and isinstance(value[0], n.Node):
            items = []
            for item in value:
                items.append(substitute(item, values))
            changed[key] = tuple(items)
    return replace(node, **changed) if changed else node


class LetValues:
    """The values of all ``let`` of a file; ``failed`` are the names that have none.

    ``imported`` are constants of other files, by their qualified names.
    """

    def __init__(
        self,
        lets: Mapping[str, n.Let],
        report: Report,
        lost: Iterable[str] = (),
        imported: Mapping[str, Decimal] | None = None,
    ) -> None:
        self.lets = lets
        self.report = report
        self.decimals: dict[str, Decimal] = dict(imported or {})
        self.fractions: dict[str, Fraction] = {key: Fraction(value) for key, value in self.decimals.items()}
        self.failed: set[str] = set(lost)
        for name in lets:
            self._visit(name)

    def _visit(self, root: str) -> None:
        # Depth first with a stack of our own: a chain of lets may be longer than Python's.
        path: dict[str, None] = {}  # in order, and quick to search
        stack: list[tuple[str, bool]] = [(root, False)]
        while stack:
            name, done = stack.pop()
            if done:
                path.popitem()
                self._evaluate(name)
                continue
            if name in self.fractions or name in self.failed:
                continue
            if name in path:
                names = list(path)
                self._cycle(names[names.index(name) :])
                continue
            path[name] = None
            stack.append((name, True))
            for used in names_in(self.lets[name].value):
                if dotted(used) in self.lets:
                    stack.append((dotted(used), False))

    def _cycle(self, names: list[str]) -> None:
        if names[0] in self.failed:
            return
        self.failed.update(names)
        first = min((self.lets[name] for name in names), key=lambda let: let.span.start)
        start = names.index(first.name)
        chain = [f"`{name}`" for name in [*names[start:], *names[:start], first.name]]
        if len(chain) > MAX_SHOWN:
            chain[MAX_SHOWN - 2 : -1] = ["..."]
        shown = " -> ".join(chain)
        self.report.error(
            "PC105",
            first.span,
            f"the constant `{first.name}` is defined by itself: {shown}",
            "give one of them a number",
            labels=tuple(
                Label(let.span, "by way of this")
                for let in sorted((self.lets[name] for name in names), key=lambda let: let.span.start)
                if let is not first
            ),
        )

    def _evaluate(self, name: str) -> None:
        let = self.lets[name]
        if name in self.failed:
            return
        self.failed.add(name)  # until proven otherwise
        if any({u.parts[0], dotted(u)} & self.failed for u in names_in(let.value)):
            return
        applied = [x for x in descendants(let.value) if isinstance(x, n.Apply)]
        unknown = [u for u in names_in(let.value) if dotted(u) not in self.fractions or u.model]
        if applied or unknown:
            culprit = min([*applied, *unknown], key=lambda x: x.span.start)
            self.report.error(
                "PC222",
                culprit.span,
                f"`let {name}` must be a constant, and this is none",
                "calculate with numbers and other `let` names only",
            )
            return
        value = fold(let.value, self.fractions)
        if value is None:
            self.report.error("PC223", let.value.span, "this divides by zero", "divide by another number")
            return
        decimal = exact_decimal(value)
        if decimal is None:
            self.report.error("PC223", let.value.span, *NO_DECIMAL)
            return
        self.failed.discard(name)
        self.fractions[name] = value
        self.decimals[name] = decimal
