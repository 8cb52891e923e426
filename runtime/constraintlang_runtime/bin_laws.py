"""What a group's fitted law and samples say together: the law over the bins, and the law inside each of them.

One law inside a bin stands for all prompts. Under the tilt a prompt counts 1 / Z(x) times as much as in the samples, so
the samples of a bin are weighted by 1 / Z of their prompts; then each bin has its whole tilted mass and its whole mean:
Σ_x π_m(x) exp(g_m) / Z(x) = Σ_{i in m} exp(-λ·f_i) / Z(x_i).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.groups import Group
from constraintlang_runtime.projection import GroupLaw, Projection, project_groups

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SETTLING = 2  # times that Z and weights are made from one another; a third moves the duals by 0.1%


def places_of(rows: Sequence[TokenRow], count: int, law: Floats) -> Ints | None:
    """The row of the law [P, M] of each of ``count`` samples: it was fitted on those with a completion, in this order.

    -1 for a sample without one; None when the rows are not given or are not those of the law.
    """
    has = np.array([bool(row.completion) for row in rows], dtype=bool)
    if len(rows) != count or len(law) < has.sum():
        return None
    return np.where(has, np.cumsum(has) - 1, -1)


def law_of_group(group: Group, law: Floats, statistics: Floats, places: Ints | None) -> GroupLaw:
    """The law [P, M] of a group with its samples [n, K], under its own soft clauses; ``places`` [n] as above."""
    assert group.target is not None
    bins = group.target.bin_index(statistics)
    means = group.target.bin_values(statistics, bins)
    known = slice(None) if places is None else places >= 0
    samples = group.target.samples(
        statistics[known], bins[known], means, None if places is None else places[known]
    )
    applies = np.ones(len(group.target.soft), dtype=bool)
    return GroupLaw(law, means, group.target.hard_bins, applies, samples=samples)


def settled(parts: Sequence[GroupLaw], duals: Floats) -> list[GroupLaw]:
    """The samples of each bin weighted by 1 / Z(x) under the tilt with these duals."""
    found = []
    for part in parts:
        for _ in range(SETTLING if part.samples is not None else 0):
            assert part.samples is not None
            part = replace(part, samples=part.samples.weighted(-part.tilted(duals)[0]))
        found.append(part)
    return found


def settle(
    parts: Sequence[GroupLaw], points: Floats, caps: Floats, solved: Projection
) -> tuple[list[GroupLaw], Projection]:
    """The projection at which the weights inside the bins are those of its own tilt, from the one without weights."""
    found = list(parts)
    for _ in range(SETTLING):
        if all(part.samples is None or part.samples.places is None for part in found):
            break
        found = settled(found, solved.duals)
        solved = project_groups(found, points, caps, solved.duals)
    return found, solved


def set_bin_values(group: Group, part: GroupLaw) -> None:
    """Give the group the bin values whose potentials at its duals λ0 are exp(g_m(λ0)); ``part`` has its own clauses.

    A controller moves λ away from λ0 later and the values stay, so the potential is still 1 at λ = 0 and falls in every
    dual; that its slope inside a bin is the mean one from 0 to λ0, not the one at λ0, measuring makes up for.
    """
    assert group.target is not None
    (part,) = settled([part], group.duals)
    group.bin_values = group.target.tilted_values(part.values, part.samples, group.duals)
