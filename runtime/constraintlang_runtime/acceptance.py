"""What rejection costs and what law it leaves: acceptance rate, KL to the model's law, with intervals; no torch.

For a prompt x, a proposal a(y|x) that is accepted when it obeys leaves g'(y|x) = a(y|x) 1[ok] / AR(x), AR(x) = a(ok|x).
With the model itself as the proposal, a = p, this is the exact filtered law g = p(.|x, ok), and KL(g‖p) = -log AR(x).
With a guided proposal g' is not g, and

    KL(g‖a) = KL(g‖g') - log AR(x):

what g' still lacks, and what filtering took. Source: docs/method.md, "At decoding time"; Kim et al. 2025
(arXiv 2410.06716).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.bounds import (
    Bounds,
    betting_lower,
    betting_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
    student_t_bounds,
)

ALPHA = 0.025  # each side: intervals of 95%


@dataclass(frozen=True)
class Acceptance:
    """Rejection over all prompts; every pair of bounds is an interval at 95%.

    ``replies`` were wanted, ``accepted`` obtained with ``draws``. ``rate``: E_x AR(x). ``cost``: E_x[-log AR(x)] in
    nats per prompt, which is KL(g‖p) when the proposal is the model, each prompt's cut where it runs out of draws: the
    lower end is one of the whole cost, the upper end is not, since a rare prompt that hardly ever obeys may not have
    been met. ``cost_is_floor``: some replies did run out of draws. ``gap``: E_x KL(g‖g') of a guided proposal over the
    prompts with at least two accepted replies, None when it cannot be told. The bounds of ``rate`` and ``cost`` are
    exact, those of ``gap`` asymptotic.
    """

    replies: int
    accepted: int
    draws: int
    rate: Bounds
    cost: Bounds
    cost_is_floor: bool
    is_guided: bool
    gap: Bounds | None = None

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data; bounds that are not finite become None."""
        return {
            name: _bounds_json(value) if isinstance(value, Bounds) else value
            for name, value in ((field.name, getattr(self, field.name)) for field in fields(self))
        }


def _bounds_json(bounds: Bounds) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in bounds._asdict().items()}


def acceptance(
    rejected: Sequence[int],
    accepted: Sequence[bool],
    max_draws: int,
    *,
    prompts: Sequence[int] | None = None,
    log_weights: Sequence[Sequence[float]] | None = None,
) -> Acceptance:
    """The account of rejection from the number of ``rejected`` draws of every wanted reply.

    Equation: the number N of draws until the first that obeys is geometric in AR, and E[Σ_{k<N} 1/k] = -log AR exactly,
    so the mean of these harmonic numbers is an unbiased estimate of E_x[-log AR(x)] without many draws for any prompt;
    cut at ``max_draws`` D its mean is Σ_{k<=D} (1-AR)^k / k, smaller by at most (1-AR)^(D+1) / ((D+1) AR). ``rate``
    is the share of first draws that obey: later draws are mostly of prompts where few do.
    ``prompts``: the number of each reply's prompt, where some have several; these enter as their mean, and the bounds
    of ``rate`` are then those of betting in place of the exact ones. Prompts are bet on by their numbers, which must
    not depend on what was drawn.
    ``log_weights``: for a guided proposal, log p(y) - log a(y) of the accepted replies, one list for each prompt.
    Raises: ValueError when there is no reply.
    """
    if not rejected:
        raise ValueError("got no reply, expected at least one")
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, max_draws + 1))])
    owners = np.unique(
        np.arange(len(rejected)) if prompts is None else np.asarray(prompts), return_inverse=True
    )[1]
    sizes = np.bincount(owners)
    top = float(harmonic[-1])
    costs = np.bincount(owners, weights=harmonic[np.asarray(rejected)]) / sizes
    rates = np.bincount(owners, weights=np.asarray(rejected) == 0) / sizes
    return Acceptance(
        replies=len(rejected),
        accepted=sum(accepted),
        draws=sum(rejected) + sum(accepted),
        rate=_rate(rates)
        if (sizes == 1).all()
        else Bounds(float(rates.mean()), betting_lower(rates, ALPHA), betting_upper(rates, ALPHA)),
        cost=Bounds(
            float(costs.mean()),
            top * betting_lower(costs / top, ALPHA),
            top * betting_upper(costs / top, ALPHA),
        ),
        cost_is_floor=not all(accepted),
        is_guided=log_weights is not None,
        gap=None if log_weights is None else filtered_gap(log_weights),
    )


def _rate(obeys: NDArray[np.float64]) -> Bounds:
    """Of one reply to each prompt."""
    first, n = int(obeys.sum()), len(obeys)
    return Bounds(first / n, clopper_pearson_lower(first, n, ALPHA), clopper_pearson_upper(first, n, ALPHA))


def filtered_gap(log_weights: Sequence[Sequence[float]]) -> Bounds | None:
    """E_x KL(g‖g') from log w = log p(y) - log a(y) of replies drawn from g'; None without a prompt that has two.

    Equation: g/g' = w / E_{g'}[w], hence KL(g‖g') = E_{g'}[w log w] / E_{g'}[w] - log E_{g'}[w], for each prompt by its
    sample means, freed of their first-order bias by the jackknife; then the mean over prompts and its Student-t
    interval (over the jackknife's pseudo-values when there is one prompt). Asymptotic in the replies for each prompt.
    """
    known = [np.asarray(values, dtype=np.float64) for values in log_weights if len(values) >= 2]
    if not known:
        return None
    pseudo = [_pseudo_values(values) for values in known]
    values = pseudo[0] if len(known) == 1 else np.array([own.mean() for own in pseudo])
    return student_t_bounds(values, ALPHA)


def _pseudo_values(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    n = len(log_weights)
    without = np.array([_plug_in(np.delete(log_weights, i)) for i in range(n)])
    return n * _plug_in(log_weights) - (n - 1) * without


def _plug_in(log_weights: NDArray[np.float64]) -> float:
    top = log_weights.max()
    weights = np.exp(log_weights - top)
    return float((weights * log_weights).sum() / weights.sum() - top - np.log(weights.mean()))
