"""One quantity cut at the thresholds of a policy: inside a cell every comparison has one truth value.

Cells are exact: an end is open or closed as the comparisons say, and a whole quantity has the whole numbers
of its cell only. So no boundary case is blurred.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor

from constraintlang.semantics import compare
from constraintlang_compiler.analysis.forms import ONE, ZERO

Cut = tuple[Fraction, int]  # (t, 0) cuts just below t, (t, 1) just above
CUTS = {"<": (0,), ">=": (0,), "<=": (1,), ">": (1,), "==": (0, 1), "!=": (0, 1)}


@dataclass(frozen=True)
class Cell:
    """An interval that is not empty; None is an open end without limit. Whole cells are closed."""

    low: Fraction | None
    high: Fraction | None
    low_open: bool = False
    high_open: bool = False
    whole: bool = False

    def inside(self) -> Fraction:
        """Some value of the cell: the middle, or 1 beyond the only end."""
        if self.low is None:
            return ZERO if self.high is None else self.high - ONE
        if self.high is None:
            return self.low + ONE
        middle = (self.low + self.high) / 2
        return Fraction(floor(middle)) if self.whole else middle

    def satisfies(self, operator: str, threshold: Fraction) -> bool:
        """Whether the values compare so; they all do or all do not when the threshold is a cut."""
        return compare(self.inside(), operator, threshold) is True

    def contains(self, value: Fraction) -> bool:
        """Whether a value lies in the cell."""
        if self.whole and value.denominator != 1:
            return False
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            return False
        return self.high is None or not (value > self.high or (self.high_open and value == self.high))

    def overlaps(self, other: Cell) -> bool:
        """Whether some real number lies in both."""
        return _below(self, other) and _below(other, self)


def _below(first: Cell, second: Cell) -> bool:
    """Whether the low end of the first does not lie beyond the high end of the second."""
    if first.low is None or second.high is None:
        return True
    touching = first.low == second.high and not (first.low_open or second.high_open)
    return first.low < second.high or touching


def cells_of(low: Fraction | None, high: Fraction | None, cuts: Iterable[Cut], *, whole: bool) -> list[Cell]:
    """The cells between the cuts, within the closed range, in ascending order.

    >>> [(str(c.low), str(c.high)) for c in cells_of(ZERO, ONE, [(Fraction(1, 2), 0)], whole=False)]
    [('0', '1/2'), ('1/2', '1')]
    """
    edges: list[Cut | None] = [None, *sorted(set(cuts)), None]
    found = []
    for below, above in pairwise(edges):
        start, start_open = (None, False) if below is None else (below[0], below[1] == 1)
        end, end_open = (None, False) if above is None else (above[0], above[1] == 0)
        if low is not None and (start is None or start < low):
            start, start_open = low, False
        if high is not None and (end is None or end > high):
            end, end_open = high, False
        cell = _whole(start, end, start_open, end_open) if whole else Cell(start, end, start_open, end_open)
        if not _is_empty(cell):
            found.append(cell)
    return found


def _whole(low: Fraction | None, high: Fraction | None, low_open: bool, high_open: bool) -> Cell:
    if low is not None:
        low = Fraction(floor(low) + 1 if low_open else ceil(low))
    if high is not None:
        high = Fraction(ceil(high) - 1 if high_open else floor(high))
    return Cell(low, high, whole=True)


def _is_empty(cell: Cell) -> bool:
    if cell.low is None or cell.high is None:
        return False
    return cell.low > cell.high or (cell.low == cell.high and (cell.low_open or cell.high_open))
