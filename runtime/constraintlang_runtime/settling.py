"""Clauses whose target depends on responses: thresholds relative to the base model, and the eta of a hinge.

Before the first step the model is the base model, so the first round's samples give the base's own statistics; the
eta of a hinge is chosen then, and again when the regularizer starts. From then on such a clause is an ordinary
bound on a mean, under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace as replaced
from fractions import Fraction

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from constraintlang_compiler.decimals import decimal_text
from constraintlang_compiler.hinges import at_eta
from constraintlang_compiler.ir import Clause, Hinge, Indicator, PolicyIR
from constraintlang_compiler.scopes import compared_clauses, sample_clauses
from constraintlang_runtime.errors import ConfigError, TrainingError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.pooling import Pooled, pool
from constraintlang_runtime.rounds import Measurement

Floats = NDArray[np.float64]
Score = Callable[[Sequence[Clause]], Floats]  # statistics [n, K] of the measured rows under clauses

NUM_ETAS = 64
DIGITS = 6  # of a bound or an eta that was measured


def settle(
    groups: Sequence[Group],
    sources: Sequence[Sequence[Clause]],
    found: Sequence[Measurement],
    scores: Sequence[Score],
    *,
    first: bool,
    starts: bool,
) -> list[Measurement]:
    """Give the open clauses their numbers, one for all groups of a clause; the measurements under them as they are now.

    ``sources`` are the groups' clauses as the policy has them, ``scores`` the statistics of what each group measured.
    ``first``: the rows are of the base model.
    Raises: TrainingError for a threshold relative to the base that no response can meet.
    """
    is_due = first or starts
    open_ = [[k for k, clause in enumerate(some) if is_due and is_open(clause)] for some in sources]
    raw = [
        score(some) if due else np.zeros((0, len(some)))
        for score, some, due in zip(scores, sources, open_, strict=True)
    ]
    pooled = pool(groups, raw)
    numbers: dict[int, Clause | None] = {}
    for group, some, due in zip(groups, sources, open_, strict=True):
        for k in due:
            numbers.setdefault(group.indexes[k], _number(some[k], pooled[group.indexes[k]], first=first))
    settled = []
    for group, some, due, one, score in zip(groups, sources, open_, found, scores, strict=True):
        if not due:
            settled.append(one)
            continue
        clauses = list(group.clauses)
        for k in due:
            clauses[k] = numbers[group.indexes[k]] or clauses[k]
        group.clauses = tuple(clauses)
        statistics = score(clauses)
        for k in due:
            if isinstance(some[k].statistic, Hinge):
                # What the corpus was scored with is the term, not its hinge.
                group.corpus_means[k] = statistics[:, k].mean()
        settled.append(replaced(one, statistics=statistics))
    return settled


def _number(source: Clause, pooled: Pooled, *, first: bool) -> Clause | None:
    """An open clause with its number; None for one relative to the base when the samples are of another model."""
    if isinstance(source.statistic, Hinge):
        level, bound = float(source.statistic.level), float(source.bound)
        eta = best_eta(pooled.values, level, bound, pooled.weights)
        return at_eta(source, Fraction(str(round(eta, DIGITS))))
    return against_base(source, pooled.mean) if first else None


def is_open(clause: Clause) -> bool:
    """Whether the clause's target depends on responses."""
    return isinstance(clause.statistic, Hinge) or clause.base_factor is not None


def against_base(clause: Clause, base_mean: float) -> Clause:
    """A clause relative to the base model with the number that the base's mean statistic gives it.

    Equation: ``bound + scale * factor * (offset + scale * base_mean)``, see ``ir.ClauseMeaning``.
    Raises: TrainingError when it is below 0, which no statistic is.
    """
    scale, factor = clause.shown.scale, float(clause.base_factor or 0)
    shown = float(clause.shown.offset) + scale * base_mean
    bound = float(clause.bound) + scale * factor * shown
    if bound < 0:
        raise TrainingError(
            f"clause `{clause.name}`: the base model reaches {shown:.4g}, so the clause asks for more than is possible",
            help="loosen the factor or the offset of `base`",
        )
    high = 1.0 if isinstance(clause.statistic, Indicator) else getattr(clause.statistic, "high", None)
    if high is not None:
        bound = min(bound, 0.999 * float(high))  # a bound that nothing breaks
    return replace(clause, bound=decimal_text(Fraction(str(round(bound, DIGITS)))), base_factor=None)


def best_eta(values: Floats, level: float, bound: float, weights: Floats | None = None) -> float:
    """The eta at which the hinge's bound costs least: the smallest KL from the sample law to the one that meets it.

    Equation: over candidates eta < bound, with h = (a - eta)+ and b = (1 - level)(bound - eta), the tilt
    w = exp(-lambda h) with E_w[h] = b has KL = -lambda b - log E[exp(-lambda h)]. When the sample law meets the bound
    already, its own quantile: the eta that loses nothing.
    Shapes: values [n], weights [n] that sum to 1, equal when not given. At the optimum eta is the quantile of the
    tilted law.
    """
    if weights is None:
        weights = np.full(len(values), 1.0 / len(values))
    order = np.argsort(values, kind="stable")
    reached = np.searchsorted(np.cumsum(weights[order]), level - 1e-9)
    quantile = float(values[order][min(len(values) - 1, int(reached))])
    excess = float(weights @ np.maximum(values - quantile, 0.0))
    if quantile + excess / (1.0 - level) <= bound and quantile < bound:
        return quantile
    candidates = np.unique(np.quantile(values, np.linspace(0.0, 1.0, NUM_ETAS)))
    candidates = candidates[candidates < bound]
    if candidates.size == 0:  # every response is beyond the bound: no tilt of this sample reaches it
        return float(bound - abs(bound) * 0.1 - 1e-3)
    costs = [
        _cost(np.maximum(values - eta, 0.0), (1.0 - level) * (bound - eta), weights) for eta in candidates
    ]
    return float(candidates[int(np.argmin(costs))])


def _cost(hinge: Floats, bound: float, law: Floats | None = None) -> float:
    """KL of the closest tilt of the sample with a mean hinge of at most ``bound``; infinite when none has."""
    law = np.full(len(hinge), 1.0 / len(hinge)) if law is None else law
    if law @ hinge <= bound:
        return 0.0
    if hinge.min() >= bound:
        return float("inf")

    def tilted(dual: float) -> float:
        weights = law * np.exp(-dual * (hinge - hinge.min()))
        return float(weights @ hinge / weights.sum())

    low, high = 0.0, 1.0 / max(float(hinge.max()), 1e-12)
    while tilted(high) > bound and high < 1e9:
        low, high = high, 2.0 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if tilted(middle) > bound else (low, middle)
    smallest = float(hinge.min())
    log_mean = float(np.log(law @ np.exp(-high * (hinge - smallest)))) - high * smallest
    return -high * bound - log_mean


def untrained_clauses(ir: PolicyIR) -> list[str]:
    """Names of the clauses that training does not act on.

    Raises: ConfigError when these are all that the policy asks of responses.
    """
    names = [clause.name for clause in compared_clauses(ir)]
    if names and not sample_clauses(ir):
        raise ConfigError(
            f"training acts on none of the policy's requirements ({', '.join(f'`{name}`' for name in names)})",
            help="add a statement with a number, such as a mean, a chance or a quantile; `constraintc check` says why",
        )
    return names
