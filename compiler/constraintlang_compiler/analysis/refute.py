"""Whether a homogeneous system over columns has no solution, proved in exact arithmetic.

The system: weights ``x >= 0`` of columns with ``A x <= 0`` row by row, strictly where a row says so, and on
every open side of a cell that carries mass some weight off that side. The solutions of the closed system form
a cone. A linear programme finds the largest set of weights and slacks that can be positive in it; a side
without weight off it empties its cell, and the next round starts without that cell. When the slack of a
strict row cannot be positive there is no solution. HiGHS proposes each step; the multipliers that prove it
are computed again over fractions and checked against every column.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.analysis.exact import integers, orthogonal
from constraintlang_compiler.analysis.limits import Budget
from constraintlang_compiler.analysis.regions import Column

Integers = NDArray[Any]  # [rows, columns], Python integers


def is_refuted(
    matrix: Sequence[Sequence[Fraction]], strict: Sequence[bool], columns: Sequence[Column], budget: Budget
) -> bool:
    """True when it is proved that the system has no solution; False when it has one, or nothing is proved.

    ``matrix`` [rows, columns]. Raises: TooLarge when the time is up.
    """
    if not columns:
        return any(strict)
    exact = np.array([integers(row) for row in matrix], dtype=object).reshape(len(matrix), len(columns))
    largest = [max((abs(value) for value in row), default=0) or 1 for row in exact]
    floats = np.array([[value / top for value in row] for row, top in zip(exact, largest, strict=True)])
    alive = np.ones(len(columns), dtype=np.bool_)
    while True:
        found = _positive(floats[:, alive], strict, budget)
        if found is None:
            return False
        positive, slack, multipliers = found
        impossible = [row for row, is_strict in enumerate(strict) if is_strict and not slack[row]]
        excluded = np.flatnonzero(alive)[~positive]
        if (impossible or len(excluded)) and not _proved(
            exact, largest, alive, multipliers, excluded, impossible, slack
        ):
            return False
        if impossible:
            return True
        alive[excluded] = False
        emptied = _emptied(columns, alive)
        if not emptied:
            return False
        for index, column in enumerate(columns):
            if alive[index] and column.group in emptied:
                alive[index] = False
        if not alive.any():
            return any(strict)


def _positive(
    matrix: NDArray[np.float64], strict: Sequence[bool], budget: Budget
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]] | None:
    """Which weights and strict slacks can be positive, and the multipliers that show why not the others.

    Equation: maximise ``sum y`` over ``A (y + z) + s = 0``, ``0 <= y <= 1``, ``z >= 0``, ``s`` likewise in
    two parts where the row is strict. The set of solutions is a cone, so each ``y`` is 0 or 1.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, hstack

    rows, size = matrix.shape
    main, identity = csr_array(matrix), eye_array(rows, format="csr")
    which = [row for row, is_strict in enumerate(strict) if is_strict]
    system = hstack([main, main, identity, identity[:, which]] if which else [main, main, identity])
    cost = np.concatenate([-np.ones(size), np.zeros(size + rows), -np.ones(len(which))])
    bounds = [(0.0, 1.0)] * size + [(0.0, None)] * (size + rows) + [(0.0, 1.0)] * len(which)
    result = linprog(
        cost,
        A_eq=system,
        b_eq=np.zeros(rows),
        bounds=bounds,
        method="highs",
        options={"time_limit": budget.left},
    )
    if result.status != 0:
        return None
    slack = np.ones(rows, dtype=np.bool_)
    slack[which] = result.x[2 * size + rows :] > 0.5
    free = [row for row in range(rows) if row not in set(which)]
    slack[free] = result.x[2 * size : 2 * size + rows][free] > 1e-6
    return result.x[:size] > 0.5, slack, -np.asarray(result.eqlin.marginals)


def _proved(
    exact: Integers,
    largest: Sequence[int],
    alive: NDArray[np.bool_],
    multipliers: NDArray[np.float64],
    excluded: NDArray[np.intp],
    impossible: Sequence[int],
    slack: NDArray[np.bool_],
) -> bool:
    """Whether multipliers ``p >= 0`` with ``p A >= 0`` on every column exist, above 0 on what is excluded.

    Then a solution has weight 0 there: ``p A x + p s = 0`` is a sum of numbers that are not negative.
    """
    near = [
        Fraction(float(value)).limit_denominator(10**9) / top
        for value, top in zip(multipliers, largest, strict=True)
    ]
    kept = np.setdiff1d(np.flatnonzero(alive), excluded)
    unit = np.eye(len(near), dtype=np.int64)
    # A multiplier is 0 on every row whose slack can be positive, and orthogonal to every column that can.
    vectors = [[Fraction(int(value)) for value in unit[row]] for row in np.flatnonzero(slack)]
    vectors += [
        [Fraction(value) for value in exact[:, index]] for index in _independent(exact, largest, kept)
    ]
    multiplier = np.array(integers(orthogonal(vectors, near)), dtype=object)
    products = multiplier @ exact[:, alive]
    on_excluded = multiplier @ exact[:, excluded]
    return (
        bool((multiplier >= 0).all())
        and bool((products >= 0).all())
        and bool((on_excluded > 0).all())
        and all(multiplier[row] > 0 for row in impossible)
    )


def _independent(exact: Integers, largest: Sequence[int], kept: NDArray[np.intp]) -> list[int]:
    """Columns that span, as far as floating point can tell, all of those kept."""
    from scipy.linalg import qr

    if not len(kept):
        return []
    floats = np.array(
        [[value / top for value in row] for row, top in zip(exact[:, kept], largest, strict=True)]
    )
    _, triangle, order = qr(floats, mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(triangle))
    rank = int((diagonal > 1e-9 * max(diagonal[0], 1e-300)).sum()) if len(diagonal) else 0
    return [int(kept[index]) for index in order[:rank]]


def _emptied(columns: Sequence[Column], alive: NDArray[np.bool_]) -> set[tuple[int, int]]:
    """Regions in which nothing can lie: all weight on one open side, or rays without mass."""
    members: dict[tuple[int, int], list[Column]] = {}
    for index in map(int, np.flatnonzero(alive)):
        members.setdefault(columns[index].group, []).append(columns[index])
    return {
        group
        for group, found in members.items()
        if not any(column.mass for column in found)
        or any(all(side in column.on for column in found) for side in found[0].sides)
    }
