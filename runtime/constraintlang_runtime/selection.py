"""Which checkpoint a run keeps: first the one whose clauses are met, then the one of least loss.

Every candidate answers the same prompts, which are apart from those of training and of verification, from the same
seed, so that two checkpoints differ by their weights alone. ``estimate <= limit`` is what `met` says; the limit is the
clause's set-point plus one standard error of this sample, and never beyond its bound: at the bound itself, a later
verification would fail as often as not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np

from constraintlang_compiler.decimals import decimal_text
from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.grouping import assign_groups
from constraintlang_runtime.groups import set_point_of
from constraintlang_runtime.ranks import from_main
from constraintlang_runtime.rounds import Floats, measure
from constraintlang_runtime.row_losses import of_all_processes, row_losses
from constraintlang_runtime.sampling import derived_seed
from constraintlang_runtime.settling import is_open

ROWS_TOGETHER = 8

Record = dict[str, Any]


@dataclass
class Selection:
    """Measurements of checkpoints: ``prompts`` are answered, ``rows`` give the loss; ``records`` in order of steps."""

    prompts: list[TokenRow]
    rows: list[TokenRow]
    records: list[Record] = field(default_factory=list)
    _judged_rows: list[TokenRow] | None = None

    @property
    def best(self) -> int | None:
        """The step of the checkpoint to keep; None when none was measured."""
        return best_step(self.records)

    def measure(self, engine: ConstraintEngine, model: Any, step: int) -> None:
        """Add a checkpoint; without an acting regularizer only the one of the last step is a candidate.

        None is while a lane still has the samples that give a clause its bound.
        """
        acts = engine.config.method != "constraint" or any(group.is_active for group in engine.groups)
        is_settled = not any(is_open(clause) for group in engine.groups for clause in group.clauses)
        if not is_settled or (not acts and step < engine.max_steps):
            return
        clauses = [*self._clauses(engine, model), *_budgets(engine, model)]
        rows = self._rows(engine)
        loss: float | None = None
        if rows:
            nll, counts = of_all_processes(
                row_losses, model, engine.tokenizer, rows, batch_size=ROWS_TOGETHER
            )
            loss = float(np.sum(nll) / max(1.0, np.sum(counts)))
        record = from_main({"step": step, "clauses": clauses, "utility_loss": loss})
        self.records = [*(r for r in self.records if r["step"] != step), record]

    def report(self) -> list[Record]:
        """The records with the choice marked."""
        best = self.best
        return [{**record, "chosen": record["step"] == best} for record in self.records]

    def _clauses(self, engine: ConstraintEngine, model: Any) -> list[Record]:
        """What the samples of a checkpoint say of every clause about responses, over all groups together."""
        scopes = assign_groups(engine.policy.ir, [row.tags for row in self.prompts], engine.config.adaptive)
        values: dict[int, list[Floats]] = {}
        units: dict[int, set[tuple[str, tuple[int, ...]]]] = {}
        bound: dict[int, list[Clause]] = {}
        for group in engine.groups:
            mine = [row for row, scope in zip(self.prompts, scopes, strict=True) if scope == group.indexes]
            if not mine:
                continue
            share = len(mine) / sum(bool(scope) for scope in scopes)
            found = measure(
                model, engine.tokenizer, engine.pool, replace(group, prompts=mine), engine.config,
                count=max(1, round(share * max(engine.config.selection_prompts, len(self.prompts)))),
                seed=derived_seed(engine.seed, "selection", group.name), progress=engine.progress,
                sampler=engine.sampler,
            )  # fmt: skip
            for column, index in enumerate(group.indexes):
                values.setdefault(index, []).append(found.statistics[:, column])
                units.setdefault(index, set()).update((group.name, row.prompt) for row in found.rows)
                bound.setdefault(index, []).append(group.clauses[column])
        return [
            judge(pooled(bound[index], values[index]), np.concatenate(values[index]), engine)
            | {"prompts": len(units[index])}
            for index in sorted(values)
        ]

    def _rows(self, engine: ConstraintEngine) -> list[TokenRow]:
        """The held-out rows without those that break a statement about single responses: an obedient model cannot
        write them, and should not be blamed for it.
        """
        if self._judged_rows is None:
            scopes = assign_groups(engine.policy.ir, [row.tags for row in self.rows], engine.config.adaptive)
            broken: set[int] = set()
            for scope in dict.fromkeys(scope for scope in scopes if scope):
                mine = [i for i, own in enumerate(scopes) if own == scope]
                clauses = [engine.clauses[i] for i in scope if engine.clauses[i].kind == "violation"]
                if clauses:
                    found = engine.score(clauses, [self.rows[i] for i in mine])
                    broken.update(mine[i] for i in np.flatnonzero((found > 0).any(axis=1)))
            kept = [row for i, row in enumerate(self.rows) if i not in broken]
            self._judged_rows = kept or self.rows
        return self._judged_rows


def pooled(clauses: Sequence[Clause], values: Sequence[Floats]) -> Clause:
    """One clause for all groups: bounds that were measured per group are averaged over their samples."""
    bounds = [float(clause.bound) for clause in clauses]
    if len(set(bounds)) == 1:
        return clauses[0]
    mean = float(np.average(bounds, weights=[len(v) for v in values]))
    return msgspec.structs.replace(clauses[0], bound=decimal_text(Fraction(str(round(mean, 6)))))


def judge(clause: Clause, values: Floats, engine: ConstraintEngine) -> Record:
    """A clause on the samples [n] of one checkpoint: estimate, limit, and by how much it is missed.

    Equation: limit = min(bound, s + sqrt(var / n)), s the set-point, var = s (1 - s) for an indicator and the sample's
    else; excess = max(0, (estimate - limit) / max(limit, 1/n)).
    """
    count, estimate, std = len(values), float(values.mean()), float(values.std())
    point = set_point_of(clause, engine.config, len(engine.policy.ir.clauses), std)
    spread = (point * (1 - point)) ** 0.5 if isinstance(clause.statistic, Indicator) else std
    limit = min(float(clause.bound), point + spread / count**0.5) if not clause.hard else 0.0
    excess = max(0.0, (estimate - limit) / max(limit, 1.0 / count))
    return {
        "clause": clause.name,
        "strength": clause.strength,
        "priority": clause.priority,
        "weight": float(clause.weight),
        "estimate": as_written(clause, estimate),
        "limit": as_written(clause, limit),
        "bound": as_written(clause, float(clause.bound)),
        "samples": count,
        "excess": excess,
        "met": excess == 0.0,
    }


def as_written(clause: Clause, mean: float) -> float:
    """A mean of the statistic as the quantity that the policy names."""
    return float(clause.shown.offset) + clause.shown.scale * mean


def _budgets(engine: ConstraintEngine, model: Any) -> list[Record]:
    """The `preserve` clauses about rows, in the same form; they are met up to their bound."""
    records = []
    for budget in engine.budgets.budgets:
        if not budget.rows or budget.base is None:
            continue
        value = budget.measure(model, engine.tokenizer)
        excess = max(0.0, budget.spend(value) - 1.0)
        records.append(
            {
                "clause": budget.clause.name,
                "strength": budget.clause.strength,
                "priority": budget.clause.priority,
                "weight": float(budget.clause.weight),
                "estimate": budget.shown(value),
                "limit": budget.bound,
                "bound": budget.bound,
                "samples": len(budget.rows),
                "excess": excess,
                "met": excess == 0.0,
            }
        )
    return records


def best_step(records: Sequence[Mapping[str, Any]]) -> int | None:
    """The step to keep: least excess at the lowest priority number, then at the next, then of what is only preferred
    (by weight), then least loss, then the latest.
    """
    priorities = sorted(
        {c["priority"] for record in records for c in record["clauses"] if c["strength"] != "prefer"}
    )

    def order(record: Mapping[str, Any]) -> tuple[float, ...]:
        clauses = record["clauses"]
        hard = [
            sum(c["excess"] for c in clauses if c["priority"] == p and c["strength"] != "prefer")
            for p in priorities
        ]
        preferred = sum(c["weight"] * c["excess"] for c in clauses if c["strength"] == "prefer")
        loss = record["utility_loss"]
        return (*hard, preferred, float("inf") if loss is None else loss, -record["step"])

    best = min(records, key=order, default=None)
    return None if best is None else int(best["step"])
