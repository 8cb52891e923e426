"""Simulated verifications at the boundary: how often each method says `holds` although the truth is at its bound.

At the boundary a bound is wrong as often as it ever is. Every function returns the runs [runs] in which the method was
wrong. Where a method is simulated in arrays, a few runs are judged by the product's own function, too, and must agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.bounds import (
    best_log_capital,
    betting_upper,
    clopper_pearson_upper,
    predictable_bets,
    student_t_bounds,
)
from constraintlang_runtime.anytime import Capital, Side, anytime_upper
from constraintlang_runtime.bet_order import bet_keys, bet_order
from constraintlang_runtime.prediction_powered import prediction_powered_bounds
from constraintlang_runtime.sequential import next_batch
from constraintlang_runtime.tail_bounds import _etas, cvar_bounds, quantile_bounds

Floats = NDArray[np.float64]
Wrong = NDArray[np.bool_]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]
CHECKED = 25  # runs judged by the product's own function as well

# name -> (true mean, draws [runs, n]); values in [0, 1]
LAWS: dict[str, tuple[float, Draw]] = {
    "Bernoulli 1%": (0.01, lambda rng, size: (rng.random(size) < 0.01).astype(float)),
    "Bernoulli 5%": (0.05, lambda rng, size: (rng.random(size) < 0.05).astype(float)),
    "Bernoulli 30%": (0.3, lambda rng, size: (rng.random(size) < 0.3).astype(float)),
    "Beta(0.4, 3.6)": (0.1, lambda rng, size: rng.beta(0.4, 3.6, size)),
    "Beta(8, 2)": (0.8, lambda rng, size: rng.beta(8.0, 2.0, size)),
    "two points 0.05, 0.55": (0.1, lambda rng, size: np.where(rng.random(size) < 0.1, 0.55, 0.05)),
    "4 samples a prompt": (0.1, lambda rng, size: rng.binomial(4, rng.beta(0.5, 4.5, size)) / 4.0),
    "paired difference": (0.5, lambda rng, size: _paired(rng, size)),
    "paired indicators": (
        0.5,
        lambda rng, size: (2.0 + rng.binomial(1, 0.4, size) - rng.binomial(1, 0.4, size)) / 4,
    ),
}


def _paired(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Model minus start model on one prompt, both Beta about the prompt's own level, as (1 + difference) / 2."""
    level = rng.beta(2.0, 6.0, size)
    own, base = (np.clip(level + 0.1 * (rng.random(size) - 0.5), 0.0, 1.0) for _ in range(2))
    return (1.0 + own - base) / 2.0


# ------------------------------------------------------------ fixed numbers of prompts
def counts(rng: np.random.Generator, rate: float, n: int, runs: int, alpha: float) -> Wrong:
    """Clopper-Pearson on one response of each prompt."""
    failures = rng.binomial(n, rate, runs)
    wrong = {int(k): clopper_pearson_upper(int(k), n, alpha) <= rate for k in np.unique(failures)}
    return np.array([wrong[int(k)] for k in failures])


def joint_counts(
    rng: np.random.Generator, rate: float, n: int, clauses: int, runs: int, alpha: float
) -> Wrong:
    """Several clauses, or strata, all at their bound: whether any is called `holds`."""
    return np.logical_or.reduce([counts(rng, rate, n, runs, alpha / clauses) for _ in range(clauses)])


def means(rng: np.random.Generator, law: str, n: int, runs: int, alpha: float) -> Wrong:
    """The betting bound of a mean of values of known range."""
    mean, draw = LAWS[law]
    clean = 1.0 - draw(rng, (runs, n))
    wrong = _won(clean, mean, alpha)
    for k in range(min(CHECKED, runs)):
        assert (betting_upper(1.0 - clean[k], alpha) <= mean + 1e-9) == bool(wrong[k])
    return wrong


def sorted_means(rng: np.random.Generator, law: str, n: int, runs: int, alpha: float) -> Wrong:
    """The betting bound of rows that come sorted by value, in the order that the product gives them by their texts."""
    mean, draw = LAWS[law]
    values = np.sort(draw(rng, (runs, n)), axis=1)
    orders = [bet_order(bet_keys(f"row {i} of run {k}" for i in range(n))) for k in range(runs)]
    clean = 1.0 - np.take_along_axis(values, np.array(orders), axis=1)
    return _won(clean, mean, alpha)


def _won(clean: Floats, mean: float, alpha: float) -> Wrong:
    """Whether the bets on 1 - values [runs, n] won against the mean of values, and these are below it on average."""
    capital = best_log_capital(clean, predictable_bets(clean), 1.0 - mean)
    return (capital >= math.log(1.0 / alpha)) & (clean.mean(axis=1) >= 1.0 - mean)


def quantiles(rng: np.random.Generator, level: float, n: int, samples: int, runs: int, alpha: float) -> Wrong:
    """Order statistics (one sample of each prompt) or the bounds for several of a quantile of a uniform law."""
    found = np.empty(runs, dtype=bool)
    for k in range(runs):
        values = rng.random((n, 1)) if samples == 1 else np.repeat(rng.random((n, 1)), samples, axis=1)
        found[k] = quantile_bounds(values, level, alpha).upper < level
    return found


