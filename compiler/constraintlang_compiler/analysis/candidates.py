"""Responses to try: values inside every region of a query, near its corners and far out along its rays."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import ceil, floor, prod

from constraintlang import nodes as n
from constraintlang_compiler.analysis.cells import Cell
from constraintlang_compiler.analysis.forms import ONE, ZERO, Variables
from constraintlang_compiler.analysis.grid import Axis, Grid
from constraintlang_compiler.analysis.limits import MAX_CANDIDATES
from constraintlang_compiler.analysis.regions import Region
from constraintlang_compiler.decimals import is_finite_decimal

Point = dict[str, Fraction]
Truths = Mapping[n.Formula, int]


@dataclass(frozen=True)
class Reach:
    """How far candidates keep from an open corner, as a share of the way to the middle, and how far out they go."""

    near: Fraction
    far: tuple[int, ...]


ROUNDS = (
    Reach(Fraction(1, 2), (1,)),
    Reach(Fraction(1, 16), (1, 10, 100)),
    Reach(Fraction(1, 1024), (10, 1_000)),
    Reach(Fraction(1, 10**6), (1_000, 1_000_000)),
)
"""Tried in this order, so that a sample law has plain numbers where it can."""
DIGITS = (3, 6, 12, 24)


@dataclass(frozen=True)
class Candidate:
    """A response to try, with the truth of the formulas of its region (None where it was not made from one)."""

    point: Point
    truths: Truths | None


def candidates(grid: Grid, regions: Sequence[Region], reach: Reach) -> list[Candidate]:
    """At most ``MAX_CANDIDATES`` responses, the same ones every time.

    A term that is not linear is no coordinate: then the attributes that it is made of are tried in combination.
    """
    variables = grid.variables
    derived = [
        axis.form.variables[0] for axis in grid.axes if variables.found[axis.form.variables[0]].operands
    ]
    if derived:
        tried = (Candidate(point, None) for point in _combined(grid, derived, reach))
    else:
        tried = (
            Candidate(rounded, region.truths)
            for region in regions
            for point in _inside(region, reach)
            for rounded in _rounded({**region.elsewhere, **point}, variables)
        )
    found: dict[tuple[tuple[str, Fraction], ...], Candidate] = {}
    for candidate in tried:
        found.setdefault(tuple(sorted(candidate.point.items())), candidate)
        if len(found) >= MAX_CANDIDATES:
            break
    return list(found.values())


def _inside(region: Region, reach: Reach) -> Iterator[Point]:
    corners = [corner.point for corner in region.corners if corner.mass]
    rays = [corner.point for corner in region.corners if not corner.mass]
    middle = {name: sum((point[name] for point in corners), ZERO) / len(corners) for name in region.box}
    for ray in rays:
        middle = {name: value + ray[name] for name, value in middle.items()}
    yield middle
    for corner in region.corners:
        if not corner.mass:
            continue
        share = reach.near if corner.on else ZERO
        base = {name: value + share * (middle[name] - value) for name, value in corner.point.items()}
        yield base
        for ray in rays:
            for distance in reach.far:
                yield {name: value + distance * ray[name] for name, value in base.items()}


def _rounded(point: Mapping[str, Fraction], variables: Variables) -> Iterator[Point]:
    """The point with finite decimals, and whole numbers where only they exist (down, and up)."""
    decimals = {name: _decimal(value) for name, value in point.items()}
    whole = [name for name in decimals if variables.found[name].whole]
    if all(decimals[name].denominator == 1 for name in whole):
        yield decimals
        return
    for rounding in (floor, ceil):
        yield {
            name: Fraction(rounding(value)) if name in whole else value for name, value in decimals.items()
        }


def _decimal(value: Fraction) -> Fraction:
    if is_finite_decimal(value):
        return value
    return Fraction(round(value * 10**12), 10**12)


# ---------------------------------------------------------------- terms that are not linear
def _combined(grid: Grid, derived: Sequence[str], reach: Reach) -> Iterator[Point]:
    variables = grid.variables
    cells = {axis.form.variables[0]: axis.cells for axis in grid.axes if len(axis.form.coefficients) == 1}
    inner = {part for name in derived for part in variables.attributes_of(name)}
    names = sorted({*cells, *inner} - set(derived))
    choices = [
        list(
            dict.fromkeys(
                v for cell in cells.get(name) or (_range(variables, name),) for v in _values(cell, reach)
            )
        )
        for name in names
    ]
    several = [axis for axis in grid.axes if len(axis.form.coefficients) > 1]
    for values in _combinations(choices, MAX_CANDIDATES // (1 + 4 * len(several))):
        point = dict(zip(names, values, strict=True))
        for moved in (point, *_moved(point, several, variables)):
            yield variables.completed(moved, derived)


def _range(variables: Variables, name: str) -> Cell:
    variable = variables.found[name]
    return Cell(variable.low, variable.high, whole=variable.whole)


def _combinations(choices: Sequence[Sequence[Fraction]], limit: int) -> Iterator[tuple[Fraction, ...]]:
    if prod(len(choice) for choice in choices) <= limit:
        yield from product(*choices)
        return
    generator = random.Random(0)  # the same policy gets the same answer
    for _ in range(limit):
        yield tuple(generator.choice(choice) for choice in choices)


def _values(cell: Cell, reach: Reach) -> Iterator[Fraction]:
    """Finite decimals in a cell: its middle, its ends or values near them, values far out."""
    wanted = [cell.inside()]
    for end, other, is_open, inwards in (
        (cell.low, cell.high, cell.low_open, 1),
        (cell.high, cell.low, cell.high_open, -1),
    ):
        if end is None:
            wanted += [(other or ZERO) - inwards * distance for distance in reach.far]
        else:
            width = ONE if other is None else abs(other - end)
            wanted.append(end + inwards * reach.near * width / 2 if is_open else end)
    for value in wanted:
        for digits in DIGITS:
            rounded = value if is_finite_decimal(value) else Fraction(round(value * 10**digits), 10**digits)
            if cell.contains(rounded):
                yield rounded
                break


def _moved(point: Mapping[str, Fraction], several: Sequence[Axis], variables: Variables) -> Iterator[Point]:
    """The point with one attribute changed so that a form of several attributes lies in another cell."""
    for axis in several:
        if not all(name in point for name in axis.form.variables):
            continue
        for name, factor in axis.form.coefficients:
            rest = axis.form.at(point) - factor * point[name]
            for cell in axis.cells:
                value = _decimal((cell.inside() - rest) / factor)
                if _range(variables, name).contains(value):
                    yield {**point, name: value}
