"""Small exact linear algebra over fractions: what a floating-point solver claims is proved here."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

ZERO = Fraction(0)


def solve(matrix: Sequence[Sequence[Fraction]], right: Sequence[Fraction]) -> list[Fraction] | None:
    """The one solution of a square system, or None when there is none or more than one.

    >>> solve([[Fraction(2), Fraction(1)], [Fraction(0), Fraction(4)]], [Fraction(3), Fraction(4)])
    [Fraction(1, 1), Fraction(1, 1)]
    """
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for column in range(size):
        pivot = next((i for i in range(column, size) if rows[i][column]), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = rows[column][column]
        rows[column] = [value / scale for value in rows[column]]
        for i in range(size):
            factor = rows[i][column]
            if i != column and factor:
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[column], strict=True)]
    return [row[-1] for row in rows]


def orthogonal(vectors: Sequence[Sequence[Fraction]], near: Sequence[Fraction]) -> list[Fraction]:
    """A vector whose product with each of the vectors is exactly 0, close to one that nearly has that.

    The coordinates that the vectors determine are computed from the others, which are taken as they are.
    """
    size = len(near)
    echelon: list[tuple[int, list[Fraction]]] = []  # pivot, vector reduced by all others
    for vector in vectors:
        row = list(vector)
        for pivot, other in echelon:
            if row[pivot]:
                factor = row[pivot]
                row = [a - factor * b for a, b in zip(row, other, strict=True)]
        # The largest entry as the pivot: the coordinate that is computed then errs least.
        place = max(range(size), key=lambda i: abs(row[i]), default=0)
        if not row or row[place] == 0:
            continue
        row = [value / row[place] for value in row]
        echelon = [
            (pivot, [a - other[place] * b for a, b in zip(other, row, strict=True)])
            for pivot, other in echelon
        ]
        echelon.append((place, row))
    result = list(near)
    pivots = {pivot for pivot, _ in echelon}
    for pivot, row in echelon:
        result[pivot] = -sum((row[i] * near[i] for i in range(size) if i not in pivots), ZERO)
    return result


def integers(values: Sequence[Fraction]) -> list[int]:
    """The values times a positive number that makes all of them whole."""
    scale = lcm(*(value.denominator for value in values)) if values else 1
    return [int(value * scale) for value in values]
