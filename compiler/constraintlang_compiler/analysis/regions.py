"""The kinds of responses of a query with what they can contribute: cells of the grid as polytopes.

A response adds its truth values and the values of the forms whose means matter (its *moments*) to the rows of
a query. Cells with equal truth values and equal moments are one region. The moments of a region fill a
polytope; its corners and rays are the columns of a linear programme, so every law is a non-negative
combination of columns, exactly. The corner of an open region is a limit that no response reaches: ``on``
names the open sides that a column lies on, and ``refute`` never lets the weight of a region lie on one side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang import nodes as n
from constraintlang_compiler.analysis.cells import Cell
from constraintlang_compiler.analysis.forms import ONE, ZERO, Form
from constraintlang_compiler.analysis.grid import FALSE, TRUE, UNKNOWN, Axis, Grid
from constraintlang_compiler.analysis.limits import MAX_COLUMNS, TooLarge
from constraintlang_compiler.analysis.polytope import Corner, Side, corners
from constraintlang_compiler.analysis.rows import Excess, Mass, Part, TruthOf

CODE = {False: FALSE, True: TRUE, None: UNKNOWN}


@dataclass(frozen=True)
class Region:
    """Responses that the rows of a query cannot tell apart, but for their moments.

    ``box`` holds the cells of the variables that matter for moments or slabs, ``elsewhere`` a value of every
    other variable.
    """

    truths: Mapping[n.Formula, int]
    box: Mapping[str, Cell]
    corners: tuple[Corner, ...]
    elsewhere: Mapping[str, Fraction]


@dataclass(frozen=True)
class Column:
    """A corner (a response at the limit) or a ray (``mass`` 0) of a region in one kind of prompts."""

    group: tuple[int, int]
    mass: Fraction
    truths: Mapping[n.Formula, int]
    point: Mapping[str, Fraction]
    on: frozenset[Side]
    sides: frozenset[Side]

    def adds(self, part: Part) -> Fraction:
        """What one unit of the column adds to a sum."""
        if isinstance(part, Mass):
            return part.factor * self.mass
        if isinstance(part, TruthOf):
            return part.factor * self.mass if self.truths[part.formula] == CODE[part.truth] else ZERO
        if isinstance(part, Excess):
            if self.mass:
                return part.over(part.form.at(self.point))
            # A ray lies on one side of the threshold, and leads away from it on the upper one.
            return part.factor * max(part.form.at(self.point) - part.form.constant, ZERO)
        return part.form.at(self.point) + (self.mass - ONE) * part.form.constant


def regions_of(grid: Grid, moments: Sequence[Form]) -> list[Region]:
    """The regions of a grid that are not empty; ``moments`` are the forms whose means matter.

    Raises: TooLarge.
    """
    wanted = {name for form in moments for name in form.variables}
    slabs = [axis for axis in grid.axes if len(axis.form.coefficients) > 1]
    names = wanted | {name for axis in slabs for name in axis.form.variables}
    single = [axis for axis in grid.axes if len(axis.form.coefficients) == 1]
    boxes = [axis for axis in single if _name(axis) in names]
    others = [axis for axis in single if _name(axis) not in names]
    found: list[Region] = []
    size = 0
    for truths, cells in _distinct(grid, [*boxes, *slabs]):
        box = {_name(axis): cells[axis.form] for axis in boxes}
        reached = corners(box, [(axis.form, cells[axis.form]) for axis in slabs])
        if reached:
            elsewhere = {_name(axis): cells[axis.form].inside() for axis in others}
            found.append(Region(truths, box, tuple(reached), elsewhere))
            size += len(reached)
        if size > MAX_COLUMNS:
            raise TooLarge(f"more than {MAX_COLUMNS:,} columns are needed")
    return found


def columns_of(regions: Sequence[Region], moments: Sequence[Form], num_worlds: int) -> list[Column]:
    """The columns, world after world in the same order of regions.

    Raises: TooLarge.
    """
    wanted = {name for form in moments for name in form.variables}
    found = []
    for world in range(num_worlds):
        for number, region in enumerate(regions):
            # Without moments one response is like another.
            matters = bool(wanted & set(region.box))
            for corner in region.corners if matters else region.corners[:1]:
                sides = corner.sides if matters else frozenset()
                found.append(
                    Column(
                        (world, number), corner.mass, region.truths, corner.point, corner.on & sides, sides
                    )
                )
        if len(found) > MAX_COLUMNS:
            raise TooLarge(f"more than {MAX_COLUMNS:,} columns are needed")
    return found


def _name(axis: Axis) -> str:
    return axis.form.variables[0]


def _distinct(grid: Grid, kept: Sequence[Axis]) -> list[tuple[dict[n.Formula, int], dict[Form, Cell]]]:
    """The different combinations of truth values and of cells of the kept axes, with an example of each."""
    shape = grid.shape
    rows: list[NDArray[Any]] = [np.broadcast_to(grid.truth(formula), shape) for formula in grid.formulas]
    for axis in kept:
        place = grid.position[axis.form]
        index = np.arange(shape[place]).reshape([-1 if i == place else 1 for i in range(len(shape))])
        rows.append(np.broadcast_to(index, shape))
    possible = np.flatnonzero(np.broadcast_to(grid.possible(), shape).ravel())
    if not len(possible):
        return []
    table = np.stack([np.ravel(row)[possible] for row in rows] or [possible * 0], axis=1).astype(np.int64)
    distinct, first = np.unique(table, axis=0, return_index=True)
    places = np.unravel_index(possible[first], shape)
    found = []
    for number, row in enumerate(distinct):
        truths = dict(zip(grid.formulas, (int(code) for code in row), strict=False))
        cells = {axis.form: axis.cells[places[i][number]] for i, axis in enumerate(grid.axes)}
        found.append((truths, cells))
    return found
