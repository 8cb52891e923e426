"""The area under the ROC curve with its bootstrap interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from intervals import LEVEL, RESAMPLES
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
CHUNK = 4_000_000  # resampled weights held at once


def roc_auc(scores: ArrayLike, positive: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Area under the ROC curve of scores [n], higher for positives, under each row of weights [..., n].

    Equation: AUC = Σ_i Σ_j w_i w_j (1[s_i > s_j] + 1/2 1[s_i = s_j]) / (Σ_i w_i Σ_j w_j), i over the positives, j over
    the negatives. Sorting once makes it O(n log n + n rows). NaN where a class has no weight.
    """
    found, labels = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    given = np.ones(len(found)) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    found, labels, given = found[order], labels[order], given[..., order]
    starts = np.flatnonzero(np.r_[True, found[1:] != found[:-1]])  # of runs of equal scores
    up = np.add.reduceat(given * labels, starts, axis=-1)
    down = np.add.reduceat(given * ~labels, starts, axis=-1)
    below = np.cumsum(down, axis=-1) - down
    pairs = up.sum(-1) * down.sum(-1)
    with np.errstate(invalid="ignore"):
        area: Floats = (up * (below + 0.5 * down)).sum(-1) / pairs
    return area


def roc(scores: ArrayLike, positive: ArrayLike, seed: int) -> dict[str, Any]:
    """``roc_auc`` with its percentile bootstrap interval over rows; None for all where a class is missing."""
    found, labels = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    n = len(found)
    facts = {"n": n, "positive": int(labels.sum()), "interval": f"bootstrap over rows, {RESAMPLES} resamples"}
    if labels.all() or not labels.any():
        return {"mean": None, "low": None, "high": None, **facts}
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // n)
    parts = [
        roc_auc(found, labels, rng.multinomial(n, np.full(n, 1 / n), size=min(step, RESAMPLES - start)))
        for start in range(0, RESAMPLES, step)
    ]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(np.concatenate(parts), [tail, 100 - tail])
    return {"mean": float(roc_auc(found, labels)), "low": float(low), "high": float(high), **facts}
