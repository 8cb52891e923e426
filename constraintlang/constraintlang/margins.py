"""How far a formula is from changing its truth value: a crisp logic, exact, and a smooth one below it.

The margin of `a < b` is `b - a`, in units of how far the scores in it can go (``scales.py``); of a flag 1/2
when it is true and -1/2 when it is not. `and` and `or` are joined by a *logic*, on the normal form. A positive
margin means true; under the crisp logic a negative one means false, and no smaller change of all the scores
than the margin turns the verdict. Zero says nothing: the truth value is always reported beside the margin.
Margins explain and compare (``constraintc why``); nothing is trained on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from constraintlang.checked import AttributeInfo
from constraintlang.nodes import Flag
from constraintlang.normal_form import Atom, Junction, Link, NormalForm, Valuation, atoms
from constraintlang.scales import CONSTANT, Scales, difference, reach
from constraintlang.semantics import compare

Margin = Fraction | float
HALF = Fraction(1, 2)
DEFAULT_SHARPNESS = 50.0
HUGE = 10**100


@dataclass(frozen=True)
class Connective:
    """How the margins of parts become one: the value, and how much each part moves it."""

    value: Callable[[Sequence[Margin]], Margin]
    influences: Callable[[Sequence[Margin]], list[float]]


@dataclass(frozen=True)
class Logic:
    """A pair of connectives; ``gap(n)`` is how far one of n parts can fall below the crisp one at most."""

    name: str
    conjunction: Connective
    disjunction: Connective
    gap: Callable[[int], float]


def _float(margin: Margin) -> float:
    """The margin as a float; what no float can hold becomes a huge one."""
    return float(max(min(margin, HUGE), -HUGE))


def _first(extreme: Callable[[Sequence[Margin]], Margin]) -> Connective:
    def influences(margins: Sequence[Margin]) -> list[float]:
        chosen = margins.index(extreme(margins))
        return [float(index == chosen) for index in range(len(margins))]

    return Connective(extreme, influences)


CRISP = Logic("crisp", _first(min), _first(max), lambda num_parts: 0.0)
"""The smallest margin for `and`, the largest for `or`: exact, and not differentiable."""


def smooth(sharpness: float = DEFAULT_SHARPNESS) -> Logic:
    """A logic with derivatives everywhere, never above the crisp one, and closer to it the sharper it is.

    Equation: `and` is ``-log(sum exp(-k m)) / k``; `or` is ``sum m exp(k m) / sum exp(k m)``. Both lie at most
    ``log(n) / k`` below the crisp value, and their derivatives with respect to the n parts add up to 1.
    Raises: ValueError when ``sharpness`` is not above 0 and at most 10^6.
    Source: Gilpin, Kurtz & Lin 2021 (arXiv 2006.05239).
    """
    if not 0 < sharpness <= 1e6:
        raise ValueError(f"got the sharpness {sharpness}, expected a number above 0 and at most 10^6")

    def weights(margins: Sequence[Margin], sign: int) -> list[float]:
        values = [sign * _float(m) for m in margins]
        powers = [math.exp(sharpness * (value - max(values))) for value in values]
        return [power / sum(powers) for power in powers]

    def soft_min(margins: Sequence[Margin]) -> Margin:
        values = [_float(m) for m in margins]
        low = min(values)
        # The smallest one contributes exactly 1, so the logarithm is never negative and nothing overflows.
        return low - math.log(sum(math.exp(-sharpness * (value - low)) for value in values)) / sharpness

    def weighted_mean(margins: Sequence[Margin]) -> Margin:
        values = [_float(m) for m in margins]
        # As a distance below the top: no term cancels, so rounding cannot lift the mean above it.
        distances = [max(values) - value for value in values]
        return max(values) - sum(w * d for w, d in zip(weights(margins, 1), distances, strict=True))

    def mean_influences(margins: Sequence[Margin]) -> list[float]:
        mean = float(weighted_mean(margins))
        pairs = zip(weights(margins, 1), margins, strict=True)
        return [w * (1 + sharpness * (_float(m) - mean)) for w, m in pairs]

    return Logic(
        "smooth",
        Connective(soft_min, lambda margins: weights(margins, -1)),
        Connective(weighted_mean, mean_influences),
        lambda num_parts: math.log(num_parts) / sharpness if num_parts else 0.0,
    )


def margin(form: NormalForm, logic: Logic, of_atom: Callable[[Atom], Margin | None]) -> Margin | None:
    """The margin of a normal form; None when that of an atom is not known."""
    if not isinstance(form, Junction):
        return of_atom(form)
    if not form.parts:
        return math.inf if form.all else -math.inf
    parts = [margin(part, logic, of_atom) for part in form.parts]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    # An infinite part is a constant: it decides, or it is left out.
    decides, finite = -math.inf if form.all else math.inf, [part for part in known if not math.isinf(part)]
    if decides in known or not finite:
        return decides if decides in known else -decides
    return (logic.conjunction if form.all else logic.disjunction).value(finite)


def influences(form: NormalForm, logic: Logic, of_atom: Callable[[Atom], Margin | None]) -> list[float]:
    """The derivative of the margin with respect to that of each atom, in order; empty when it has none.

    They add up to 1. Under the crisp logic one atom has all of it: the one that decides.
    """
    whole = margin(form, logic, of_atom)
    if whole is None or math.isinf(whole):
        return []
    if not isinstance(form, Junction):
        return [1.0]
    parts = [margin(part, logic, of_atom) for part in form.parts]
    finite = [part for part in parts if part is not None and not math.isinf(part)]
    shares = iter((logic.conjunction if form.all else logic.disjunction).influences(finite))
    found: list[float] = []
    for part in form.parts:
        inner = influences(part, logic, of_atom)
        share = next(shares) if inner else 0.0
        found += [share * influence for influence in inner] or [0.0 for _ in atoms(part)]
    return found


def gap(form: NormalForm, logic: Logic) -> float:
    """How far the margin of a formula can fall below the crisp one at most."""
    if not isinstance(form, Junction) or not form.parts:
        return 0.0
    return logic.gap(len(form.parts)) + max(gap(part, logic) for part in form.parts)


def atom_margin(
    atom: Atom, valuation: Valuation, scales: Scales, attributes: Mapping[str, AttributeInfo]
) -> Margin | None:
    """The margin of an atom; None where a score is unknown or no scale is known (products of scores, order)."""
    if not isinstance(atom, Link):
        value = valuation.truth(atom.formula)
        if value is None or not isinstance(atom.formula, Flag):
            return None
        return HALF if value != atom.negated else -HALF
    left, right = valuation.value(atom.left), valuation.value(atom.right)
    if left is None or right is None:
        return None
    width = reach(atom, scales)
    if width is None:
        return None
    if width == 0:  # no score can change it
        return math.inf if compare(left, atom.operator, right) else -math.inf
    if atom.operator in ("==", "!="):
        step = HALF if _is_whole(atom, attributes) else Fraction(0)
        distance = step - abs(left - right)
        return (distance if atom.operator == "==" else -distance) / width
    return (right - left if atom.operator in ("<", "<=") else left - right) / width


def _is_whole(link: Link, attributes: Mapping[str, AttributeInfo]) -> bool:
    """Whether the two sides can only differ by whole numbers."""
    form = difference(link) or {}
    kinds = {key: attributes[own].type for key in form if (own := key.removesuffix("@base")) in attributes}
    return all(
        factor.denominator == 1 and (key == CONSTANT or kinds.get(key) in ("int", "count"))
        for key, factor in form.items()
    )
