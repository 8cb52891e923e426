"""Budgets of `preserve` clauses: what the model may lose on held-out rows, and the weight that keeps it.

Every budget has a multiplier κ of its own, the weight of KL(p_0 ‖ p_θ) on the training rows of its domain. κ starts at
``preserve_weight`` and moves on its logarithm with the share of the budget that is spent; while a budget is overdrawn
and raising the clauses' own weights is what seems to cost it, they are not raised (``hold_back``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import Clause, RowsLoss
from constraintlang_runtime.control import ControllerState
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import TrainingError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.row_losses import of_all_processes, row_answers, row_losses
from constraintlang_runtime.tag_values import none_in_domain

NEAR = 0.8  # the share of a budget at which its weight stands still: above it rises, below it falls
REACH = 0.2  # distance from NEAR at which the weight moves fastest
FASTEST = math.log(2.0)  # change of log κ in a round
MOST_GROWTH = math.log(64.0)
SMALLEST_ALLOWANCE = 0.01  # nats or share of right answers; a clause that allows less is measured in these
ROWS_TOGETHER = 8

Tell = Callable[[str], None]


@dataclass
class Budget:
    """One `preserve` clause about rows: ``rows`` measure it, ``growth`` is log κ - log κ_0.

    ``base`` and ``value`` are mean NLL per token or share of right answers, of the start model and at the last
    measurement; ``spent`` is the share of what the clause allows, above 1 when it is broken, ``at_start`` that share
    when the regularizer began; ``hits`` are the steps at which it was found broken.
    """

    clause: Clause
    rows: list[TokenRow]
    start_weight: float
    growth: float = 0.0
    base: float | None = None
    value: float | None = None
    spent: float | None = None
    at_start: float | None = None
    is_costly: bool = False  # overdrawn since the regularizer acts, and not coming back
    hits: list[int] = field(default_factory=list)

    @property
    def weight(self) -> float:
        """κ."""
        return self.start_weight * math.exp(self.growth)

    @property
    def is_hit(self) -> bool:
        """Whether the last measurement broke the clause."""
        return self.spent is not None and self.spent > 1.0

    @property
    def quantity(self) -> str:
        """What the clause speaks of: perplexity or accuracy."""
        assert isinstance(self.clause.statistic, RowsLoss)
        return self.clause.statistic.quantity

    def shown(self, value: float) -> float:
        """A mean as people read it: a perplexity, or a share of right answers."""
        # kept below the largest float: a model may have diverged
        return math.exp(min(value, 700.0)) if self.quantity == "perplexity" else value

    @property
    def bound(self) -> float:
        """The clause's bound as people read it: ``factor * base + offset``."""
        assert self.base is not None
        return float(self.clause.base_factor or 0) * self.shown(self.base) + float(self.clause.bound)

    def measure(self, model: Any, tokenizer: Any) -> float:
        """The mean over the rows: nats per token, or the share of right answers."""
        means = row_losses if self.quantity == "perplexity" else row_answers
        sums, counts = of_all_processes(means, model, tokenizer, self.rows, batch_size=ROWS_TOGETHER)
        return float(np.sum(sums) / max(1.0, np.sum(counts)))

    def spend(self, value: float) -> float:
        """The share of the budget that a mean spends: 0 at the start model, 1 at the bound.

        Equation: 1 + s (v - b) / max(s (b - v_0), 0.01), v in nats (log bound for a perplexity) or shares, s = 1 where
        small is good and -1 where large is.
        Raises: TrainingError for a bound that no model has.
        """
        assert self.base is not None
        bound = self.bound
        if self.quantity == "perplexity":
            if bound <= 0:
                raise TrainingError(
                    f"clause `{self.clause.name}`: its bound is {bound:.4g}, a perplexity is at least 1",
                    help="loosen the factor or the offset of `base`",
                )
            bound = math.log(bound)
        sign = -1.0 if self.clause.at_least else 1.0
        return 1.0 + sign * (value - bound) / max(sign * (bound - self.base), SMALLEST_ALLOWANCE)

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: everything but clause, rows and setting."""
        names = ("growth", "base", "value", "spent", "at_start", "is_costly", "hits")
        return {"clause": self.clause.name, **{name: getattr(self, name) for name in names}}

    def report(self) -> dict[str, Any]:
        """The budget's entry in the record of a run."""
        known = {
            "clause": self.clause.name,
            "quantity": self.quantity,
            "at_least": self.clause.at_least,
            "rows": len(self.rows),
            "weight": self.weight,
            "steps_hit": list(self.hits),
        }
        if self.base is None or self.value is None:
            return known
        return known | {
            "base": self.shown(self.base),
            "bound": self.bound,
            "value": self.shown(self.value),
            "spent": self.spent,
            "holds": not self.is_hit,
        }


