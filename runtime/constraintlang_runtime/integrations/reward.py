"""``PolicyReward``: a policy as a reward function in TRL's shape, with weights that can follow the bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from constraintlang_compiler.ir import Hinge, Indicator
from constraintlang_runtime.control import ControllerState, update
from constraintlang_runtime.errors import ConfigError, ScorerError
from constraintlang_runtime.integrations.texts import as_text
from constraintlang_runtime.ranks import gathered

if TYPE_CHECKING:
    from constraintlang_runtime.integrations.policy import Policy

SET_POINT_SHARE = 0.75
EXPECTED = 5.0
"""Violations that a window has to expect at its set-point: a batch of 8 at 1% looks like 6%, violated or not."""
MAX_WEIGHT = 100.0
"""λ over the whole range of a statistic; more only where more was given."""


class PolicyReward:
    """Reward of a completion under the clauses that speak of its prompt.

    Equation: r(x, y) = -Σ_k λ_k f_k(x, y), f_k the clause's statistic (1 where a statement about single responses is
    violated, else 0; of a mean, its value); None where no clause speaks of the prompt, which TRL takes as "not
    applicable". With TRL's KL coefficient β > 0, the optimum is p_0 exp(r / β), the exponential tilt of
    ``docs/method.md`` with duals λ / β, as long as rewards are not scaled: give GRPO ``beta`` and
    ``scale_rewards="none"``, since divided by its deviation within a group the λ of a single clause cancels.
    ``weights`` are the λ by clause name; when not given 1 / high, high the length of the statistic's range (1 of a
    rate, twice the bound where the range is open), so that no unit makes a clause outweigh another.
    ``adaptive`` moves each λ, so that the clause's rate goes to three quarters of its bound: up while the completions
    are above it, down to 0 below. It gathers calls until they have 5 / set-point completions, or already far more
    violations than that allows. Ranks average what they saw. It moves by the completions of training alone: TRL's
    GRPO and RLOO pass ``log_metric``, a method of the trainer, whose model is in evaluation mode while it evaluates;
    of a call without it nothing is known, so set ``adaptive`` to False around an evaluation elsewhere.
    ``state_dict`` and ``load_state_dict`` keep the λ over a restart.
    Raises: ScorerError when a score is unavailable: training cannot guess it; ConfigError for a clause whose bound is
    relative to a base model, and with ``adaptive`` for a cvar, whose mean is not its bound's.
    """

    def __init__(
        self, policy: Policy, clauses: Sequence[int], weights: Mapping[str, float], *, adaptive: bool = False
    ) -> None:
        self._policy = policy
        self._columns = tuple(clauses)
        self._names = tuple(policy.clauses[k].name for k in self._columns)
        self.adaptive = adaptive
        for k in self._columns:
            _check(policy, k, adaptive)
        self._states = {
            name: _first_state(policy, k, weights.get(name))
            for name, k in zip(self._names, self._columns, strict=True)
        }
        self.__name__ = self._names[0] if len(self._names) == 1 else "policy"  # TRL's key in the logs

    @property
    def weights(self) -> dict[str, float]:
        """λ by clause name, as they are now."""
        return {name: state.value for name, state in self._states.items()}

    def state_dict(self) -> dict[str, Any]:
        """What ``adaptive`` has learned, as plain data."""
        return {name: state.to_dict() for name, state in self._states.items()}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``."""
        self._states = {name: ControllerState.from_dict(states[name]) for name in self._names}

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        """One reward per completion; ``columns`` of the data set are the tags of the prompts."""
        count = len(completions)
        tags = {
            key: values
            for key, values in columns.items()
            if isinstance(values, list | tuple) and len(values) == count and key not in ("completion_ids",)
        }
        rows = [{key: values[i] for key, values in tags.items()} for i in range(count)]
        found = self._policy.judge([as_text(c) for c in completions], [as_text(p) for p in prompts], rows)
        inside = found.inside[:, self._columns]
        values = np.where(inside, found.values[:, self._columns], 0.0)
        if np.isnan(values).any():
            row, column = np.argwhere(np.isnan(values))[0]
            raise ScorerError(
                f"`{self._names[column]}` has no score for {as_text(completions[row])[:60]!r}",
                help="make the scorer return a number for every text; training cannot guess one",
            )
        duals = np.array([self._states[name].value for name in self._names])
        rewards = 0.0 - (values * duals).sum(axis=1)
        log_metric = columns.get("log_metric")
        moves = self.adaptive and not _is_evaluating(log_metric)
        means = self._means(values, inside, of_all_ranks=moves)
        for name, (total, seen) in zip(self._names, means, strict=True):
            if log_metric is not None and seen:
                log_metric(f"constraint/{name}/value", total / seen)
                log_metric(f"constraint/{name}/dual", self._states[name].value)
        if moves:
            self._move(means)
        return [float(r) if own.any() else None for r, own in zip(rewards, inside, strict=True)]

    def _means(self, values: Any, inside: Any, *, of_all_ranks: bool) -> list[tuple[float, float]]:
        """Sum of each statistic and number of completions that it speaks of."""
        pairs = np.stack([values.sum(axis=0), inside.sum(axis=0).astype(np.float64)], axis=1)
        if of_all_ranks:
            pairs = np.sum(gathered(pairs), axis=0)
        return [(float(total), float(seen)) for total, seen in pairs]

    def _move(self, means: Sequence[tuple[float, float]]) -> None:
        for name, k, (total, seen) in zip(self._names, self._columns, means, strict=True):
            if not seen:
                continue
            state, high = self._states[name], _high(self._policy, k)
            # in the units of [0, 1], where the controller works; λ itself stays in those of the statistic
            point = min(max(state.set_point / high, 1e-3), 0.999)
            scaled = replace(state, set_point=point, min_samples=math.ceil(EXPECTED / point))
            moved = update(scaled, total / high, seen, scale=high)
            self._states[name] = replace(moved, set_point=state.set_point, weight=1.0, doublings=0)


