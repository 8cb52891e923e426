"""What the groups of a clause measured, put together by their share of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.groups import Group

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pooled:
    """Values of a statistic over the scope of its clause [n], with weights [n] that sum to 1.

    Groups draw as many samples whatever their share of the prompts, so each sample weighs its group's share of the
    scope over the group's number of samples: the weighted mean estimates E[f | D] under the law of the prompts.
    ``prompts`` [n] are the numbers of the samples' prompts; without them every sample has its own.
    """

    values: Floats
    weights: Floats
    prompts: Ints | None = None

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

    @property
    def num_prompts(self) -> int:
        """How many prompts the samples are of: the units of evidence, as in ``verification``."""
        return len(self.values) if self.prompts is None else len(np.unique(self.prompts))

    @property
    def standard_error(self) -> float:
        """The standard error of the mean, the samples of a prompt taken as one unit.

        Equation: sqrt(Σ_prompts (Σ_i w_i (f_i - mean))²), with one sample of each prompt sqrt(Σ w² (f - mean)²); of a
        single prompt the spread of its samples.
        """
        if self.num_prompts == 1:
            return float(self.variance**0.5)
        parts = self.weights * (self.values - self.mean)
        if self.prompts is None:
            return float((parts**2).sum() ** 0.5)
        sums = np.bincount(np.unique(self.prompts, return_inverse=True)[1], weights=parts)
        return float((sums**2).sum() ** 0.5)


def shares(groups: Sequence[Group]) -> Floats:
    """The share of each group among the prompts of all groups [G]."""
    sizes = np.array([max(1, len(group.prompts)) for group in groups], dtype=np.float64)
    return sizes / sizes.sum()


def pool(
    groups: Sequence[Group], statistics: Sequence[Floats], rows: Sequence[Sequence[TokenRow]] = ()
) -> dict[int, Pooled]:
    """For every clause, by its number in the policy, what its groups measured.

    Shapes: ``statistics`` [n, K] of each group, columns as ``group.indexes``, of its ``rows`` [n]: without them each
    sample counts as one of a prompt of its own. Groups without samples add nothing.
    """
    parts: dict[int, list[tuple[float, Floats, Ints]]] = {}
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    for number, (group, share, found) in enumerate(zip(groups, shares(groups), statistics, strict=True)):
        own = [row.prompt for row in rows[number]] if rows else []
        if len(own) != len(found):
            own = [(-1, sample) for sample in range(len(found))]
        prompts = np.array([known.setdefault((number, prompt), len(known)) for prompt in own], dtype=np.int64)
        for column, index in enumerate(group.indexes):
            if len(found):
                parts.setdefault(index, []).append((float(share), found[:, column], prompts))
    return {
        index: Pooled(
            np.concatenate([values for _, values, _ in some]),
            np.concatenate([np.full(len(v), share / len(v)) for share, v, _ in some])
            / sum(share for share, _, _ in some),
            np.concatenate([prompts for _, _, prompts in some]),
        )
        for index, some in parts.items()
    }
