"""How far a score can go, so that distances of different attributes compare: one scale for each attribute.

The scale of an attribute is the width of its declared range. An open range has no width: then it is the
largest threshold that the statement sets for the attribute, and 1 where it sets none but 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from constraintlang import nodes as n
from constraintlang.checked import AttributeInfo
from constraintlang.normal_form import Link, links
from constraintlang.printer import format_formula
from constraintlang.semantics import score_key
from constraintlang.tree import descendants

Scales = Mapping[str, Fraction]
Linear = dict[str, Fraction]
CONSTANT = ""
"""The key of the constant in a linear form; the others begin with the name of an attribute, or ``P``."""

_LIKE_ITS_ARGUMENT = ("mean", "median", "min", "max", "quantile", "cvar")


def scales_of(formula: n.Formula, attributes: Mapping[str, AttributeInfo]) -> dict[str, Fraction]:
    """The scale of every attribute, as far as ``formula`` may need it."""
    scales = {"P": Fraction(1)}
    for name, info in attributes.items():
        if info.type == "flag":
            scales[name] = Fraction(1)
        elif (
            info.low is not None and info.high is not None and info.low.is_finite() and info.high.is_finite()
        ):
            scales[name] = Fraction(info.high) - Fraction(info.low)
    largest: dict[str, Fraction] = {}
    for node in descendants(formula):
        for link in links(node) if isinstance(node, n.Compare | n.InRange) else ():
            form = difference(link)
            for key, factor in (form or {}).items():
                if key != CONSTANT and form is not None:
                    name = measured(key)
                    threshold = abs(form.get(CONSTANT, Fraction(0)) / factor)
                    largest[name] = max(largest.get(name, Fraction(0)), threshold)
    for name in {*attributes, *largest} - scales.keys():
        scales[name] = largest.get(name) or Fraction(1)
    return scales


def difference(link: Link) -> Linear | None:
    """``right - left`` as factors of attributes and a constant; None when it is not linear."""
    left, right = linear(link.left), linear(link.right)
    return None if left is None or right is None else _sum(right, left, Fraction(-1))


def reach(link: Link, scales: Scales) -> Fraction | None:
    """The most that ``right - left`` can change when every score moves by its scale; None when not linear."""
    form = difference(link)
    if form is None:
        return None
    factors = ((measured(key), factor) for key, factor in form.items() if key != CONSTANT)
    return sum((abs(factor) * scales[name] for name, factor in factors), Fraction(0))


def measured(key: str) -> str:
    """The attribute that a key of a linear form goes with: `toxicity of mean(toxicity)`, `toxicity@base`.

    >>> measured("toxicity of mean(toxicity)"), measured("toxicity@base")
    ('toxicity', 'toxicity')
    """
    return key.partition(" ")[0].removesuffix("@base")


def linear(expr: n.Formula | n.Expr) -> Linear | None:
    """An expression as factors of attributes and a constant, zero factors left out; None when not linear.

    A statistic of a term goes as far as the term, a chance as far as an attribute of its own; two statistics
    of one term can differ.
    """
    if isinstance(expr, n.Number):
        return _clean({CONSTANT: Fraction(expr.value)})
    if isinstance(expr, n.Name):
        return {score_key(expr): Fraction(1)}
    if isinstance(expr, n.Negate):
        inner = linear(expr.operand)
        return None if inner is None else _sum({}, inner, Fraction(-1))
    if isinstance(expr, n.Apply):
        if expr.function in _LIKE_ITS_ARGUMENT and expr.arguments:
            inner = linear(expr.arguments[0])
            text = format_formula(expr)
            return None if inner is None else {f"{k} of {text}" if k else k: f for k, f in inner.items()}
        return {f"P of {format_formula(expr)}": Fraction(1)} if expr.function == "P" else None
    if not isinstance(expr, n.Arithmetic):
        return None
    left, right = linear(expr.left), linear(expr.right)
    if left is None or right is None:
        return None
    if expr.op in "+-":
        return _sum(left, right, Fraction(1 if expr.op == "+" else -1))
    if expr.op == "*" and not set(left) - {CONSTANT}:
        left, right = right, left
    if set(right) - {CONSTANT}:
        return None
    factor = right.get(CONSTANT, Fraction(0))
    if expr.op == "/":
        if factor == 0:
            return None
        factor = 1 / factor
    return _sum({}, left, factor)


def _sum(first: Linear, second: Linear, factor: Fraction) -> Linear:
    names = {**first, **second}
    return _clean({k: first.get(k, Fraction(0)) + factor * second.get(k, Fraction(0)) for k in names})


def _clean(form: Linear) -> Linear:
    return {name: factor for name, factor in form.items() if factor}
