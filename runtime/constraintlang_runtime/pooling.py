"""What the groups of a clause measured, put together by their share of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from constraintlang_runtime.groups import Group

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """Values of a statistic over the scope of its clause [n], with weights [n] that sum to 1.

    Groups draw as many samples whatever their share of the prompts, so each sample weighs its group's share of the
    scope over the group's number of samples: the weighted mean estimates E[f | D] under the law of the prompts.
    """

    values: Floats
    weights: Floats

    @property
    def mean(self) -> float:
        """The estimate of E[f | D]."""
        return float(self.weights @ self.values)

    @property
    def variance(self) -> float:
        """The variance of the statistic over the scope."""
        return float(self.weights @ (self.values - self.mean) ** 2)

    @property
    def count(self) -> float:
        """How many equally weighted samples would tell as much: 1 / Σ w²."""
        return float(1.0 / (self.weights**2).sum())


def shares(groups: Sequence[Group]) -> Floats:
    """The share of each group among the prompts of all groups [G]."""
    sizes = np.array([max(1, len(group.prompts)) for group in groups], dtype=np.float64)
    return sizes / sizes.sum()


def pool(groups: Sequence[Group], statistics: Sequence[Floats]) -> dict[int, Pooled]:
    """For every clause, by its number in the policy, what its groups measured.

    Shapes: ``statistics`` [n, K] of each group, columns as ``group.indexes``. Groups without samples add nothing.
    """
    parts: dict[int, list[tuple[float, Floats]]] = {}
    for group, share, found in zip(groups, shares(groups), statistics, strict=True):
        for column, index in enumerate(group.indexes):
            if len(found):
                parts.setdefault(index, []).append((float(share), found[:, column]))
    return {
        index: Pooled(
            np.concatenate([values for _, values in some]),
            np.concatenate([np.full(len(v), share / len(v)) for share, v in some])
            / sum(share for share, _ in some),
        )
        for index, some in parts.items()
    }
