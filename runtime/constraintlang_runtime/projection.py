"""The projection of a law onto a policy: duals and projected means, as pure functions of the binned law.

Axes: ``P`` prompts of one group, ``M`` bins, ``S`` soft clauses. No model, no tokens, no state.
Source: method.md section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logit, logsumexp

Floats = NDArray[np.float64]

LOG_FLOOR = 12.0  # Λ: ψ >= exp(-Λ), so that reverse KL stays finite and dead prefixes get no regularizer


@dataclass(frozen=True)
class Projection:
    """Duals λ [S], means of the statistics under q_λ [S], KL(q_λ‖p) in nats per prompt, saturated clauses [S]."""

    duals: Floats
    means: Floats
    kl: float
    saturated: NDArray[np.bool_]


def project(
    law: Floats, values: Floats, bounds: Floats, hard: NDArray[np.bool_], max_dual: float = LOG_FLOOR
) -> Projection:
    """Solve for the duals of the closest law that meets every soft bound, hard bins removed.

    Equation: max_λ g(λ) = -Σ_k λ_k b_k - mean_x log Σ_m π_m(x) ψ_m(λ), 0 <= λ_k <= max_dual,
    with ψ_m = 0 on hard bins and exp(-Σ_k λ_k f_k(m)) elsewhere; ∂_k g = E_{q_λ} f_k - b_k.
    Shapes: ``law`` [P, M] rows sum to 1, ``values`` [M, S], ``bounds`` [S], ``hard`` [M].
    Returns: the duals; a clause whose dual stops at ``max_dual`` above its bound is marked saturated (infeasible as
    far as this law can tell).
    Raises: ValueError for shapes that do not fit or a law that leaves no mass outside the hard bins.
    """
    num_bins = law.shape[1]
    if values.shape[0] != num_bins or bounds.shape[0] != values.shape[1] or hard.shape[0] != num_bins:
        raise ValueError(
            f"got law {law.shape}, values {values.shape}, bounds {bounds.shape}, hard {hard.shape}; "
            "expected [P, M], [M, S], [S], [M]"
        )
    with np.errstate(divide="ignore"):
        log_law = np.where(hard[None, :], -np.inf, np.log(law))
    if np.any(np.isneginf(log_law).all(axis=1)):
        raise ValueError("a prompt has all its mass on hard violations; smooth the law or drop the prompt")

    def tilted(duals: Floats) -> tuple[Floats, Floats]:
        scores = log_law - (values @ duals)[None, :]
        log_z = logsumexp(scores, axis=1)
        weights = np.exp(scores - log_z[:, None])
        return log_z, weights @ values  # [P], [P, S]

    def negative_dual(duals: Floats) -> tuple[float, Floats]:
        log_z, means = tilted(duals)
        value = float(duals @ bounds + log_z.mean())
        return value, bounds - means.mean(axis=0)

    num_soft = bounds.shape[0]
    start = np.zeros(num_soft)
    if num_soft:
        solution = minimize(
            negative_dual,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, max_dual)] * num_soft,
            options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-9},
        )
        duals = np.asarray(solution.x, dtype=np.float64)
        if num_soft == 1:
            duals = _bisect(lambda dual: float(tilted(dual)[1].mean() - bounds[0]), max_dual)
    else:
        duals = start
    log_z, means = tilted(duals)
    mean = means.mean(axis=0)
    kl = float(-(duals @ mean) - log_z.mean())
    saturated = (duals >= max_dual - 1e-6) & (mean > bounds * (1 + 1e-6) + 1e-12)
    return Projection(duals, mean, kl, saturated)


def tilted_covariance(law: Floats, values: Floats, hard: NDArray[np.bool_], duals: Floats) -> Floats:
    """E_x Cov_q(f) under the tilt with these duals: how the means fall in the duals.

    Shapes: as ``project``; returns [S, S].
    """
    with np.errstate(divide="ignore"):
        scores = np.where(hard[None, :], -np.inf, np.log(law)) - (values @ duals)[None, :]
    weights = np.exp(scores - logsumexp(scores, axis=1)[:, None])
    means = weights @ values
    second = np.einsum("m,ms,mr->sr", weights.mean(axis=0), values, values)
    return np.asarray(second - means.T @ means / len(means), dtype=np.float64)


def _bisect(excess: object, max_dual: float) -> Floats:
    """The root of a falling function of one dual, to 1e-10; the ends when it has none inside."""
    assert callable(excess)
    low, high = 0.0, max_dual
    if excess(np.array([low])) <= 0:
        return np.array([low])
    if excess(np.array([high])) >= 0:
        return np.array([high])
    while high - low > 1e-10:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(np.array([middle])) > 0 else (low, middle)
    return np.array([0.5 * (low + high)])


def chance_dual(success: Floats, bound: float, max_dual: float = LOG_FLOOR) -> Floats:
    """Per-prompt dual of one chance clause, ``--adaptive prompt``.

    Equation: λ(x) = max(0, logit(1-δ) - logit R(x)), zero for prompts that already comply.
    Shapes: ``success`` R(x) [P] in (0, 1). Units: nats.
    """
    return np.clip(logit(1.0 - bound) - logit(np.clip(success, 1e-9, 1 - 1e-9)), 0.0, max_dual)


def smoothed_law(counts: Floats) -> Floats:
    """Add-half estimate of a law from counts [P, M]: (n_m + ½) / (n + M/2)."""
    return (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 0.5 * counts.shape[1])


def effective_sample_size(log_weights: Floats) -> float:
    """Kish's effective sample size (Σw)²/Σw² of importance weights given by their logarithms [N]."""
    scaled = np.exp(log_weights - log_weights.max())
    return float(scaled.sum() ** 2 / (scaled**2).sum())
