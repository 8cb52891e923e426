"""Figures over seeds: every number of the measures of a row becomes a mean with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import t as student

LEVEL = 0.95
ENDS = ("mean", "low", "high")
SHARE = "clopper-pearson"  # the interval of a share, which lies between 0 and 1


def over_seeds(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same nesting as the measures of one seed, with ``{"mean", "low", "high"}`` where they have numbers.

    A figure that only some seeds have (multiple choice) is of those. Texts are kept where all seeds agree.
    """
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in measured for key in one):
        values = [one[key] for one in measured if one.get(key) is not None]
        if not values:
            continue
        if all(is_interval(value) for value in values):
            same = {
                name: value
                for name, value in values[0].items()
                if all(one.get(name) == value for one in values)
            }
            found[key] = {**same, **joined(values)}
        elif all(isinstance(value, Mapping) for value in values):
            found[key] = over_seeds(values)
        elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            found[key] = joined([{"mean": value} for value in values])
        elif all(value == values[0] for value in values):
            found[key] = values[0]
    return found


def is_interval(value: object) -> bool:
    """Whether a value is a figure with its interval."""
    return isinstance(value, Mapping) and all(end in value for end in ENDS)


def joined(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One figure of several seeds: the mean of their means, and an interval for both sources of chance.

    Equation: on each side, half-width² = (mean half-width of the seeds' own intervals)² + (t s / √n)², s the standard
    deviation of the n means, t of n-1 degrees of freedom. The seeds share their prompts, so that the first part does not
    shrink with n; s holds part of it too, which makes the interval too wide rather than too narrow. A single seed has
    its own interval, and that of a share ends at 0 and 1. low and high are None where nothing is known of the spread.
    """
    means = [float(figure["mean"]) for figure in figures if figure["mean"] is not None]
    if not means:
        return {"mean": None, "low": None, "high": None, "seeds": []}
    count = len(means)
    mean = sum(means) / count
    between = 0.0
    if count > 1:
        spread = math.sqrt(sum((value - mean) ** 2 for value in means) / (count - 1))
        between = float(student.ppf((1 + LEVEL) / 2, count - 1)) * spread / math.sqrt(count)
    found: dict[str, Any] = {"mean": mean}
    for end, sign in (("low", -1), ("high", 1)):
        own = [abs(figure["mean"] - figure[end]) for figure in figures if figure.get(end) is not None]
        if not own and count == 1:
            found[end] = None
            continue
        within = sum(own) / len(own) if own else 0.0
        found[end] = mean + sign * math.hypot(within, between)
        if all(figure.get("interval") == SHARE for figure in figures):
            found[end] = min(1.0, max(0.0, found[end]))
    return found | {"seeds": means}
