"""The projection of a law onto a policy: duals and projected means, as pure functions of the binned law.

Axes: ``P`` prompts of one group, ``M`` bins, ``S`` soft clauses of all groups. No model, no tokens, no state.
Source: docs/method.md, "The target".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from constraintlang_compiler.bin_samples import BinSamples

Floats = NDArray[np.float64]

LOG_FLOOR = 12.0  # Λ: ψ >= exp(-Λ), so that reverse KL stays finite and dead prefixes get no regularizer


@dataclass(frozen=True)
class Projection:
    """Duals λ [S], means of the statistics under q_λ [S], KL(q_λ‖p) in nats per prompt, saturated clauses [S]."""

    duals: Floats
    means: Floats
    kl: float
    saturated: NDArray[np.bool_]


@dataclass(frozen=True)
class GroupLaw:
    """The binned law of one group of prompts: ``law`` [P, M] with rows that sum to 1, ``values`` [M, S], ``hard`` [M].

    S are the soft clauses of the whole policy: ``applies`` [S] says which of them the group falls under, ``values`` is
    0 in the columns of the others. ``share`` is the group's weight among the groups. ``samples`` of each bin, when
    given, stand in place of ``values``: a bin of a value is tilted inside, too.
    """

    law: Floats
    values: Floats
    hard: NDArray[np.bool_]
    applies: NDArray[np.bool_]
    share: float = 1.0
    samples: BinSamples | None = None

    @cached_property
    def log_law(self) -> Floats:
        """The logarithm of the law without its hard bins [P, M]."""
        with np.errstate(divide="ignore"):
            return np.where(self.hard[None, :], -np.inf, np.log(self.law))

    def tilted(self, duals: Floats) -> tuple[Floats, Floats, Floats]:
        """log Z [P], the law under the tilt [P, M] and the means of the statistics in each bin under it [M, S]."""
        energy, values = self.values @ duals, self.values
        if self.samples is not None:
            log_means, values = self.samples.tilted(duals)
            energy = -log_means
        scores = self.log_law - energy[None, :]
        log_z = logsumexp(scores, axis=1)
        return log_z, np.exp(scores - log_z[:, None]), values

    def means(self, duals: Floats) -> Floats:
        """Means of the statistics under the tilt, for each prompt [P, S]."""
        _, weights, values = self.tilted(duals)
        return np.asarray(weights @ values)

    def under(self, chosen: list[int]) -> GroupLaw:
        """The same law under some of the clauses."""
        samples = None if self.samples is None else self.samples.under(chosen)
        return GroupLaw(
            self.law, self.values[:, chosen], self.hard, self.applies[chosen], self.share, samples
        )


def project(
    law: Floats, values: Floats, bounds: Floats, hard: NDArray[np.bool_], max_dual: float = LOG_FLOOR
) -> Projection:
    """``project_groups`` for one group that falls under every clause.

    Shapes: ``law`` [P, M] rows sum to 1, ``values`` [M, S], ``bounds`` [S], ``hard`` [M].
    Raises: ValueError for shapes that do not fit or a law that leaves no mass outside the hard bins.
    """
    return project_groups([GroupLaw(law, values, hard, np.ones(len(bounds), bool))], bounds, max_dual)


def project_groups(
    groups: Sequence[GroupLaw],
    bounds: Floats,
    max_duals: Floats | float = LOG_FLOOR,
    start: Floats | None = None,
) -> Projection:
    """Solve for the duals of the closest law that meets every soft bound in its scope, hard bins removed.

    Equation: max_λ g(λ) = -Σ_k m_k λ_k b_k - E_x log Σ_m π_m(x) ψ_m(λ), 0 <= λ_k <= max_dual_k, with ψ_m = 0 on hard
    bins and exp(-Σ_k λ_k f_k(m)) elsewhere (its mean over the samples of the bin, where the group has them), E_x the
    mean over groups by ``share`` and over the prompts of each, m_k the share of the clause's scope;
    ∂_k g = m_k (E_{q_λ}[f_k | D_k] - b_k).
    Shapes: ``bounds`` [S]; ``max_duals`` [S] or one for all; ``start`` [S] are duals near the solution, when known. The
    means are over each clause's scope.
    Returns: the duals; a clause whose dual stops at its cap above its bound is marked saturated (infeasible as
    far as this law can tell).
    Raises: ValueError for shapes that do not fit, a clause that applies to no group, or a law that leaves no mass
    outside the hard bins.
    """
    for group in groups:
        (num_bins, num_soft) = group.values.shape
        if (group.law.shape[1], group.hard.shape, group.applies.shape, num_soft) != (
            num_bins, (num_bins,), bounds.shape, len(bounds)
        ):  # fmt: skip
            raise ValueError(
                f"got law {group.law.shape}, values {group.values.shape}, bounds {bounds.shape}, "
                f"hard {group.hard.shape}; expected [P, M], [M, S], [S], [M]"
            )
        if not (group.law[:, ~group.hard] > 0).any(axis=1).all():
            raise ValueError(
                "a prompt has all its mass on hard violations; smooth the law or drop the prompt"
            )
    shares = np.array([group.share for group in groups]) / sum(group.share for group in groups)
    scope = shares @ np.array([group.applies for group in groups], dtype=np.float64)
    if (scope <= 0).any():
        raise ValueError(f"no group falls under clause {int(np.argmin(scope))}")
    caps = np.broadcast_to(np.asarray(max_duals, dtype=np.float64), bounds.shape)
    moments = partial(_moments, groups, shares, scope)
    duals = np.zeros(len(bounds)) if start is None else np.minimum(start, caps)
    if len(bounds) == 1 and start is None:
        duals = _bisect(lambda dual: float(moments(dual)[1][0] - bounds[0]), float(caps[0]))
    elif len(bounds):
        solution = minimize(
            partial(_negative_dual, moments, scope, bounds),
            duals,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, cap) for cap in caps],
            options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-9},
        )
        duals = np.asarray(solution.x, dtype=np.float64)
    log_z, means = moments(duals)
    kl = float(-((scope * duals) @ means) - log_z)
    saturated = (duals >= caps - 1e-6) & (means > bounds * (1 + 1e-6) + 1e-12)
    return Projection(duals, means, kl, saturated)


def _moments(
    groups: Sequence[GroupLaw], shares: Floats, scope: Floats, duals: Floats
) -> tuple[float, Floats]:
    """E_x log Z, and the means over each clause's scope."""
    log_z, total = 0.0, np.zeros(len(scope))
    for share, group in zip(shares, groups, strict=True):
        group_log_z, weights, values = group.tilted(duals)
        log_z += share * float(group_log_z.mean())
        total += share * (weights.mean(axis=0) @ values)
    return log_z, total / scope


