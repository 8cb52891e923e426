"""Exact interval arithmetic: what range a term can take when every attribute stays in its declared range.

The result always contains every value of the term (it may be wider, ``x - x`` gives ``[-1, 1]``), so a bound
derived from it is never wrong, only loose. Ends are exact fractions; an open end is ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from constraintlang_compiler.ir import AttributeRecord, AttributeRef, Const, Product, Quotient, Sum, Term


@dataclass(frozen=True)
class Interval:
    """The closed range ``[low, high]``; ``None`` is an open end."""

    low: Fraction | None
    high: Fraction | None

    def __add__(self, other: Interval) -> Interval:
        return Interval(
            None if self.low is None or other.low is None else self.low + other.low,
            None if self.high is None or other.high is None else self.high + other.high,
        )

    def __mul__(self, other: Interval) -> Interval:
        corners = [
            _times(a, sign_a, b, sign_b)
            for a, sign_a in ((self.low, -1), (self.high, 1))
            for b, sign_b in ((other.low, -1), (other.high, 1))
        ]
        finite = [value for value in corners if isinstance(value, Fraction)]
        return Interval(
            None if "-inf" in corners else min(finite),
            None if "+inf" in corners else max(finite),
        )

    def reciprocal(self) -> Interval:
        """The range of ``1 / x`` where defined; open on both sides when 0 lies inside the range."""
        if self.low is not None and self.low > 0:
            return Interval(Fraction(0) if self.high is None else 1 / self.high, 1 / self.low)
        if self.high is not None and self.high < 0:
            return Interval(1 / self.high, Fraction(0) if self.low is None else 1 / self.low)
        if self.low == 0:
            return Interval(Fraction(0) if self.high is None or self.high == 0 else 1 / self.high, None)
        if self.high == 0:
            return Interval(None, Fraction(0) if self.low is None else 1 / self.low)
        return Interval(None, None)


def _times(a: Fraction | None, sign_a: int, b: Fraction | None, sign_b: int) -> Fraction | str:
    """The product of two ends, where ``None`` is an infinity of the given sign and ``0 * infinity`` is 0."""
    if a is not None and b is not None:
        return a * b
    if a == 0 or b == 0:
        return Fraction(0)
    sign = (sign_a if a is None else (1 if a > 0 else -1)) * (sign_b if b is None else (1 if b > 0 else -1))
    return "+inf" if sign > 0 else "-inf"


def attribute_interval(attribute: AttributeRecord) -> Interval:
    """The declared range; a count starts at 0 and a flag lies in [0, 1] also when no range is written."""
    low = None if attribute.low is None else Fraction(attribute.low)
    high = None if attribute.high is None else Fraction(attribute.high)
    if attribute.type in ("count", "flag") and low is None:
        low = Fraction(0)
    if attribute.type == "flag" and high is None:
        high = Fraction(1)
    return Interval(low, high)


def term_interval(term: Term, attributes: Mapping[str, AttributeRecord]) -> Interval:
    """The range of a term over the declared ranges of its attributes.

    Raises: KeyError when the term names an attribute that is not in the table.
    """
    match term:
        case Const(value=value):
            return Interval(Fraction(value), Fraction(value))
        case AttributeRef(name=name):
            return attribute_interval(attributes[name])
        case Sum(terms=terms):
            total = Interval(Fraction(0), Fraction(0))
            for part in terms:
                total = total + term_interval(part, attributes)
            return total
        case Product(terms=terms):
            product = Interval(Fraction(1), Fraction(1))
            for part in terms:
                product = product * term_interval(part, attributes)
            return product
        case Quotient(numerator=numerator, denominator=denominator):
            return term_interval(numerator, attributes) * term_interval(denominator, attributes).reciprocal()
