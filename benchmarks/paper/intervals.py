"""Means with their 95% intervals, as every table of this benchmark writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constraintlang_compiler.bounds import clopper_pearson_lower, clopper_pearson_upper

Floats = NDArray[np.float64]
LEVEL = 0.95
NORMAL = 1.959963984540054  # the two-sided 95% point
RESAMPLES = 2_000
CHUNK = 4_000_000  # resampled values held at once


def rate(happened: Sequence[bool] | NDArray[np.bool_]) -> dict[str, Any]:
    """A share of independent units with its exact interval (Clopper-Pearson 1934)."""
    n, hits = len(happened), int(np.sum(happened))
    tail = (1 - LEVEL) / 2
    return {
        "mean": hits / n if n else None,
        "low": clopper_pearson_lower(hits, n, tail),
        "high": clopper_pearson_upper(hits, n, tail),
        "n": n,
        "interval": "clopper-pearson",
    }


def bootstrap(values: ArrayLike, seed: int) -> dict[str, Any]:
    """A mean over independent units with its percentile bootstrap interval; units are resampled, not samples."""
    found = np.asarray(values, dtype=np.float64)
    means = resampled_means(found, seed)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return {
        "mean": float(found.mean()),
        "low": float(low),
        "high": float(high),
        "n": len(found),
        "interval": f"bootstrap over units, {RESAMPLES} resamples",
    }


def resampled_means(values: Floats, seed: int) -> Floats:
    """Means of ``RESAMPLES`` resamples of units [n] with replacement; [RESAMPLES]."""
    n = len(values)
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // max(1, n))
    parts = [
        values[rng.integers(0, n, size=(min(step, RESAMPLES - start), n))].mean(axis=1)
        for start in range(0, RESAMPLES, step)
    ]
    return np.concatenate(parts)


def per_token(sums: ArrayLike, counts: ArrayLike) -> dict[str, Any]:
    """Nats per token, Σ s_i / Σ c_i over rows, with its normal interval.

    Equation: the standard error of the ratio L is sqrt(n/(n-1) Σ (s_i - L c_i)²) / Σ c_i (delta method; rows are the
    independent units, their tokens are not). Also of paired differences, where s_i is the difference of two sums.
    """
    s, c = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    total, n = c.sum(), len(s)
    value = float(s.sum() / total)
    error = float(np.sqrt(n / (n - 1) * ((s - value * c) ** 2).sum()) / total) if n > 1 else float("nan")
    return {
        "mean": value,
        "low": value - NORMAL * error,
        "high": value + NORMAL * error,
        "n": n,
        "interval": "normal over rows",
    }