def _negative_dual(
    moments: Callable[[Floats], tuple[float, Floats]], scope: Floats, bounds: Floats, duals: Floats
) -> tuple[float, Floats]:
    log_z, means = moments(duals)
    return float((scope * duals) @ bounds) + log_z, scope * (bounds - means)


def tilted_covariance(groups: Sequence[GroupLaw], duals: Floats) -> Floats:
    """E_x Cov_q(f) under the tilt with these duals: how the means (times the share of their scope) fall in the duals.

    Shapes: as ``project_groups``; returns [S, S].
    """
    total = np.zeros((len(duals), len(duals)))
    for group in groups:
        _, weights, values = group.tilted(duals)
        means, law = weights @ values, weights.mean(axis=0)
        if group.samples is None:
            second = np.einsum("m,ms,mr->sr", law, values, values)
        else:
            second = np.einsum("m,msr->sr", law, group.samples.second_moments(duals))
        total += group.share * (second - means.T @ means / len(means))
    return total / sum(group.share for group in groups)


def _bisect(excess: Callable[[Floats], float], max_dual: float) -> Floats:
    """The root of a falling function of one dual, to 1e-10; the ends when it has none inside."""
    low, high = 0.0, max_dual
    if excess(np.array([low])) <= 0:
        return np.array([low])
    if excess(np.array([high])) >= 0:
        return np.array([high])
    while high - low > 1e-10:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(np.array([middle])) > 0 else (low, middle)
    return np.array([0.5 * (low + high)])


def effective_sample_size(log_weights: Floats) -> float:
    """Kish's effective sample size (Σw)²/Σw² of importance weights given by their logarithms [N]."""
    scaled = np.exp(log_weights - log_weights.max())
    return float(scaled.sum() ** 2 / (scaled**2).sum())
