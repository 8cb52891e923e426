"""How often the betting bound certifies a mean, by simulation with a fixed seed: the same answer every time.

The values simulated are the most spread out that the mean allows: 0 and 1 only. No closed form is used, since
the second-order ones promise too much at the sample sizes that policies need.
"""

from __future__ import annotations

import math

import numpy as np

from constraintlang_compiler.bounds import best_log_capital, predictable_bets

NUM_SIMULATED = 400
MAX_SIMULATED = 20_000_000  # values of one simulation
_CHUNK = 2_000_000


def betting_power(mean: float, bound: float, n: int, alpha: float) -> float | None:
    """The share of samples of ``n`` values with this mean whose upper bound is within ``bound``.

    Units: values in [0, 1]. The standard error is at most 2.5 points. None when ``n`` is too large to simulate.
    """
    if n * NUM_SIMULATED > MAX_SIMULATED:
        return None
    generator = np.random.default_rng(0)
    rows = max(1, _CHUNK // n)
    certified = 0
    for start in range(0, NUM_SIMULATED, rows):
        clean = (generator.random((min(rows, NUM_SIMULATED - start), n)) >= mean).astype(np.float64)
        capital = best_log_capital(clean, predictable_bets(clean), 1.0 - bound)
        certified += int((capital >= math.log(1.0 / alpha)).sum())
    return certified / NUM_SIMULATED
