"""Which clause gives way: requirements before preferences, then by priority; the projection in that order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.ir import Clause
from constraintlang_runtime.projection import GroupLaw, Projection, project_groups

Floats = NDArray[np.float64]
HALVINGS = 40


def ranks_of(clauses: Sequence[Clause]) -> NDArray[np.int64]:
    """The rank of each clause [S], 0 first: a preference gives way first, then the highest priority number.

    The same order in which ``constraintc check --sat`` names the loser of a clash (PC302).
    """
    keys = [(clause.strength == "prefer", clause.priority) for clause in clauses]
    order = sorted(set(keys))
    return np.array([order.index(key) for key in keys], dtype=np.int64)


def solve_by_rank(
    groups: Sequence[GroupLaw], bounds: Floats, caps: Floats, ranks: NDArray[np.int64]
) -> tuple[Projection, Floats]:
    """The projection in which no clause is traded for one that ranks behind it; with the caps that this took.

    Ranks are solved one after the other, each under the bounds of all before. When adding a rank takes from those
    before a bound that they met, the caps of the rank's duals are lowered together until they meet it again: the most
    that can be asked for it. Where all bounds can be met at once, ranks change nothing.
    Shapes: as ``project_groups``; ``caps`` and ``ranks`` [S].
    """
    caps = caps.copy()
    solved = project_groups(groups, bounds, np.where(ranks == 0, caps, 0.0))
    for rank in range(1, int(ranks.max(initial=0)) + 1):
        met = (ranks < rank) & ~solved.saturated
        rest = np.where(ranks <= rank, caps, 0.0)
        after = project_groups(groups, bounds, rest)
        if (after.saturated & met).any():
            low, high = 0.0, 1.0
            for _ in range(HALVINGS):
                middle = 0.5 * (low + high)
                trial = project_groups(groups, bounds, np.where(ranks == rank, middle * rest, rest))
                low, high = (low, middle) if (trial.saturated & met).any() else (middle, high)
            caps = np.where(ranks == rank, low * caps, caps)
            after = project_groups(groups, bounds, np.where(ranks <= rank, caps, 0.0))
        solved = after
    return solved, caps