def cvars(rng: np.random.Generator, level: float, n: int, runs: int, alpha: float) -> Wrong:
    """Betting on hinges: the conditional value at risk of a uniform law is (1 + level) / 2."""
    truth = 0.5 * (1.0 + level)
    etas = _etas(0.0, 1.0, truth)
    values = rng.random((runs, n))
    wrong = np.zeros(runs, dtype=bool)
    for eta in etas[:-1]:
        m = (1.0 - level) * (truth - eta) / (1.0 - eta)
        if not 0.0 < m < 1.0:
            continue
        clean = 1.0 - np.maximum(values - eta, 0.0) / (1.0 - eta)
        wrong |= _won(clean, m, alpha / len(etas))
    for k in range(min(CHECKED, runs)):
        bounds = cvar_bounds(values[k][:, None], level, alpha, low=0.0, high=1.0, threshold=truth)
        assert (bounds.upper <= truth + 1e-9) == bool(wrong[k])
    return wrong


def student_t(rng: np.random.Generator, n: int, runs: int, alpha: float) -> Wrong:
    """Student-t on a skewed law of open range (exponential, mean 1): asymptotic, shown for comparison."""
    return np.array([student_t_bounds(rng.exponential(size=n), alpha).upper <= 1.0 for _ in range(runs)])


def predictions(rng: np.random.Generator, n: int, labelled: int, runs: int, alpha: float) -> Wrong:
    """Prediction-powered: people find 15%, the scorer misses a third of these and errs on 5% of the rest."""
    wrong = np.empty(runs, dtype=bool)
    for k in range(runs):
        people = rng.random(n) < 0.15
        scorer = np.where(people, rng.random(n) > 1 / 3, rng.random(n) < 0.05).astype(float)
        bounds = prediction_powered_bounds(scorer, people[:labelled] - scorer[:labelled], alpha)
        wrong[k] = bounds.upper <= 0.15
    return wrong


# ------------------------------------------------------------ looking after every prompt
def sequential(rng: np.random.Generator, law: str, n: int, side: Side, runs: int, alpha: float) -> Wrong:
    """Bets watched after every prompt, n of them: whether they ever win, `holds` from below, `violated` from above."""
    mean, draw = LAWS[law]
    values = draw(rng, (runs, n))
    capital = Capital(mean, side)
    capital.add(values)
    wrong = capital.rejects(alpha)
    if side == "below":
        for k in range(min(CHECKED, runs)):
            assert (anytime_upper(values[k], alpha, at=mean) < mean) == bool(wrong[k])
    return wrong


def peeking(rng: np.random.Generator, rate: float, n: int, runs: int, alpha: float) -> Wrong:
    """What goes wrong without: the fixed Clopper-Pearson bound looked at after every batch."""
    ends = batch_ends(n)
    seen = np.cumsum(rng.random((runs, n)) < rate, axis=1)[:, np.array(ends) - 1]
    limits = [
        max((k for k in range(end) if clopper_pearson_upper(k, end, alpha) <= rate), default=-1)
        for end in ends
    ]
    return (seen <= np.array(limits)).any(axis=1)


def samples_used(
    rng: np.random.Generator, truth: float, bound: float, limit: int, runs: int, alpha: float
) -> tuple[Floats, Wrong, Wrong]:
    """Prompts used [runs] until a rate is decided, at the looks of the product; and which were `holds`, `violated`."""
    used = np.full(runs, float(limit))
    held, violated = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    left = np.arange(runs)
    below, above = Capital(bound, "below"), Capital(bound, "above")
    seen = 0
    for end in batch_ends(limit):
        values = (rng.random((runs, end - seen)) < truth).astype(float)
        below.add(values)
        above.add(values)
        seen = end
        now_held, now_violated = below.rejects(alpha)[left], above.rejects(alpha)[left]
        held[left[now_held]], violated[left[now_violated]] = True, True
        done = now_held | now_violated
        used[left[done]] = end
        left = left[~done]
        if not len(left):
            break
    return used, held, violated


def batch_ends(limit: int) -> list[int]:
    """After how many prompts the product looks."""
    ends: list[int] = []
    while not ends or ends[-1] < limit:
        seen = ends[-1] if ends else 0
        ends.append(min(limit, seen + next_batch(seen)))
    return ends


def least_possible(truth: float, bound: float, alpha: float, power: float) -> float:
    """Fewest samples on average with which any test of level alpha has this power (Wald 1945, Ann. Math. Stat. 16).

    Equation: ``[power log(power/alpha) + (1-power) log((1-power)/(1-alpha))] / KL(truth, bound)``.
    """
    divergence = truth * math.log(truth / bound) + (1 - truth) * math.log((1 - truth) / (1 - bound))
    needed = power * math.log(power / alpha) + (1 - power) * math.log((1 - power) / (1 - alpha))
    return needed / divergence
