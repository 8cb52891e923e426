"""Groups of prompts that fall under the same clauses, and what the run knows about each of them.

One group has one auxiliary model; its duals are those of its clauses, which other groups may share. With
``--adaptive domain`` (and ``prompt``) a group is a set of clauses that apply together; with ``none`` there is one group
for all rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_compiler.set_points import set_point, set_point_mean
from constraintlang_compiler.targets import Target, build_target
from constraintlang_runtime.auxiliary import AuxiliaryModel
from constraintlang_runtime.balance import Balance
from constraintlang_runtime.control import ControllerState
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.hard_masks import HardMasks
from constraintlang_runtime.projection import LOG_FLOOR
from constraintlang_runtime.settings import ConstraintSettings

Floats = NDArray[np.float64]


@dataclass
class Group:
    """The state of one group; everything but ``prompts``, ``corpus_rows`` and ``masks`` goes into the checkpoint.

    ``indexes`` are the clauses' numbers in the policy. ``controllers`` has one entry per soft clause in the order of
    ``target.soft``, equal in all groups of a clause (``controlling.py``); ``bin_values`` [M, S] are those for the
    duals that the controllers started from, or had at the newest fit;
    ``corpus_means`` [K] are means of the statistics over (a sample of) the corpus rows; ``store`` holds the sampled
    rows on whose prefixes the regularizer may act, newest last; ``corpus_rows`` are training rows cut to the length of
    a sample. ``base_weight`` is ρ where no controller asks for more, ``fixed_exponent`` that the settings fix γ.
    ``hard_control`` moves γ and ρ for the hard clauses, which have no dual (``controlling.control_hard``).
    ``stamps``: the round of the model that the newest ``samples`` of the store are of, that the ``auxiliary`` was
    fitted on, and that the ``duals`` were last moved by. ``balance`` is there once ``head`` was fitted.
    """

    name: str
    clauses: tuple[Clause, ...]
    indexes: tuple[int, ...]
    prompts: list[TokenRow]
    corpus_share: float
    corpus_means: Floats
    target: Target | None = None
    head: AuxiliaryModel | None = None
    balance: Balance | None = None
    bin_values: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    controllers: list[ControllerState] = field(default_factory=list)
    store: list[TokenRow] = field(default_factory=list)
    corpus_rows: list[TokenRow] = field(default_factory=list)
    fitted_exponent: float = 1.0
    base_weight: float = 1.0
    fixed_exponent: bool = False
    hard_control: ControllerState | None = None
    stamps: dict[str, int] = field(default_factory=dict)
    masks: HardMasks | None = None
    _measured: tuple[list[TokenRow], float] = field(default=([], 0.0), init=False, repr=False, compare=False)

    def copied(self) -> Group:
        """A group whose state moves apart from this one's."""
        return replace(self, corpus_means=self.corpus_means.copy(), stamps=dict(self.stamps))

    @property
    def is_active(self) -> bool:
        """Whether the regularizer acts on this group now."""
        return self.head is not None and self.target is not None

    @property
    def mean_sites(self) -> float:
        """Mean number of prediction sites of a row of the store; 0 when it is empty."""
        if self._measured[0] is not self.store:  # it is replaced, never changed
            total = sum(len(row.completion) for row in self.store)
            self._measured = self.store, total / max(1, len(self.store))
        return self._measured[1]

    @property
    def weight(self) -> float:
        """ρ of the group: the largest that one of its controllers asks for."""
        found = [
            state.weight * max(1.0, state.weight_factor(self._coupling) / 2**state.doublings)
            for state in self.controllers
        ]
        if self.hard_control is not None:
            found.append(self.base_weight * self.hard_control.weight)
        return max(found, default=self.base_weight)

    @property
    def exponent(self) -> float:
        """γ of the group: what the fit asks for times the most that one of its controllers does."""
        found = [state.exponent_factor(self._coupling) for state in self.controllers]
        if self.hard_control is not None:
            found.append(self.hard_control.exponent_factor(1.0))
        return self.fitted_exponent * max(found, default=1.0)

    @property
    def _coupling(self) -> float:
        """How much of a controller's move goes on to γ and ρ: what the auxiliary model leaves unexplained."""
        return 0.0 if self.fixed_exponent else max(0.0, 1.0 - 1.0 / self.fitted_exponent)

    @property
    def duals(self) -> Floats:
        """λ [S] of the soft clauses."""
        return np.array([state.dual for state in self.controllers])

    def is_vacuous(self) -> bool:
        """True when no tilt is asked for, so that the term is skipped bit for bit."""
        return self.target is not None and not self.target.hard and bool((self.duals == 0).all())

    def log_potential(self) -> Tensor:
        """log ψ over the bins [M]."""
        assert self.target is not None
        return torch.from_numpy(self.target.log_potential(self.duals, self.bin_values)).float()

    def fitted_state(self) -> tuple[Any, ...]:
        """What a fit and the start of the controllers change."""
        return (self.clauses, self.corpus_means, self.target, self.head, self.bin_values, self.controllers,
                self.fitted_exponent, self.balance)  # fmt: skip

    def take_fitted(self, state: tuple[Any, ...], device: torch.device) -> None:
        """Inverse of ``fitted_state``, perhaps of another process."""
        (self.clauses, self.corpus_means, self.target, self.head, self.bin_values, self.controllers,
         self.fitted_exponent, self.balance) = state  # fmt: skip
        if self.head is not None:
            self.head.to(device)

    def clause(self, column: int) -> Clause:
        """The soft clause of a controller's column."""
        assert self.target is not None
        return self.clauses[self.target.soft[column].clause]


