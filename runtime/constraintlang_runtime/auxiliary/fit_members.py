"""Fitting the members of an ensemble one after the other, and what they achieve together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from constraintlang_runtime.auxiliary.calibration import expected_error
from constraintlang_runtime.auxiliary.ensemble import Ensemble
from constraintlang_runtime.auxiliary.fit import FitReport, fit, heldout_loss, reliability_curve
from constraintlang_runtime.auxiliary.samples import AuxiliaryData, Reader, heldout_sequences


def fit_members(
    model: Ensemble,
    data: AuxiliaryData,
    anchor_logits: Callable[[Tensor], Tensor],
    *,
    seed: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> FitReport:
    """``fit`` for every member, with the same sequences held out; the report is of the mean law.

    ``options`` are those of ``fit``. Losses but ``heldout_loss`` are means over the members.
    """
    members = model.each()
    reports = []
    for number, member in enumerate(members):

        def counted(done: int, total: int, before: int = number) -> None:
            if progress is not None:
                progress(before * total + done, len(members) * total)

        shared: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "progress": counted}
        reports.append(fit(member, data, anchor_logits, member=number, **shared, **options))
    model.eval()
    held_out = heldout_sequences(data, seed)[data.sequence]
    test = Reader(model, data, torch.nonzero(held_out).squeeze(1))
    curve = reliability_curve(test, batch_size)

    def mean(name: str) -> float:
        return sum(getattr(report, name) for report in reports) / len(reports)

    return replace(
        reports[0],
        train_loss=mean("train_loss"),
        start_loss=mean("start_loss"),
        half_loss=mean("half_loss"),
        end_loss=mean("end_loss"),
        start_error=mean("start_error"),
        end_error=mean("end_error"),
        heldout_loss=heldout_loss(test, batch_size),
        calibration_error=expected_error(curve),
        curve=curve,
    )
