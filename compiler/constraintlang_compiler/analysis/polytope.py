"""The corners and rays of a cell: a box of intervals, cut by slabs ``low <= form <= high``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product

from constraintlang_compiler.analysis.cells import Cell
from constraintlang_compiler.analysis.exact import solve
from constraintlang_compiler.analysis.forms import ONE, ZERO, Form

MAX_DIMENSIONS = 3
"""Above it, and where a cell has no corner, slabs are left out: it is then taken for larger than it is."""

Side = tuple[str, int]  # the name of a variable or the text of a form, and 0 for its low end, 1 for its high


@dataclass(frozen=True)
class Corner:
    """A corner (mass 1) or a ray (mass 0) of the closure of a cell."""

    point: Mapping[str, Fraction]
    mass: Fraction
    on: frozenset[Side]
    sides: frozenset[Side]


def corners(box: Mapping[str, Cell], slabs: Sequence[tuple[Form, Cell]]) -> list[Corner]:
    """The corners of a cell; none when nothing lies in it."""
    if slabs and len(box) <= MAX_DIMENSIONS:
        found = _cut(box, slabs)
        if found is not None:
            return found
    return _box(box)


def _box(box: Mapping[str, Cell]) -> list[Corner]:
    names = list(box)
    sides = frozenset(side for name in names for side in _open_sides(name, box[name]))
    found = []
    for values in product(*(_ends(box[name]) for name in names)):
        point = dict(zip(names, values, strict=True))
        on = frozenset(
            (name, end) for name, end in sides if point[name] == (box[name].high if end else box[name].low)
        )
        found.append(Corner(point, ONE, on, sides))
    for name in names:
        for end, direction in ((0, -ONE), (1, ONE)):
            if (box[name].high if end else box[name].low) is None:
                ray = {other: direction if other == name else ZERO for other in names}
                found.append(Corner(ray, ZERO, sides - {(name, 1 - end)}, sides))
    return found


def _ends(cell: Cell) -> list[Fraction]:
    ends = [end for end in (cell.low, cell.high) if end is not None]
    return list(dict.fromkeys(ends)) or [ZERO]


def _open_sides(name: str, cell: Cell) -> list[Side]:
    return [(name, 0)] * (cell.low_open and cell.low is not None) + [(name, 1)] * (
        cell.high_open and cell.high is not None
    )


@dataclass(frozen=True)
class _Wall:
    """``normal * x <= limit``, strictly when open."""

    normal: tuple[Fraction, ...]
    limit: Fraction
    side: Side
    is_open: bool

    def reach(self, values: Sequence[Fraction]) -> Fraction:
        """``normal * x``."""
        return sum((a * b for a, b in zip(self.normal, values, strict=True)), ZERO)


def _cut(box: Mapping[str, Cell], slabs: Sequence[tuple[Form, Cell]]) -> list[Corner] | None:
    """The corners and rays of a box cut by slabs; None when it has no corner, but may hold something.

    A corner is where as many walls meet as there are dimensions; a ray runs along one wall less.
    """
    names = list(box)
    walls = [
        wall
        for form, cell, name in [
            *((Form(((name, ONE),)), cell, name) for name, cell in box.items()),
            *((form, cell, form.text()) for form, cell in slabs),
        ]
        for wall in _walls(form, cell, name, names)
    ]
    points: dict[tuple[Fraction, ...], None] = {}
    for chosen in combinations(walls, len(names)):
        meeting = solve([wall.normal for wall in chosen], [wall.limit for wall in chosen])
        if meeting is not None and all(wall.reach(meeting) <= wall.limit for wall in walls):
            points[tuple(meeting)] = None
    bounded = all(cell.low is not None and cell.high is not None for cell in box.values())
    if not points:
        return [] if bounded else None
    directions: dict[tuple[Fraction, ...], None] = {}
    for chosen in combinations(walls, len(names) - 1):
        for direction in _along([wall.normal for wall in chosen], len(names)):
            if all(wall.reach(direction) <= 0 for wall in walls):
                directions[direction] = None
    sides = frozenset(wall.side for wall in walls if wall.is_open)
    found = []
    for values, mass in [*((point, ONE) for point in points), *((ray, ZERO) for ray in directions)]:
        tight = {wall.side for wall in walls if wall.reach(values) == wall.limit * mass}
        found.append(Corner(dict(zip(names, values, strict=True)), mass, sides & tight, sides))
    # A side on which everything lies leaves nothing of an open cell.
    return [] if any(all(side in corner.on for corner in found) for side in sides) else found


def _walls(form: Form, cell: Cell, name: str, names: Sequence[str]) -> list[_Wall]:
    normal = dict(form.coefficients)
    up = tuple(normal.get(key, ZERO) for key in names)
    found = []
    if cell.low is not None:
        found.append(_Wall(tuple(-value for value in up), -cell.low, (name, 0), cell.low_open))
    if cell.high is not None:
        found.append(_Wall(up, cell.high, (name, 1), cell.high_open))
    return found


def _along(normals: Sequence[tuple[Fraction, ...]], size: int) -> list[tuple[Fraction, ...]]:
    """Both directions at right angles to ``size - 1`` normals, scaled to 1 in the largest coordinate."""
    if size == 1:
        return [(ONE,), (-ONE,)]
    if size == 2:
        ((a, b),) = normals
        direction = (-b, a)
    else:
        (a, b, c), (d, e, f) = normals
        direction = (b * f - c * e, c * d - a * f, a * e - b * d)  # type: ignore[assignment]
    largest = max(abs(value) for value in direction)
    if not largest:
        return []
    return [tuple(sign * value / largest for value in direction) for sign in (ONE, -ONE)]
