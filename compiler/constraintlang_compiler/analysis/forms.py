"""Expressions over one response as exact linear forms in their scores, and the range of each score.

What is not linear (a product of two scores, a quotient by a score that is never 0) becomes a variable of its
own with the range that interval arithmetic gives it: what is proved of it then holds of the real thing.
Anything else (a quotient that may be by 0, a name without declaration) has no form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from constraintlang import nodes as n
from constraintlang.checked import AttributeInfo
from constraintlang_compiler.analysis.base_law import BASE_LAW
from constraintlang_compiler.intervals import Interval

ZERO, ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class Form:
    """``sum of coefficient * variable + constant``; sorted by variable, no coefficient is 0."""

    coefficients: tuple[tuple[str, Fraction], ...]
    constant: Fraction = ZERO

    def plus(self, other: Form, factor: Fraction = ONE) -> Form:
        """``self + factor * other``."""
        merged = dict(self.coefficients)
        for name, coefficient in other.coefficients:
            merged[name] = merged.get(name, ZERO) + factor * coefficient
        kept = tuple(sorted((name, value) for name, value in merged.items() if value))
        return Form(kept, self.constant + factor * other.constant)

    def times(self, factor: Fraction) -> Form:
        """``factor * self``."""
        return Form(()).plus(self, factor)

    def at(self, values: Mapping[str, Fraction]) -> Fraction:
        """The value at a point."""
        return sum((value * values[name] for name, value in self.coefficients), self.constant)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables, sorted."""
        return tuple(name for name, _ in self.coefficients)

    def direction(self) -> tuple[Form, Fraction]:
        """The form without its constant, scaled so that its first coefficient is 1, and the scale."""
        scale = self.coefficients[0][1]
        return Form(tuple((name, value / scale) for name, value in self.coefficients)), scale

    def text(self) -> str:
        """A key: equal forms have equal texts."""
        parts = [f"{value}*{name}" for name, value in self.coefficients]
        return " + ".join([*parts, *([str(self.constant)] if self.constant or not parts else [])])


@dataclass(frozen=True)
class Variable:
    """A number that every response has: an attribute, or the product or quotient (``op``) of two forms."""

    name: str
    low: Fraction | None
    high: Fraction | None
    whole: bool = False
    op: str = ""
    operands: tuple[Form, ...] = ()


@dataclass
class Variables:
    """The variables met so far, by name; ``attributes`` are the declarations."""

    attributes: Mapping[str, AttributeInfo]
    found: dict[str, Variable] = field(default_factory=dict)

    def form(self, expr: n.Expr) -> Form | None:
        """The linear form of an expression over one response, or None when it has none."""
        if isinstance(expr, n.Number):
            return Form((), Fraction(expr.value))
        if isinstance(expr, n.Name):
            return self._name(expr)
        if isinstance(expr, n.Negate):
            operand = self.form(expr.operand)
            return None if operand is None else operand.times(-ONE)
        if isinstance(expr, n.Arithmetic):
            left, right = self.form(expr.left), self.form(expr.right)
            return None if left is None or right is None else self._arithmetic(expr.op, left, right)
        return None

    def flag(self, name: n.Name) -> Form | None:
        """A flag as the number 0 or 1; None when it is not declared."""
        return self._name(name)

    def declare(self, info: AttributeInfo, key: str) -> None:
        """Make a variable known that no expression has named yet."""
        self.found.setdefault(key, variable_of(info, key))

    def interval(self, form: Form) -> Interval:
        """A range that contains every value of a form."""
        total = Interval(form.constant, form.constant)
        for name, value in form.coefficients:
            variable = self.found[name]
            total = total + Interval(variable.low, variable.high) * Interval(value, value)
        return total

    def _name(self, node: n.Name) -> Form | None:
        name = ".".join(node.parts)
        info = self.attributes.get(name)
        if info is None or node.model not in (None, "base", BASE_LAW):
            return None
        key = name if node.model is None else f"{name}@{node.model}"
        self.declare(info, key)
        return Form(((key, ONE),))

    def _arithmetic(self, op: str, left: Form, right: Form) -> Form | None:
        if op in "+-":
            return left.plus(right, ONE if op == "+" else -ONE)
        if op == "*":
            if not right.coefficients:
                return left.times(right.constant)
            return right.times(left.constant) if not left.coefficients else self._product(left, right)
        if not right.coefficients:
            return None if right.constant == 0 else left.times(1 / right.constant)
        below = self.interval(right)
        apart = (below.low is not None and below.low > 0) or (below.high is not None and below.high < 0)
        if not apart:
            return None
        name = f"({left.text()}) / ({right.text()})"
        return self._derived(name, self.interval(left) * below.reciprocal(), "/", left, right)

    def _product(self, left: Form, right: Form) -> Form:
        first, second = sorted((left.text(), right.text()))
        interval = self.interval(left) * self.interval(right)
        return self._derived(f"({first}) * ({second})", interval, "*", left, right)

    def _derived(self, name: str, interval: Interval, op: str, left: Form, right: Form) -> Form:
        variable = Variable(name, interval.low, interval.high, op=op, operands=(left, right))
        self.found.setdefault(name, variable)
        return Form(((name, ONE),))

    def attributes_of(self, name: str) -> tuple[str, ...]:
        """The attributes that a variable is made of; an attribute is itself."""
        operands = self.found[name].operands
        inner = (part for form in operands for key in form.variables for part in self.attributes_of(key))
        return tuple(dict.fromkeys(inner)) if operands else (name,)

    def completed(self, point: Mapping[str, Fraction], names: Iterable[str]) -> dict[str, Fraction]:
        """The point with the values of the variables that are made of attributes."""
        values = dict(point)
        for name in names:
            self._complete(name, values)
        return values

    def _complete(self, name: str, values: dict[str, Fraction]) -> Fraction:
        if name not in values:
            variable = self.found[name]
            for form in variable.operands:
                for key in form.variables:
                    self._complete(key, values)
            left, right = (form.at(values) for form in variable.operands)
            values[name] = left * right if variable.op == "*" else left / right
        return values[name]


def variable_of(info: AttributeInfo, key: str) -> Variable:
    """The variable of a declared attribute; a flag lies in {0, 1} and a count starts at 0."""
    low = None if info.low is None or info.low.is_infinite() else Fraction(info.low)
    high = None if info.high is None or info.high.is_infinite() else Fraction(info.high)
    if info.type in ("count", "flag") and low is None:
        low = ZERO
    if info.type == "flag" and high is None:
        high = ONE
    whole = info.type in ("int", "count", "flag")
    if whole:
        low = None if low is None else Fraction(-((-low.numerator) // low.denominator))
        high = None if high is None else Fraction(high.numerator // high.denominator)
    return Variable(key, low, high, whole)
