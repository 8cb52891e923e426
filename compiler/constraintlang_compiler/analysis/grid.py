"""All kinds of responses that the formulas of a query can tell apart: the product of the cells of its axes.

An axis is a variable or a linear form of several, cut where a formula compares it, or an opaque part with its
three truth values. Combinations that no response can have are masked out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from constraintlang import nodes as n
from constraintlang_compiler.analysis.atoms import (
    Atom,
    Opaque,
    Threshold,
    atom_of,
    atoms_in,
    flag_atom,
    links_of,
)
from constraintlang_compiler.analysis.cells import CUTS, Cell, Cut, cells_of
from constraintlang_compiler.analysis.forms import ONE, Form, Variables
from constraintlang_compiler.analysis.limits import MAX_CELLS, TooLarge

FALSE, TRUE, UNKNOWN = 0, 1, 2
Codes = NDArray[np.int8]
_NOT = np.array([TRUE, FALSE, UNKNOWN], dtype=np.int8)
_RANK = np.array([0, 2, 1], dtype=np.int8)  # false < unknown < true; its own inverse


@dataclass(frozen=True)
class Axis:
    """A linear form with its cells; ``form`` has one variable, or several (then it is no axis of a box)."""

    form: Form
    cells: tuple[Cell, ...]


class Grid:
    """The product of the axes of some formulas.

    ``forms`` are forms whose variables must be axes, too; ``kinks`` are values of forms at which cells must end.
    """

    def __init__(
        self,
        formulas: Sequence[n.Formula],
        forms: Iterable[Form],
        variables: Variables,
        kinks: Iterable[tuple[Form, Fraction]] = (),
    ) -> None:
        self.variables = variables
        self.formulas = tuple(formulas)
        cuts: dict[Form, set[Cut]] = {}
        opaque: dict[str, None] = {}
        for formula in formulas:
            for atom in atoms_in(formula, variables):
                if isinstance(atom, Opaque):
                    opaque[atom.text] = None
                elif isinstance(atom, Threshold):
                    places = cuts.setdefault(atom.direction, set())
                    places.update((atom.value, side) for side in CUTS[atom.operator])
        for form, value in kinks:
            direction, scale = form.direction()
            cuts.setdefault(direction, set()).add(((value - form.constant) / scale, 0))
        for form in [*cuts, *forms]:
            for name in form.variables:
                cuts.setdefault(_single(name), set())
        single = sorted((f for f in cuts if len(f.coefficients) == 1), key=Form.text)
        several = sorted((f for f in cuts if len(f.coefficients) > 1), key=Form.text)
        self.axes = tuple(Axis(form, self._cells(form, cuts[form])) for form in [*single, *several])
        self.opaque = tuple(opaque)
        self.shape = (*(len(axis.cells) for axis in self.axes), *[3] * len(self.opaque)) or (1,)
        if prod(self.shape) > MAX_CELLS:
            raise TooLarge(f"{prod(self.shape):,} kinds of responses have to be told apart")
        self.position = {axis.form: place for place, axis in enumerate(self.axes)}

    def _cells(self, form: Form, cuts: set[Cut]) -> tuple[Cell, ...]:
        interval = self.variables.interval(form)
        whole = all(
            self.variables.found[name].whole and value.denominator == 1 for name, value in form.coefficients
        )
        return tuple(cells_of(interval.low, interval.high, cuts, whole=whole))

    # ------------------------------------------------------------ truth
    def truth(self, formula: n.Formula) -> Codes:
        """The truth value of a formula in every cell, broadcastable to ``shape``; strong Kleene."""
        if isinstance(formula, n.Truth):
            return self._constant(formula.value)
        if isinstance(formula, n.Flag):
            return self._atom(flag_atom(formula, self.variables))
        if isinstance(formula, n.Compare | n.InRange):
            return _junction(
                [self._atom(atom_of(link, self.variables)) for link in links_of(formula)], np.minimum
            )
        if isinstance(formula, n.Not):
            return _NOT[self.truth(formula.operand)]
        if isinstance(formula, n.And | n.Or):
            parts = []
            for operand in formula.operands:
                parts.append(self.truth(operand))
            return _junction(parts, np.minimum if isinstance(formula, n.And) else np.maximum)
        if isinstance(formula, n.Implies):
            return _junction([_NOT[self.truth(formula.left)], self.truth(formula.right)], np.maximum)
        (atom,) = atoms_in(formula, self.variables)
        return self._atom(atom)

    def _atom(self, atom: Atom) -> Codes:
        if isinstance(atom, bool):
            return self._constant(atom)
        if isinstance(atom, Opaque):
            place = len(self.axes) + self.opaque.index(atom.text)
            codes = np.array([FALSE, TRUE, UNKNOWN], dtype=np.int8)
            return self._along(place, _NOT[codes] if atom.negated else codes)
        place = self.position[atom.direction]
        values = [cell.satisfies(atom.operator, atom.value) for cell in self.axes[place].cells]
        return self._along(place, np.array(values, dtype=np.int8))

    def _constant(self, value: bool) -> Codes:
        return np.full((1,) * len(self.shape), TRUE if value else FALSE, dtype=np.int8)

    def _along(self, place: int, values: NDArray[np.int8]) -> Codes:
        return values.reshape([-1 if i == place else 1 for i in range(len(self.shape))])

    # ------------------------------------------------------------ which combinations exist
    def possible(self) -> NDArray[np.bool_]:
        """False where a form of several variables cannot lie in its cell when its variables lie in theirs."""
        mask = np.ones((1,) * len(self.shape), dtype=np.bool_)
        for place, axis in enumerate(self.axes):
            if len(axis.form.coefficients) == 1:
                continue
            places = [self.position[_single(name)] for name in axis.form.variables]
            shape = [size if i in (*places, place) else 1 for i, size in enumerate(self.shape)]
            own = np.zeros(shape, dtype=np.bool_)
            for combination in product(*(range(self.shape[i]) for i in places)):
                reached = _range_of(
                    axis.form, [self.axes[i].cells[j] for i, j in zip(places, combination, strict=True)]
                )
                for k, cell in enumerate(axis.cells):
                    index = [0] * len(self.shape)
                    for i, j in zip((*places, place), (*combination, k), strict=True):
                        index[i] = j
                    own[tuple(index)] = reached.overlaps(cell)
            mask = mask & own
        return mask


def _single(name: str) -> Form:
    return Form(((name, ONE),))


def _junction(parts: Sequence[Codes], join: np.ufunc) -> Codes:
    ranked = _RANK[parts[0]]
    for part in parts[1:]:
        ranked = join(ranked, _RANK[part])
    return _RANK[ranked]


def _range_of(form: Form, cells: Sequence[Cell]) -> Cell:
    """The values of a form over a box of cells, its ends open where they are not reached."""
    low = high = form.constant
    low_none = high_none = low_open = high_open = False
    for (_, value), cell in zip(form.coefficients, cells, strict=True):
        ends = ((cell.low, cell.low_open), (cell.high, cell.high_open))
        (bottom, bottom_open), (top, top_open) = ends if value > 0 else reversed(ends)
        low_none, high_none = low_none or bottom is None, high_none or top is None
        low_open, high_open = low_open or bottom_open, high_open or top_open
        low += value * (bottom or 0)
        high += value * (top or 0)
    return Cell(None if low_none else low, None if high_none else high, low_open, high_open)