def _is_evaluating(log_metric: Any) -> bool:
    """Whether the trainer that a method belongs to evaluates; by its model's mode, as TRL tells it itself.

    Steps do not tell: an evaluation and the training batch after it have the same ``trainer_state.global_step``.
    """
    model = getattr(getattr(log_metric, "__self__", None), "model", None)
    return getattr(model, "training", True) is False


def _first_state(policy: Policy, k: int, given: float | None) -> ControllerState:
    """Where λ starts and how far it may rise, per unit of the statistic."""
    high = _high(policy, k)
    value = 1.0 / high if given is None else float(given)
    return ControllerState(
        value=value, weight=1.0, set_point=_set_point(policy, k), gain=0.1,
        max_value=max(MAX_WEIGHT / high, value),
    )  # fmt: skip


def _check(policy: Policy, k: int, adaptive: bool) -> None:
    clause = policy.clauses[k]
    if clause.base_factor is not None:
        raise ConfigError(
            f"`{clause.name}` is relative to a base model, which a reward does not sample",
            help="bound it by a number, or reward the other clauses, one function each: `reward_func(NAME)`",
        )
    if adaptive and isinstance(clause.statistic, Hinge):
        raise ConfigError(
            f"adaptive: the mean of `{clause.name}` over completions does not tell where its tail is",
            help="leave adaptive out and choose its weight, or reward the other clauses, one function each",
        )


def _set_point(policy: Policy, k: int) -> float:
    return SET_POINT_SHARE * float(policy.clauses[k].bound)


def _high(policy: Policy, k: int) -> float:
    """How far the statistic reaches, in its own unit: 1 of an indicator, twice the bound where the range is open."""
    clause = policy.clauses[k]
    found = clause.statistic
    if isinstance(found, Indicator):
        return 1.0
    low, high = getattr(found, "low", None), getattr(found, "high", None)
    if high is None or (isinstance(found, Hinge) and low is None):
        return max(1.0, 2 * float(clause.bound))
    # of a cvar what is weighed is the term, which may begin below 0
    return float(high) - float(low or 0) or 1.0
