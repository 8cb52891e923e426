"""Bounds of a rate from a scorer on every response and people's labels on some: the scorer's own errors are paid for.

With f the scorer's indicator and h a person's, ``E[h] = E[f] + E[h - f]``: the first mean is known well, from every
prompt, and the second, the rectifier, is small where the scorer is good, so that few labels bound it well.

Source: Angelopoulos, Bates, Fannjiang, Jordan & Zrnic 2023, "Prediction-powered inference", Science 382
(arXiv 2301.09633). Theirs is asymptotic; here each part is bounded by betting (``bounds.py``), at any sample size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.bounds import Bounds, betting_lower, betting_upper

Floats = NDArray[np.float64]
SCORER_SHARE = 0.1  # of the error; the many scored prompts need little of it


def prediction_powered_bounds(scorer: Floats, differences: Floats, alpha: float) -> Bounds:
    """Bounds of the rate at which people would say violation, each one-sided at ``alpha``.

    Equation: ``upper = U(f; 0.1 alpha) + U(h - f; 0.9 alpha)``, and so below (union bound); U are betting bounds.
    Shapes: ``scorer`` [n], the scorer's rate over the responses of each prompt, nan where unknown (which counts
    against either bound); ``differences`` [m], h - f over the labelled responses of each of m prompts; both in an order
    that does not depend on them. The labelled responses must have been chosen without a look at the scores, at random;
    the two arrays may share prompts.
    """
    if not scorer.size or not differences.size:
        return Bounds(math.nan, 0.0, 1.0)
    known = np.isfinite(scorer)
    rectifier = (differences + 1.0) / 2.0
    first, second = SCORER_SHARE * alpha, (1.0 - SCORER_SHARE) * alpha
    lower = (
        betting_lower(np.nan_to_num(scorer, nan=0.0), first) + 2.0 * betting_lower(rectifier, second) - 1.0
    )
    upper = (
        betting_upper(np.nan_to_num(scorer, nan=1.0), first) + 2.0 * betting_upper(rectifier, second) - 1.0
    )
    estimate = float(scorer[known].mean() + differences.mean()) if known.any() else math.nan
    return Bounds(estimate, max(0.0, lower), min(1.0, upper))
