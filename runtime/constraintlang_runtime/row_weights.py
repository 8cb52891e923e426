"""What training rows weigh in the language-model loss while the policy acts: a draw by the projection of the corpus."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from constraintlang_compiler.ir import Clause
from constraintlang_runtime.controlling import SoftClauses, dual_cap, group_laws
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.grouping import CORPUS_SCORED, as_sampled, spread
from constraintlang_runtime.groups import Group
from constraintlang_runtime.priorities import ranks_of, solve_by_rank
from constraintlang_runtime.projection import GroupLaw
from constraintlang_runtime.sampling import derived_seed
from constraintlang_runtime.sampling_law import SamplingLaw

Floats = NDArray[np.float64]
Score = Callable[[Sequence[Clause], Sequence[TokenRow]], Floats]
logger = logging.getLogger(__name__)
MOST = 4.0  # a row that is kept weighs no more: few rows of a group that hardly has any left are no measure of it


class RowWeights:
    """The weights of training rows in the corpus that is nearest to the given one and meets the policy.

    Equation: w_i = Π_hard 1[f_k = 0] · exp(-Σ_soft λ_k f_ik) / max_j w_j, with the duals λ of the projection of the
    scored rows onto the set-points of their clauses. A row is trained on at a step with probability w_i, and then
    weighs Σ_j n_j / Σ_j w_j n_j, at most ``MOST``, n the trained tokens of the rows of its group, so that the mean of
    the loss is the one that w_i weighs, a group keeps its part in it, and with λ = 0 nothing changes. The minimiser of
    that loss is the projection of the corpus (docs/method.md, "The regularizer"), where the corpus as given pulls the
    model back over the bound.
    The scored rows are one law, not one for each prompt, so that their own λ is too small where the prompt says much of
    the outcome; λ is therefore at least that of the fitted laws at the prompts (``start_controllers``).

    ``rows`` are all training rows, ``groups_of`` their groups; a row is judged as a sampler of this ``law`` would
    have left it. At most ``CORPUS_SCORED`` rows of a group are scored for the duals, every other one when a
    step first reads it.
    """

    def __init__(
        self,
        rows: Sequence[TokenRow],
        groups_of: Sequence[int],
        *,
        law: SamplingLaw,
        tokenizer: Any,
        seed: int,
    ) -> None:
        self._rows, self._groups_of = rows, groups_of
        self._law, self._tokenizer, self._seed = law, tokenizer, seed
        self.restart()

    def restart(self) -> None:
        """Forget the duals, and the weights that follow from them, for another run."""
        self._duals: dict[int, Floats] | None = None
        self._largest: dict[int, float] = {}
        self._of_kept: dict[int, float] = {}
        self._weights = np.full(len(self._rows), np.nan)  # NaN: not judged yet, or without a completion

    def start(self, groups: Sequence[Group], fitted: Sequence[int], score: Score) -> dict[str, float]:
        """Solve for the duals of the ``fitted`` groups, once; every process of a run calls it at the same step.

        ``score`` gives statistics of the same rows in all of them. Returns what to log: by group how many rows were
        scored, and the share of them that is kept.
        """
        if self._duals is not None:
            return {}
        self._duals = {}
        scored: dict[int, Floats] = {}
        tokens: dict[int, Floats] = {}
        for number in fitted:
            mine = [
                i for i, group in enumerate(self._groups_of) if group == number and self._rows[i].completion
            ]
            sample = [self._rows[i] for i in spread(mine, CORPUS_SCORED)]
            if sample:
                tokens[number] = np.array([_num_trained(row) for row in sample], dtype=np.float64)
                scored[number] = score(groups[number].clauses, as_sampled(sample, self._law, self._tokenizer))
        kept = {number: found for number, found in scored.items() if not _hard(groups[number], found).all()}
        if kept:
            chosen = [groups[number] for number in kept]
            soft = SoftClauses.of(chosen)
            points = {
                index: state.set_point
                for group, columns in zip(chosen, soft.columns, strict=True)
                for index, state in zip(columns, group.controllers, strict=True)
            }
            parts = [_law(group, found) for group, found in zip(chosen, kept.values(), strict=True)]
            solved = np.zeros(0)
            if soft.indexes:
                solved = solve_by_rank(
                    group_laws(chosen, parts, soft),
                    np.array([points[k] for k in range(len(soft.indexes))]),
                    np.array([dual_cap(clause) for clause in soft.clauses]),
                    ranks_of(soft.clauses),
                )[0].duals
            self._duals = {
                number: np.maximum(
                    solved[list(columns)], [one.fixed_dual for one in groups[number].controllers]
                )
                for number, columns in zip(kept, soft.columns, strict=True)
            }
        logs = {}
        for number, found in scored.items():
            group, weights = groups[number], self._raw(groups[number], number, found)
            self._largest[number] = float(weights.max(initial=0.0)) or 1.0
            share = float(weights @ tokens[number]) / self._largest[number] / max(1.0, tokens[number].sum())
            self._of_kept[number] = min(MOST, 1 / max(share, 1e-9))
            logs[f"{group.name}/rows/judged"] = float(len(found))
            logs[f"{group.name}/rows/kept"] = float((weights / self._largest[number]).mean())
        return logs

    def drawn(
        self, numbers: Sequence[int], groups: Sequence[Group], active: Sequence[int], step: int, score: Score
    ) -> Tensor:
        """What training rows weigh in this step [n], 0 for those that are left out; ``score`` is of this process alone.

        The draw depends on the seed, the step and the row, not on batches or processes.
        Raises: ScorerError when a row cannot be scored.
        """
        for number in active:
            judged = [
                i for i in numbers
                if self._groups_of[i] == number and np.isnan(self._weights[i]) and self._rows[i].completion
            ]  # fmt: skip
            if judged and self._changes(groups[number], number):
                found = score(
                    groups[number].clauses,
                    as_sampled([self._rows[i] for i in judged], self._law, self._tokenizer),
                )
                raw = self._raw(groups[number], number, found) / self._largest[number]
                self._weights[judged] = np.minimum(raw, 1.0)
        return torch.tensor([self._weight(i, step, active) for i in numbers])

    def _weight(self, number: int, step: int, active: Sequence[int]) -> float:
        """Rows of groups that do not act now, and rows without a completion, weigh 1."""
        weight = self._weights[number]
        if np.isnan(weight) or self._groups_of[number] not in active:
            return 1.0
        is_kept = self._draw(number, step) < weight
        return self._of_kept[self._groups_of[number]] if is_kept else 0.0

    def _changes(self, group: Group, number: int) -> bool:
        """Whether some row of the group may weigh less than another."""
        assert group.target is not None
        if number not in self._largest:
            return False
        return bool(group.target.hard) or bool((self._duals or {}).get(number, np.zeros(1)).any())

    def _raw(self, group: Group, number: int, statistics: Floats) -> Floats:
        """Weights [n] before they are divided by the largest."""
        assert group.target is not None
        columns = [soft.clause for soft in group.target.soft]
        duals = (self._duals or {}).get(number, np.zeros(len(columns)))
        return np.where(_hard(group, statistics), 0.0, np.exp(-(statistics[:, columns] @ duals)))

    def _draw(self, number: int, step: int) -> float:
        return derived_seed(self._seed, "training row", step, number) / 2.0**63


def _num_trained(row: TokenRow) -> int:
    """Tokens that the language-model loss covers."""
    return sum(stop - start for start, stop in row.trained)


def _hard(group: Group, statistics: Floats) -> NDArray[np.bool_]:
    """Rows [n] that violate a hard clause."""
    assert group.target is not None
    return np.asarray((statistics[:, list(group.target.hard)] > 0).any(axis=1))


def _law(group: Group, statistics: Floats) -> GroupLaw:
    """The scored rows of a group as a law over as many bins."""
    assert group.target is not None
    values = statistics[:, [soft.clause for soft in group.target.soft]]
    law = np.full((1, len(values)), 1.0 / len(values))
    return GroupLaw(law, values, _hard(group, statistics), np.ones(values.shape[1], dtype=bool))
