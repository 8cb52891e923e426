"""The samples inside each joint bin of a target, and what a tilt exp(-λ·f) makes of them.

A bin of a value holds different values, so its mean alone does not say its potential. The samples do, for every λ, with
weights w_i that sum to 1 in each bin:

    g_m(λ) = log Σ_{i in m} w_i exp(-λ·f_i),    ∇g_m = -t_m(λ),  t_m the mean of f under the tilt inside the bin
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PATH_POINTS = 32  # of the quadrature from 0 to λ
MAX_WEIGHT = 10.0  # times the mean weight: one prompt that almost never complies must not stand for its bins


@dataclass(frozen=True)
class BinSamples:
    """Statistics ``f`` [n, S] of samples sorted by their bins, with their ``weights`` [n] (a scale per bin is free).

    ``filled`` are the bins that have samples, ``starts`` where each begins; ``values`` [M, S] stand for the others.
    ``places`` [n]: the row of the group's law that is of the sample's prompt, when known.
    """

    f: Floats
    weights: Floats
    filled: Ints
    starts: Ints
    values: Floats
    places: Ints | None = None

    @staticmethod
    def of(
        f: Floats, bins: Ints, values: Floats, hard: NDArray[np.bool_], places: Ints | None = None
    ) -> BinSamples:
        """From statistics [n, S] of soft clauses and bins [n]; samples in hard bins [M] are left out."""
        kept = np.flatnonzero(~hard[bins])
        kept = kept[np.argsort(bins[kept], kind="stable")]
        filled, starts = np.unique(bins[kept], return_index=True)
        where = None if places is None else places[kept]
        return BinSamples(f[kept], np.ones(len(kept)), filled, starts.astype(np.int64), values, where)

    def under(self, columns: list[int]) -> BinSamples:
        """Those statistics alone."""
        return replace(self, f=self.f[:, columns], values=self.values[:, columns])

    def spread(self, columns: list[int], count: int) -> BinSamples:
        """The same as columns of ``count`` statistics, the others 0."""
        f, values = np.zeros((len(self.f), count)), np.zeros((len(self.values), count))
        f[:, columns], values[:, columns] = self.f, self.values
        return replace(self, f=f, values=values)

    def weighted(self, log_weights: Floats) -> BinSamples:
        """Weights by the rows of the law, from their logarithms [P]; the same samples where the rows are not known."""
        if self.places is None or not len(self.places):
            return self
        logs = log_weights[self.places]
        weights = np.exp(logs - logs.max())
        return replace(self, weights=np.minimum(weights / weights.mean(), MAX_WEIGHT))

    def tilted(self, duals: Floats) -> tuple[Floats, Floats]:
        """g_m(λ) [M], in nats, and t_m(λ) [M, S]; an empty bin has -λ·v and v, its value."""
        log_means, means = -(self.values @ duals), self.values.copy()
        if len(self.filled):
            log_means[self.filled], shares = self._shares(duals)
            means[self.filled] = np.add.reduceat(shares[:, None] * self.f, self.starts)
        return log_means, means

    def second_moments(self, duals: Floats) -> Floats:
        """The mean of f_k f_l under the tilt inside each bin [M, S, S]."""
        found = self.values[:, :, None] * self.values[:, None, :]
        if len(self.filled):
            products = self.f[:, :, None] * self.f[:, None, :]
            shares = self._shares(duals)[1]
            found[self.filled] = np.add.reduceat(shares[:, None, None] * products, self.starts)
        return found

    def path_means(self, duals: Floats) -> Floats:
        """Values v [M, S] inside each bin's range with -λ·v_m = g_m(λ): the mean of t_m over the way from 0 to λ.

        Equation: v_m = ∫_0^1 t_m(rλ) dr, by Gauss and Legendre in u with r = u² (t changes most near 0). At λ = 0
        they are the (weighted) means.
        """
        points, lengths = np.polynomial.legendre.leggauss(PATH_POINTS)
        found = np.zeros_like(self.values)
        for u, length in zip(0.5 * (points + 1), 0.5 * lengths, strict=True):
            found += 2 * u * length * self.tilted(u**2 * duals)[1]
        return found

    def _shares(self, duals: Floats) -> tuple[Floats, Floats]:
        """g of the filled bins, and the share of each sample in its bin under the tilt [n]."""
        energy = self.f @ duals
        low = np.minimum.reduceat(energy, self.starts)
        sizes = np.diff(np.append(self.starts, len(energy)))
        tilted = self.weights * np.exp(np.repeat(low, sizes) - energy)
        total = np.add.reduceat(tilted, self.starts)
        log_means = np.log(total / np.add.reduceat(self.weights, self.starts)) - low
        return log_means, tilted / np.repeat(total, sizes)
