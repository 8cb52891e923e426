"""Where the bins of a value are cut: least variance within bins, on a sample and on its tilt to the bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAX_CELLS = 200  # distinct places of a cut that are looked at
MAX_DUAL = 12.0  # the strongest tilt, as for the duals of training


def value_cuts(values: Floats, bound: float, num_bins: int) -> list[float]:
    """At most ``num_bins - 1`` ascending cuts between distinct values; fewer when there are fewer values, at least one.

    What a bin blurs is the variance inside it, and the dual that reaches a bound is wrong by its share of the whole
    variance. A sample alone would put all cuts where it lies, but the law that meets the bound lies lower; so half of
    the weight is the sample's and half that of its closest tilt exp(-λ f) with a mean of at most ``bound``.
    Shapes: ``values`` [n], finite and not negative.
    """
    places, counts = np.unique(values, return_counts=True)
    if len(places) == 1:  # nothing to tell apart yet; later samples may lie on the other side
        return [0.5 * float(places[0]) or max(bound, 0.0) or 1.0]
    sample = counts / counts.sum()
    weights = 0.5 * (sample + _tilted(places, sample, bound))
    places, weights = _merged(places, weights)
    starts = _partition(places, weights, min(num_bins, len(places)))
    return [float(0.5 * (places[i - 1] + places[i])) for i in starts]


def _tilted(places: Floats, weights: Floats, bound: float) -> Floats:
    """The weights times exp(-λ f), with the smallest λ whose mean is at most ``bound``, or the strongest."""

    def law(dual: float) -> Floats:
        tilt = weights * np.exp(-dual * (places - places[0]))
        return np.asarray(tilt / tilt.sum(), dtype=np.float64)

    low, high = 0.0, MAX_DUAL
    if places @ weights <= bound:
        return weights
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if places @ law(middle) > bound else (low, middle)
    return law(high)


def _merged(places: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """At most ``MAX_CELLS`` places of about equal weight, each the mean of what it stands for."""
    if len(places) <= MAX_CELLS:
        return places, weights
    cell = np.minimum((np.cumsum(weights) * MAX_CELLS / weights.sum()).astype(np.int64), MAX_CELLS - 1)
    _, cell = np.unique(cell, return_inverse=True)
    mass = np.bincount(cell, weights=weights)
    return np.bincount(cell, weights=weights * places) / mass, np.asarray(mass, dtype=np.float64)


def _partition(places: Floats, weights: Floats, num_bins: int) -> list[int]:
    """Where each bin but the first starts, so that the weighted squared error within bins is least."""
    n = len(places)
    mass, first, second = (np.concatenate([[0.0], np.cumsum(weights * places**power)]) for power in (0, 1, 2))
    i, j = np.arange(n)[:, None], np.arange(1, n + 1)[None, :]
    inside = np.maximum(mass[j] - mass[i], 1e-300)
    error = np.where(j > i, second[j] - second[i] - (first[j] - first[i]) ** 2 / inside, np.inf)
    best = error[0]  # best[j - 1]: the first j places in the bins so far
    choices = []
    for _ in range(num_bins - 1):
        total = np.concatenate([[np.inf], best[:-1]])[:, None] + error
        choices.append(total.argmin(axis=0))
        best = total.min(axis=0)
    starts, end = [], n
    for choice in reversed(choices):
        end = int(choice[end - 1])
        starts.append(end)
    return starts[::-1]
