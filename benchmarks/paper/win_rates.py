"""Win rates of systems against each other, from who won on each prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from intervals import bootstrap
from numpy.typing import NDArray
from summary import joined

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
    systems: Sequence[str], outcomes: Mapping[tuple[str, str], Sequence[Floats]], seed: int
) -> dict[str, Any]:
    """The full matrix and each system's rate against all others.

    ``outcomes[a, b]`` are of each seed [prompts], in [0, 1] for a against b (NaN: not judged), one order of each pair.
    Equation: the rate of a seed is (wins + ties/2) / judged prompts, with a bootstrap over prompts; those of the seeds
    are joined as all figures are (``summary.joined``). Counts are of all seeds. ``all`` is of the seeds that a system shares
    with every other, and weighs the opponents of a prompt alike.
    """
    both: dict[tuple[str, str], list[Floats]] = {}
    for (own, other), found in outcomes.items():
        both[own, other], both[other, own] = list(found), [1.0 - one for one in found]
    matrix: dict[str, dict[str, Any]] = {system: {} for system in systems}
    every: dict[str, Any] = {}
    for own in systems:
        against = [both[own, other] for other in systems if (own, other) in both]
        for other in systems:
            if (own, other) not in both:
                continue
            found = both[own, other]
            known = np.concatenate(found)
            matrix[own][other] = {
                **_joined(found, seed),
                "wins": int((known > TIE).sum()),
                "ties": int((known == TIE).sum()),
                "losses": int((known < TIE).sum()),
                "unjudged": int(np.isnan(known).sum()),
            }
        if against:
            shared = zip(*against, strict=False)  # as many seeds as the opponent with the fewest has
            every[own] = _joined([_mean(np.stack(of_seed)) for of_seed in shared], seed)
    return {"systems": list(systems), "matrix": matrix, "all": every}


def _joined(seeds: Sequence[Floats], seed: int) -> dict[str, Any]:
    """The rates of seeds [prompts] joined; ``n`` are the judged prompts of the seed that has most."""
    known = [one[~np.isnan(one)] for one in seeds]
    figures = [bootstrap(one, seed) for one in known if len(one)]
    found = joined(figures)
    if figures:  # a rate lies between 0 and 1
        found.update(low=max(0.0, found["low"]), high=min(1.0, found["high"]))
    return {**found, "n": max(map(len, known))}


def _mean(table: Floats) -> Floats:
    """The mean outcome of each prompt over opponents [opponents, prompts]; NaN where none was judged."""
    judged = ~np.isnan(table)
    counts = judged.sum(axis=0)
    return np.where(counts > 0, np.where(judged, table, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)