def set_point_of(
    clause: Clause, config: ConstraintSettings, num_statements: int, std: float | None = None
) -> float:
    """The mean of the clause's statistic that training drives to.

    The largest true value that the planned verification (``verify_prompts`` prompts) still certifies with 90% power;
    ``set_point_share`` of the bound when given. A hard clause has 0.
    Raises: ConfigError when the planned number of prompts cannot certify the bound at all.
    """
    bound = float(clause.bound)
    if clause.hard:
        return 0.0
    if bound == 0.0:  # a soft "never": nothing can certify it, so aim below what one sample could show
        return 0.5 / config.verify_prompts
    if config.set_point_share is not None:
        return bound * config.set_point_share
    confidence = float(clause.confidence)
    try:
        if isinstance(clause.statistic, Indicator):
            return set_point(
                bound, config.verify_prompts, confidence=confidence, num_statements=num_statements
            )
        high = getattr(clause.statistic, "high", None)
        if high is None or std is None:
            return 0.9 * bound
        return set_point_mean(
            bound,
            config.verify_prompts,
            std,
            high=float(high),
            confidence=confidence,
            num_statements=num_statements,
        )
    except ValueError as error:
        raise ConfigError(
            f"clause `{clause.name}`: {error}", help="raise --verify_prompts, or set --set_point_share"
        ) from error


def attach_target(group: Group, statistics: Floats) -> NDArray[np.int64]:
    """Give the group its bins, from statistics [n, K] of samples; returns the samples' bins [n].

    The bins' values are means here; ``bin_laws.set_bin_values`` makes those of the duals once there are some.
    """
    if group.target is None:
        group.target = build_target(group.clauses, range(len(group.clauses)), samples=statistics)
    bins = group.target.bin_index(statistics)
    group.bin_values = group.target.bin_values(statistics, bins)
    return bins


def prompt_log_potential(group: Group, success: Tensor) -> Tensor:
    """log ψ per row [B, M] for ``--adaptive prompt``: λ(x) = clip(c - logit R(x), 0, cap) with c the controlled value.

    Source: docs/method.md, "The target"; c starts at logit(1 - set-point) and is controlled like λ.
    """
    assert group.target is not None
    state = group.controllers[0]
    duals = (state.value - torch.logit(success.clamp(1e-6, 1 - 1e-6))).clamp(0.0, state.cap)
    values = torch.from_numpy(group.bin_values[:, 0]).float()
    potential = -duals[:, None] * values[None, :]
    potential[:, torch.from_numpy(group.target.hard_bins)] = -LOG_FLOOR
    return potential.clamp_min(-LOG_FLOOR)
