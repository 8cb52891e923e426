"""What the auxiliary model predicts for one group of prompts: the joint bin of the statistics of its clauses.

Layout of the bins (docs/method.md): bin 0 is "a hard clause is violated" and exists only when the group
has hard clauses; then comes the product of the axes of the soft clauses, row-major (the last axis runs
fastest). Clauses with the same statistic share an axis. An indicator has the bins {0} and {1}; a value in
``[0, high]`` has geometric edges ``0, high/64, high/32, ..., high``: the tilt ``exp(-λ f)`` concentrates mass
near 0, and the error of a bin in the log of the value is at most ``(λ width)² / 8``. When the product would
exceed 64 bins, value axes are coarsened together, down to 4 bins each, before the target is refused: a
product of marginals would be wrong for opposed clauses.

Columns of every ``f`` are the clauses given to ``build_target``, all of them, in their order. Utility clauses
never enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.bin_samples import BinSamples
from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.cuts import value_cuts
from constraintlang_compiler.errors import TargetError
from constraintlang_compiler.ir import Clause, Indicator, RowsLoss, Value

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_BINS = 64
LOG_FLOOR = 12.0  # Λ of method.md: potentials never fall below exp(-12)
VALUE_BINS = (7, 6, 5, 4)  # tried in this order


@dataclass(frozen=True)
class SoftBins:
    """The bins of one soft clause: bin j holds ``edges[j] <= f < edges[j + 1]``, the last one also its end.

    ``clause`` is the column of the statistic; ``axis`` is the axis of the joint bins, shared by equal
    statistics. The last edge may be infinite.
    """

    clause: int
    axis: int
    edges: tuple[float, ...]
    is_indicator: bool

    @property
    def num_bins(self) -> int:
        """How many bins the axis has."""
        return len(self.edges) - 1

    def midpoints(self) -> Floats:
        """One finite value for each bin [num_bins]: exact for indicators, else the middle."""
        if self.is_indicator:
            return np.array([0.0, 1.0])
        edges = np.array(self.edges)
        middles = np.where(np.isinf(edges[1:]), edges[:-1], 0.5 * (edges[:-1] + edges[1:]))
        return np.asarray(middles, dtype=np.float64)

    def bin_index(self, f: Floats) -> Ints:
        """The bin of each value: [n] -> int64 [n] in ``[0, num_bins)``."""
        return np.searchsorted(np.array(self.edges[1:-1]), f, side="right").astype(np.int64)


@dataclass(frozen=True)
class Target:
    """The joint bins of the clauses that apply to one group of prompts.

    ``clauses``, ``hard`` and the clauses of ``soft`` are columns of ``f``. S is ``len(soft)``, M is
    ``num_bins``.
    """

    clauses: tuple[int, ...]
    hard: tuple[int, ...]
    soft: tuple[SoftBins, ...]

    @property
    def axis_sizes(self) -> tuple[int, ...]:
        """The number of bins of each axis, in the order of the axes."""
        return tuple(bins.num_bins for bins in self._axes())

    @property
    def num_bins(self) -> int:
        """M: the hard bin, if any, and the product of the axes."""
        return (1 if self.hard else 0) + prod(self.axis_sizes)

    @property
    def hard_bins(self) -> NDArray[np.bool_]:
        """Which bins mean that a hard clause is violated: bool [M]."""
        mask = np.zeros(self.num_bins, dtype=np.bool_)
        mask[: 1 if self.hard else 0] = True
        return mask

    def bin_index(self, f: Floats) -> Ints:
        """The bin of each response.

        Shapes: ``f`` [n, K] -> int64 [n] in ``[0, num_bins)``.
        Raises: TargetError for an unknown or negative statistic, and for too few columns.
        """
        self._check(f)
        index = np.zeros(len(f), dtype=np.int64)
        for bins in self._axes():
            index = index * bins.num_bins + bins.bin_index(f[:, bins.clause])
        if self.hard:
            violated = (f[:, list(self.hard)] > 0).any(axis=1)
            index = np.where(violated, 0, index + 1)
        return index

    def bin_values(self, f: Floats, bins: Ints) -> Floats:
        """The mean of each soft statistic over the samples of each bin; the middle of the bin when it is
        empty.

        Shapes: ``f`` [n, K], ``bins`` [n] (from ``bin_index``) -> [M, S]. The row of the hard bin is 0: its
        potential does not depend on soft statistics.
        Raises: as ``bin_index``.
        """
        self._check(f)
        values = np.zeros((self.num_bins, len(self.soft)))
        first = 1 if self.hard else 0
        counts = np.bincount(bins, minlength=self.num_bins).astype(np.float64)
        place = np.indices(self.axis_sizes).reshape(len(self.axis_sizes), -1) if self.soft else None
        for column, soft in enumerate(self.soft):
            assert place is not None
            middles = soft.midpoints()[place[soft.axis]]
            if soft.is_indicator:
                values[first:, column] = middles
                continue
            sums = np.bincount(bins, weights=f[:, soft.clause], minlength=self.num_bins)
            means = sums[first:] / np.maximum(counts[first:], 1.0)
            values[first:, column] = np.where(counts[first:] > 0, means, middles)
        return values

    def samples(self, f: Floats, bins: Ints, values: Floats, places: Ints | None = None) -> BinSamples | None:
        """The samples inside each bin; None where all clauses are indicators, whose bins hold one value.

        Shapes: as ``bin_values``, with its ``values`` [M, S] for empty bins; ``places`` [n] as in ``BinSamples``.
        """
        if all(soft.is_indicator for soft in self.soft):
            return None
        columns = [soft.clause for soft in self.soft]
        return BinSamples.of(f[:, columns], bins, values, self.hard_bins, places)

    def tilted_values(self, values: Floats, samples: BinSamples | None, duals: Floats) -> Floats:
        """Bin values v [M, S] with -λ·v_m = log mean exp(-λ·f) over the samples of the bin, λ the ``duals`` [S].

        ``values`` as they are for indicators and where there are no samples.
        """
        if samples is None:
            return values
        exact = np.array([soft.is_indicator for soft in self.soft])
        return np.where(exact[None, :], values, samples.path_means(duals))

    def log_potential(self, duals: Floats, bin_values: Floats, floor: float = LOG_FLOOR) -> Floats:
        """The logarithm of the potential of each bin.

        Equation: log ψ_m = max(-Σ_k λ_k f_k(m), -floor); the hard bin has -floor.
        Shapes: ``duals`` λ [S], ``bin_values`` [M, S] -> [M] in [-floor, 0]. Units: nats.
        Raises: TargetError for a negative dual or for shapes that do not fit.
        """
        duals = np.asarray(duals, dtype=np.float64)
        if duals.shape != (len(self.soft),) or bin_values.shape != (self.num_bins, len(self.soft)):
            raise TargetError(
                f"got duals {duals.shape} and bin values {bin_values.shape}, "
                f"expected ({len(self.soft)},) and ({self.num_bins}, {len(self.soft)})"
            )
        if not (duals >= 0).all():
            raise TargetError(f"got duals {duals.tolist()}, expected numbers that are not negative")
        log_potential = np.maximum(-(bin_values @ duals), -floor)
        log_potential[self.hard_bins] = -floor
        return log_potential

    def _axes(self) -> list[SoftBins]:
        axes: dict[int, SoftBins] = {}
        for bins in self.soft:  # axes are numbered in the order of the clauses, so this is ascending
            axes.setdefault(bins.axis, bins)
        return list(axes.values())

    def _check(self, f: Floats) -> None:
        if f.ndim != 2 or (self.clauses and f.shape[1] <= max(self.clauses)):
            raise TargetError(
                f"got statistics of shape {f.shape}, expected [n, K] with a column for every clause"
            )
        used = f[:, list(self.clauses)]
        bad = ~(used >= 0)
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            raise TargetError(
                f"got the statistic {used[row, column]} for response {row}, clause {self.clauses[column]}, "
                "expected a known number that is not negative",
                help="leave out the responses whose scores are unknown before binning",
            )


def build_target(
    clauses: Sequence[Clause], indexes: Sequence[int], *, samples: Floats | None = None
) -> Target:
    """The target of a group of prompts to which the clauses at ``indexes`` apply.

    ``samples`` [n, K] are statistics of earlier responses, needed only for values whose range is open: their
    edges run up to the 99% quantile of the sample, and one more bin holds what is larger.
    Raises: TargetError for a utility clause, an index out of range, an open range without samples, or more
    than 64 joint bins (it names the clauses).
    """
    chosen = tuple(sorted(set(indexes)))
    for index in chosen:
        if not 0 <= index < len(clauses):
            raise TargetError(f"got clause index {index}, expected 0 to {len(clauses) - 1}")
        if isinstance(clauses[index].statistic, RowsLoss):
            raise TargetError(
                f"got the utility clause `{clauses[index].name}`, expected clauses about single responses",
                help="pass indexes from `scopes_of(ir, rows)`",
            )
    hard = tuple(index for index in chosen if clauses[index].hard)
    soft = tuple(index for index in chosen if not clauses[index].hard)
    num_bins = 0
    for value_bins in VALUE_BINS:
        bins = _soft_bins(clauses, soft, value_bins, samples)
        target = Target(clauses=chosen, hard=hard, soft=bins)
        num_bins = target.num_bins - (1 if hard else 0)
        if num_bins <= MAX_BINS:
            return target
    names = ", ".join(f"`{clauses[index].name}`" for index in soft)
    raise TargetError(
        f"the soft clauses {names} apply to the same prompts and need {num_bins} joint bins, "
        f"expected at most {MAX_BINS}",
        help="write `always` where no violation is acceptable (hard clauses share one bin), or give them "
        "different domains",
    )


def _soft_bins(
    clauses: Sequence[Clause], soft: tuple[int, ...], value_bins: int, samples: Floats | None
) -> tuple[SoftBins, ...]:
    axes: dict[bytes, int] = {}
    result = []
    for index in soft:
        statistic = clauses[index].statistic
        axis = axes.setdefault(sort_key(statistic), len(axes))
        if isinstance(statistic, Indicator):
            result.append(SoftBins(index, axis, (0.0, 1.0, float("inf")), is_indicator=True))
        elif isinstance(statistic, Value):
            edges = _edges(clauses[index], statistic, index, value_bins, samples)
            result.append(SoftBins(index, axis, edges, is_indicator=False))
    return tuple(result)


def _edges(
    clause: Clause, statistic: Value, index: int, value_bins: int, samples: Floats | None
) -> tuple[float, ...]:
    """``value_bins`` bins from 0: cut where samples lie, else geometric; the last is open when the range is."""
    end = float("inf") if statistic.high is None else float(statistic.high)
    if end == 0.0:
        return (0.0, float("inf"))
    if samples is None or samples.ndim != 2 or samples.shape[1] <= index:
        if statistic.high is not None:
            return (0.0, *(end / 2**power for power in range(value_bins - 1, -1, -1)))
        raise TargetError(
            f"the clause `{clause.name}` is a mean over an open range: its bins need samples",
            help="declare an upper end of the range, or pass `samples=` with statistics of some responses",
        )
    known = samples[:, index][np.isfinite(samples[:, index])]
    if known.size == 0:
        raise TargetError(f"got no known sample of `{clause.name}`, expected at least one")
    cuts = value_cuts(known, float(clause.bound), value_bins)
    if known.min() == known.max():  # a cut beside the only value may lie beyond the range
        cuts = [min(cut, 0.5 * end) for cut in cuts]
    return (0.0, *cuts, end)
