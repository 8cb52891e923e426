"""Duals of laws that are lists of scored sequences: the tilt by which samples, or the rows of a corpus, meet a bound."""

from __future__ import annotations

import numpy as np
from job import Job
from numpy.typing import NDArray

from constraintlang_compiler.set_points import set_point
from constraintlang_runtime.projection import Projection, project

Floats = NDArray[np.float64]
VERIFIED = 896  # prompts of the verification that the set-point is for, as in our own rows


def aim(job: Job) -> float:
    """The rate that a row drives to: its option ``aim``, a number, `bound`, or `set_point` (that of our own rows)."""
    chosen = job.options.get("aim", "set_point")
    if chosen == "bound":
        return job.scale.bound
    if chosen == "set_point":
        return set_point(job.scale.bound, VERIFIED)
    return float(chosen)


def projected(violations: Floats, bound: float) -> tuple[Projection, Floats]:
    """The law nearest to the uniform one over sequences whose mean statistic is at most the bound; weights of mean 1.

    Equation: w_i ∝ exp(-λ f_i), λ >= 0 the smallest dual with Σ w_i f_i / Σ w_i <= b.
    Shapes: ``violations`` f [n]; returns the projection (its λ and mean) and w [n].
    """
    values, place, counts = np.unique(violations, return_inverse=True, return_counts=True)
    found = project(
        (counts / counts.sum())[None, :], values[:, None], np.array([bound]), np.zeros(len(values), bool)
    )
    weights = np.exp(-found.duals[0] * values)[place]
    return found, weights / weights.mean()


def sequence_dual(violations: Floats, bound: float) -> float:
    """λ of ``projected``."""
    return float(projected(violations, bound)[0].duals[0])


def spread_copies(weights: Floats, violations: Floats, count: int, seed: int) -> list[int]:
    """``count`` indexes, each row ⌊m⌋ or ⌈m⌉ times where m is its share of the weights times ``count``; shuffled.

    Systematic resampling over the rows in the order of their violations, so that the mean statistic of what comes
    back differs from the weighted mean by less than one row.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(weights)), violations))
    ends = np.cumsum(weights[order]) * (count / weights.sum())
    places = np.searchsorted(ends, np.arange(count) + rng.random(), side="right")
    chosen = order[np.minimum(places, len(order) - 1)]
    rng.shuffle(chosen)
    return [int(i) for i in chosen]