@dataclass
class Budgets:
    """All budgets of a run; none when the policy has no `preserve` clause about rows."""

    budgets: list[Budget] = field(default_factory=list)

    @staticmethod
    def of(clauses: Sequence[Clause], heldout: Sequence[TokenRow], start_weight: float) -> Budgets:
        """One budget per utility clause; one without held-out rows in its domain is verified only."""
        return Budgets(
            [
                Budget(clause, [row for row in heldout if matches(clause.domain, row.tags)], start_weight)
                for clause in clauses
            ]
        )

    def restarted(self) -> Budgets:
        """The budgets as they were before the first measurement."""
        return Budgets([Budget(one.clause, one.rows, one.start_weight) for one in self.budgets])

    @property
    def unmeasured(self) -> list[str]:
        """Names of the clauses that no row measures in training."""
        return [budget.clause.name for budget in self.budgets if not budget.rows]

    def unmeasured_because(self, tags: Sequence[Mapping[str, Any]]) -> list[str]:
        """Of each clause that no row measures, why; ``tags`` are those of the rows that are trained on."""
        found = []
        for clause in (budget.clause for budget in self.budgets if not budget.rows):
            if any(matches(clause.domain, own) for own in tags):
                found.append(
                    f"no held-out row lies in the domain of `{clause.name}`: no round measures it, and its weight "
                    "stays `preserve_weight`"
                )
            else:
                why = none_in_domain("training row", clause, clause.domain, tags)
                found.append(f"{why}: training does not act on it, and it is verified only")
        return found

    def covers(self, tags: Mapping[str, Any]) -> list[bool]:
        """For each budget whether a row with these tags lies in its domain."""
        return [matches(budget.clause.domain, tags) for budget in self.budgets]

    def row_weights(self, covered: Tensor) -> Tensor:
        """κ of each row [B], the largest of its budgets; 0 for a row under none. ``covered`` is [B, budgets]."""
        weights = covered.new_tensor([budget.weight for budget in self.budgets], dtype=covered.float().dtype)
        return (covered * weights).amax(dim=1)

    def measure(self, model: Any, tokenizer: Any, step: int, *, acts: bool, tell: Tell) -> dict[str, float]:
        """Measure every budget and move its weight; returns what to log.

        The first call, before the first step, measures the start model. ``acts``: the regularizer acts or starts now.
        """
        logs: dict[str, float] = {}
        for budget in self.budgets:
            if not budget.rows:
                continue
            value = budget.measure(model, tokenizer)
            if budget.base is None:
                budget.base = value
            was_hit, before = budget.is_hit, budget.spent
            take(budget, value, before, acts=acts)
            assert budget.spent is not None
            if budget.is_hit:
                budget.hits.append(step)
            name = f"`{budget.clause.name}`"
            stands = f"{budget.quantity} {budget.shown(value):.4g}, bound {budget.bound:.4g}"
            if budget.is_hit and not was_hit:
                tell(
                    f"warning: the budget of {name} is hit at step {step}: {stands}; "
                    + ("preserve_weight is 0, so nothing holds it" if budget.start_weight == 0 else
                       f"its weight goes to {budget.weight:.3g}")
                )  # fmt: skip
            elif was_hit and not budget.is_hit:
                tell(f"the budget of {name} is kept again at step {step}: {stands}")
            prefix = f"preserve/{budget.clause.name}"
            logs |= {
                f"{prefix}/{budget.quantity}": budget.shown(value),
                f"{prefix}/bound": budget.bound,
                f"{prefix}/spent": budget.spent,
                f"{prefix}/weight": budget.weight,
            }
        return logs

    def held_by(self, clause: Clause) -> Clause | None:
        """The clause of a budget that this clause must not cost more, if there is one."""
        return next((b.clause for b in self.budgets if b.is_costly and goes_before(b.clause, clause)), None)

    def state(self) -> list[dict[str, Any]]:
        """JSON form for the checkpoint."""
        return [budget.to_dict() for budget in self.budgets]

    def load(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Inverse of ``state``; ValueError when the clauses differ."""
        for budget, record in zip(self.budgets, state, strict=True):
            if record["clause"] != budget.clause.name:
                raise ValueError(f"it has the budget of {record['clause']}, expected {budget.clause.name}")
            for name, value in record.items():
                if name != "clause":
                    setattr(budget, name, list(value) if name == "hits" else value)


def take(budget: Budget, value: float, before: float | None, *, acts: bool) -> None:
    """Enter a measurement: what is spent, whether the clauses must be held back, and the next weight.

    Equation: log κ += log 2 · clip((spent - 0.8) / 0.2, ±1), kept in [log κ_0, log κ_0 + log 64].
    """
    spent = budget.spend(value)
    if acts and budget.at_start is None:
        budget.at_start = spent
    grew = budget.at_start is not None and spent > budget.at_start
    comes_back = before is not None and before > 1 and spent - 1 <= 0.9 * (before - 1)
    error = max(-1.0, min(1.0, (spent - NEAR) / REACH))
    budget.value, budget.spent = value, spent
    budget.is_costly = spent > 1 and grew and not comes_back
    budget.growth = max(0.0, min(MOST_GROWTH, budget.growth + FASTEST * error))


def goes_before(budget: Clause, clause: Clause) -> bool:
    """Whether a budget is held against a clause: by priority, then before what is only preferred.

    A lower priority number is never traded for a higher one (REFERENCE, `priority`); at equal numbers `preserve` is as
    hard as `require`, and neither is given up for the other's sake by pushing further.
    """
    return (budget.priority, False) <= (clause.priority, clause.strength == "prefer")


def hold_back(before: ControllerState, after: ControllerState) -> ControllerState:
    """A control step that raises nothing: the dual and the weight stay where they were, or fall."""
    return replace(
        after,
        value=min(after.value, before.value),
        weight=min(after.weight, before.weight),
        doublings=min(after.doublings, before.doublings),
    )


def hold_groups(
    groups: Sequence[Group],
    before: Sequence[Sequence[ControllerState]],
    budgets: Budgets,
    step: int,
    tell: Tell,
) -> dict[str, float]:
    """Undo what a control step raised at the cost of a budget; returns what to log, 1 for a held clause."""
    logs: dict[str, float] = {}
    for group, old_states in zip(groups, before, strict=True):
        assert group.target is not None
        kept = []
        for soft, old, new in zip(group.target.soft, old_states, group.controllers, strict=True):
            clause = group.clauses[soft.clause]
            keeper = budgets.held_by(clause)
            held = new if keeper is None else hold_back(old, new)
            kept.append(held)
            if keeper is None or f"held/{clause.name}" in logs:  # a clause has one dual in all its groups
                continue
            logs[f"held/{clause.name}"] = float(held != new)
            if held != new:
                tell(
                    f"warning: `{clause.name}` is not pushed further at step {step} (dual {held.dual:.3g}): the budget "
                    f"of `{keeper.name}` is overdrawn"
                )
        group.controllers = kept
    return logs
