"""What a round logs of a group: its clauses, its controllers and its fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from constraintlang_runtime.auxiliary import FitReport
from constraintlang_runtime.balance import Balance
from constraintlang_runtime.groups import Group
from constraintlang_runtime.pooling import Pooled
from constraintlang_runtime.rounds import Proposals


def round_record(
    group: Group, found: Mapping[int, Pooled], counts: Mapping[int, int], logs: dict[str, float]
) -> dict[str, Any]:
    """What a round logs of one group: its own keys under its name, and a family of keys per clause.

    ``found`` and ``counts`` are by clause, over all its groups, so a clause reads the same in each.
    """
    record: dict[str, Any] = {f"{group.name}/{key}": value for key, value in logs.items()}
    states = (
        {soft.clause: state for soft, state in zip(group.target.soft, group.controllers, strict=True)}
        if group.target is not None and group.controllers
        else {}
    )
    if states or group.hard_control is not None:
        record[f"{group.name}/weight"] = group.weight
    for column, (index, clause) in enumerate(zip(group.indexes, group.clauses, strict=True)):
        pooled = found[index]
        prefix = f"constraint/{clause.name}"
        record |= {
            f"{prefix}/value": pooled.mean,
            f"{prefix}/standard_error": pooled.standard_error,
            f"{prefix}/samples": counts[index],
            f"{prefix}/prompts": pooled.num_prompts,
            f"{prefix}/bound": float(clause.bound),
        }
        if column in states:
            record |= {
                f"{prefix}/dual": states[column].dual,
                f"{prefix}/weight": states[column].weight,
                f"{prefix}/set_point": states[column].set_point,
            }
    return record


def fit_logs(report: FitReport, last: Balance | None, proposals: Proposals | None) -> dict[str, Any]:
    """What a fit logs of itself; ``last`` is the balance after the fit before, None when it is the first."""
    return {
        "auxiliary/heldout_loss": report.heldout_loss,
        "auxiliary/constant_loss": report.constant_loss,
        "auxiliary/steps": report.steps,
        "auxiliary/speed": report.gain,
        **({} if last is None else {"auxiliary/speed_lm": last.speed_lm(report)}),
        "auxiliary/late_gain": report.late_gain,
        "auxiliary/calibration_error": report.calibration_error,
        "auxiliary/reliability": [[c.predicted, c.actual, c.count] for c in report.curve],
        **({} if proposals is None else {"auxiliary/proposal_ess": proposals.effective_size}),
    }
