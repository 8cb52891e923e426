"""Controllers that drive a clause's measured rate to its set-point by moving its dual (or log-weight).

State is one small record per clause; the update is a pure function. Source: docs/method.md, "Control".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from constraintlang_runtime.projection import (
    LOG_FLOOR,
    GroupLaw,
    Projection,
    project_groups,
    tilted_covariance,
)
from constraintlang_runtime.regularizer_settings import RegularizerConfig

Floats = NDArray[np.float64]

MAX_WEIGHT_DOUBLINGS = 4
MAX_EXPONENT_FACTOR = 4.0
CLEAR = 5.0  # beside twice what the set-point lets expect; of 256 samples at a set-point of 1% it takes 11


def logit(rate: float) -> float:
    """log(p / (1-p))."""
    return math.log(rate) - math.log1p(-rate)


@dataclass(frozen=True)
class ControllerState:
    """What the controller of one clause remembers.

    ``value`` is λ (frozen anchor) or log ρ (moving anchor), kept at most at ``max_value``; ``weight`` is ρ; ``window``
    holds the last rounds' (sum of f, number of samples) pairs since the value last moved; ``start`` is the first value.
    ``unit`` is the logits of the rate that one unit of λ moves (``sensitivity`` at the start), ``cap`` the largest λ:
    below Λ it is the price of a `prefer`.
    """

    value: float
    weight: float
    set_point: float
    gain: float = 0.2
    max_value: float = LOG_FLOOR
    window: tuple[tuple[float, float], ...] = ()
    min_samples: int = 0
    doublings: int = 0
    kind: Literal["dual", "log_weight"] = "dual"
    start: float = 0.0
    fixed_dual: float = 0.0  # λ of the projection at the start; that of the clause while log ρ is controlled
    unit: float = 1.0
    cap: float = LOG_FLOOR

    @property
    def dual(self) -> float:
        """λ of the clause, whichever quantity is controlled."""
        return self.value if self.kind == "dual" else self.fixed_dual

    def exponent_factor(self, coupling: float) -> float:
        """What γ is multiplied by: exp(coupling · unit · (λ - start)), between 1/4 and 4; 1 for a moving anchor.

        ``coupling`` is how much of a move of λ away from its start also moves log γ: an auxiliary model that explains
        little has a tilt that saturates in λ (V tends to 1 - π, far from 0), so that γ must carry on; 0 for one that
        explains all.
        """
        limit = math.log(MAX_EXPONENT_FACTOR)
        return math.exp(max(-limit, min(limit, self._carried(coupling))))

    def weight_factor(self, coupling: float) -> float:
        """What ρ is multiplied by: exp(coupling · unit · (λ - start)) beyond the 4 of ``exponent_factor``, at most 16.

        There the target moves no further, and what is left lies between it and the student. 1 where the cap of λ is the
        price of a `prefer`.
        """
        if self.cap < LOG_FLOOR:
            return 1.0
        beyond = self._carried(coupling) - math.log(MAX_EXPONENT_FACTOR)
        return math.exp(max(0.0, min(MAX_WEIGHT_DOUBLINGS * math.log(2.0), beyond)))

    def _carried(self, coupling: float) -> float:
        return coupling * self.unit * (self.value - self.start) if self.kind == "dual" else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON form for the checkpoint."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ControllerState:
        """Inverse of ``to_dict``; TypeError on unknown keys."""
        return ControllerState(**{**data, "window": tuple((s, n) for s, n in data["window"])})


def update(state: ControllerState, total: float, count: float, scale: float = 1.0) -> ControllerState:
    """One control step from a measurement: ``total`` is Σ f over ``count`` samples of the current model.

    Equation: r̂ = (c + ½)/(n + 1) over the window, value += k · clip(logit r̂ - logit set-point, ±1.5) / scale, kept
    in [0, max], with k the gain and c = Σ f between 0 and n. ``scale`` converts to the units of the statistic: for f in
    [0, high] pass f/high and its ``sensitivity``.
    A window with fewer than ``min_samples`` (5 / set-point) waits, unless its sum is so far above the set-point b that
    more samples would not change the direction: above 5 + 2 n b, where b leads one to expect n b. While λ stands at
    its cap and the rate is still above, the integrator is frozen and ρ is doubled instead (at most 4 times), unless the
    cap is the price of a `prefer`.
    """
    window = (*state.window, (float(total), float(count)))
    samples = sum(n for _, n in window)
    seen = min(
        max(0.0, sum(c for c, _ in window)), samples
    )  # a value beyond what was taken for the top of its range
    if samples < state.min_samples and seen < CLEAR + 2 * samples * state.set_point:
        return replace(state, window=window)
    rate = (seen + 0.5) / (samples + 1.0)
    error = max(-1.5, min(1.5, logit(rate) - logit(state.set_point)))
    if state.kind == "log_weight":
        value = max(-4.0, min(state.max_value, state.value + state.gain * error))
        return replace(state, value=value, weight=math.exp(value), window=())
    at_cap = state.value >= state.max_value and error > 0
    if at_cap:
        if state.doublings < MAX_WEIGHT_DOUBLINGS and state.cap >= LOG_FLOOR:  # a price is no obstacle
            return replace(state, weight=2 * state.weight, doublings=state.doublings + 1, window=())
        return replace(state, window=())
    value = max(0.0, min(state.max_value, state.value + state.gain * error / scale))
    return replace(state, value=value, window=())


def start_duals(
    groups: Sequence[GroupLaw], points: Floats, solved: Projection,
    *, corpus: Floats, weights: Floats, divergence: str, alpha: float = 0.5, max_duals: Floats | float = LOG_FLOOR,
) -> Floats:  # fmt: skip
    """Where the controllers start: the duals whose equilibrium with the corpus term are the set-points.

    Equation, for any statistics and groups together: with p the means under the projection onto the
    points b, d those of the corpus and C = E_x Cov_q(f), reverse: λ0 = λ + C⁻¹ u, where
    u_k = (Σ_g w_g ((d_gk - p_gk) - (b_k - p_k)) / ρ_g)+ over the groups of the clause's scope, w_g their share;
    js: with ρ / 4; forward: the duals of the projection onto b - u / m, m the share of the scope, and the former where
    that cannot be reached; alpha: of the projection onto b - α u / m, carried on from λ to 1/α of the way.
    Shapes: as ``project_groups``, whose solution for ``points`` is ``solved``; ``corpus`` [G, S], NaN where a group
    has no corpus and is not pulled; ``weights`` ρ [G].
    """
    shares = np.array([group.share for group in groups])
    scopes = np.array([group.applies for group in groups]) * (shares / shares.sum())[:, None]  # [G, S]
    scope = scopes.sum(axis=0)
    means = np.array([group.means(solved.duals).mean(axis=0) for group in groups])
    excess = np.where(np.isnan(corpus), 0.0, (corpus - means) - (points - solved.means))
    pull = np.maximum((scopes * excess * (_against_reverse(divergence) / weights)[:, None]).sum(axis=0), 0.0)
    if not pull.any():
        return solved.duals
    if divergence in ("forward", "alpha"):
        part = 1.0 if divergence == "forward" else alpha
        lowered = project_groups(groups, np.maximum(points - part * pull / scope, points / 10), max_duals)
        if not lowered.saturated.any():
            moved = solved.duals + (lowered.duals - solved.duals) / part
            return lowered.duals if part == 1.0 else np.clip(moved, 0.0, max_duals)
    covariance = tilted_covariance(groups, solved.duals)
    acts = (solved.duals > 0) | (pull > 0)
    correction = np.zeros_like(pull)
    some = np.ix_(acts, acts)
    correction[acts] = np.linalg.lstsq(covariance[some], pull[acts], rcond=1e-6)[0]
    return np.clip(solved.duals + correction, 0.0, max_duals)


def sensitivity(values: Floats, high: float, weights: Floats | None = None) -> float:
    """How much faster logit(mean / high) falls in λ than that of an indicator, in the units of the statistic.

    Equation: -d logit(m/h) / dλ = Var(f) h / (m (h - m)), which is h for values that are 0 or h and 1 for indicators.
    Shapes: values [n] in [0, high], weights [n] that sum to 1 (equal ones when not given). Returns h when the values
    do not vary.
    """
    mean = float(np.average(values, weights=weights))
    spread = mean * (high - mean) / high
    variance = float(np.average((values - mean) ** 2, weights=weights))
    return variance / spread if np.ptp(values) > 0 and spread > 0 else high


def initial_weight(corpus_rate: float, set_point: float, divergence: str, alpha: float = 0.5) -> float:
    """The fixed weight ρ of a domain: d/b for reverse, 2(d-b)/b for forward, at least 1; for js four times d/b.

    Near its target the Jensen-Shannon divergence is a quarter of a Kullback-Leibler one: χ²/8 against χ²/2.
    alpha has the curvature of a Kullback-Leibler divergence and holds against the corpus only above about α (d-b)/b
    (at α = 1 that is forward's (d-b)/b, at α = 0 reverse has no such limit), so its weight is (1-α) d/b + 2α (d-b)/b.
    """
    d, b = corpus_rate, set_point
    if divergence == "forward":
        return max(1.0, 2 * (d - b) / b)
    if divergence == "alpha":
        return max(1.0, (1 - alpha) * d / b + 2 * alpha * (d - b) / b)
    return max(1.0, d / b) * _against_reverse(divergence)


def weight_without_pull(settings: RegularizerConfig) -> float:
    """ρ where no row pulls the other way: what the settings say, else 1 (js: 4)."""
    return settings.weight or _against_reverse(settings.divergence)


def _against_reverse(divergence: str) -> float:
    """How many times the weight a divergence needs to pull as reverse KL does."""
    return 4.0 if divergence == "js" else 1.0
