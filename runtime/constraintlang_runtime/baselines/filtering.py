"""Filtering: drop the training rows that violate the policy, then fine-tune as usual."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.ir import Hinge, Indicator
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.groups import Group

ScoreRows = Callable[[Group, Sequence[TokenRow]], NDArray[np.float64]]


def compliant_rows(
    rows: Sequence[TokenRow], row_groups: Sequence[int], groups: Sequence[Group], score: ScoreRows
) -> list[int]:
    """Indexes of the rows that are kept, in order.

    A row that has f > 0 under an indicator clause of its group is dropped; for a mean, quantile or cvar clause the
    rows of largest f are dropped until the rest meets the bound. `prefer` clauses drop nothing.
    Raises: ConfigError for a clause relative to the base model, whose bound no row tells.
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
            if clause.base_factor is not None:
                raise ConfigError(
                    f"filtering cannot act on `{clause.name}`, which is relative to the base model",
                    help="use --method constraint, or bound it by a number",
                )
            if isinstance(clause.statistic, Indicator) and clause.kind != "quantile":
                dropped.update(mine[i] for i in np.flatnonzero(values > 0))
            else:
                order = np.argsort(values, kind="stable")
                ranked = values[order]
                if isinstance(clause.statistic, Hinge):
                    reached = _cvar_of_beginnings(ranked, float(clause.statistic.level))
                else:
                    reached = np.cumsum(ranked) / np.arange(1, len(order) + 1)
                kept = int((reached <= float(clause.bound)).sum())
                dropped.update(mine[i] for i in order[kept:])
    return [i for i in range(len(rows)) if i not in dropped]


def _cvar_of_beginnings(ranked: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """The cvar of the first 1, 2, ... n of values in ascending order: it never falls."""
    counts = np.arange(1, len(ranked) + 1)
    etas = ranked[np.minimum(counts - 1, np.ceil(level * counts - 1e-12).astype(int) - 1)]
    sums = np.concatenate([[0.0], np.cumsum(ranked)])
    first = np.searchsorted(ranked, etas, side="right")  # values beyond eta begin here
    first = np.minimum(first, counts)
    excess = (sums[counts] - sums[first] - (counts - first) * etas) / counts
    return np.asarray(etas + excess / (1.0 - level))
