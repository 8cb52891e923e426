"""Filtering: drop the training rows that violate the policy, then fine-tune as usual."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.ir import Indicator
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.groups import Group

ScoreRows = Callable[[Group, Sequence[TokenRow]], NDArray[np.float64]]


def compliant_rows(
    rows: Sequence[TokenRow], row_groups: Sequence[int], groups: Sequence[Group], score: ScoreRows
) -> list[int]:
    """Indexes of the rows that are kept, in order.

    A row that has f > 0 under an indicator clause of its group is dropped; for a mean clause the rows of largest f
    are dropped until the mean of the rest meets the bound. `prefer` clauses drop nothing.
    """
    dropped: set[int] = set()
    for number, group in enumerate(groups):
        mine = [i for i, g in enumerate(row_groups) if g == number]
        if not mine:
            continue
        statistics = score(group, [rows[i] for i in mine])
        for column, clause in enumerate(group.clauses):
            if clause.strength == "prefer":
                continue
            values = statistics[:, column]
            if isinstance(clause.statistic, Indicator):
                dropped.update(mine[i] for i in np.flatnonzero(values > 0))
            else:
                order = np.argsort(values, kind="stable")
                means = np.cumsum(values[order]) / np.arange(1, len(order) + 1)
                kept = int((means <= float(clause.bound)).sum())
                dropped.update(mine[i] for i in order[kept:])
    return [i for i in range(len(rows)) if i not in dropped]
