"""Win rates of systems against each other, from who won on each prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from intervals import bootstrap
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WIN, TIE, LOSS = 1.0, 0.5, 0.0


def by_margin(own: Floats, other: Floats, margin: float) -> Floats:
    """1 where ``own`` is higher by more than the margin, 0 where ``other`` is, else 1/2; equal infinities tie."""
    with np.errstate(invalid="ignore"):
        gap = own - other
    gap[own == other] = 0.0  # also of equal infinities
    return np.where(gap > margin, WIN, np.where(gap < -margin, LOSS, TIE))


def of_both_orders(shown_first: float, shown_second: float) -> float:
    """One outcome from a judge that was asked twice, the system's text first and then second.

    Arguments are 1 where the system's text was preferred, 1/2 for a tie, 0 for the other, NaN for no answer. A judge
    that prefers a place, and not a text, has said nothing: a tie. So has one that prefers once and ties once.
    """
    if math.isnan(shown_first) or math.isnan(shown_second):
        return math.nan
    return shown_first if shown_first == shown_second else TIE


def win_rates(
    systems: Sequence[str], outcomes: Mapping[tuple[str, str], Floats], seed: int
) -> dict[str, Any]:
    """The full matrix and each system's rate against all others.

    ``outcomes[a, b]`` [prompts] is in [0, 1] for a against b (NaN: not judged), one order of each pair. Equation: the
    rate is (wins + ties/2) / judged prompts; intervals are bootstraps over prompts. ``all`` weighs every opponent alike.
    """
    both: dict[tuple[str, str], Floats] = {}
    for (own, other), found in outcomes.items():
        both[own, other], both[other, own] = found, 1.0 - found
    matrix: dict[str, dict[str, Any]] = {system: {} for system in systems}
    every: dict[str, Any] = {}
    for own in systems:
        against = []
        for other in systems:
            if (own, other) not in both:
                continue
            found = both[own, other]
            against.append(found)
            known = found[~np.isnan(found)]
            matrix[own][other] = {
                **(
                    bootstrap(known, seed)
                    if len(known)
                    else {"mean": None, "low": None, "high": None, "n": 0}
                ),
                "wins": int((known > TIE).sum()),
                "ties": int((known == TIE).sum()),
                "losses": int((known < TIE).sum()),
                "unjudged": len(found) - len(known),
            }
        if against:
            table = np.stack(against)
            judged = ~np.isnan(table)
            counts = judged.sum(axis=0)
            mean = np.where(judged, table, 0.0).sum(axis=0)[counts > 0] / counts[counts > 0]
            every[own] = (
                bootstrap(mean, seed) if len(mean) else {"mean": None, "low": None, "high": None, "n": 0}
            )
    return {"systems": list(systems), "matrix": matrix, "all": every}


def over_seeds(outcomes: Sequence[Floats]) -> Floats:
    """The mean outcome of each prompt over seeds [seeds, prompts]; NaN where no seed was judged."""
    table = np.stack(list(outcomes))
    judged = ~np.isnan(table)
    counts = judged.sum(axis=0)
    return np.where(counts > 0, np.where(judged, table, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)
