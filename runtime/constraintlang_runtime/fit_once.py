"""Fits and first controllers of a round, made in the first process and told to all: no rounding sets them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import torch

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.auxiliary import FitReport
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.clock import Clock
from constraintlang_runtime.controlling import start_controllers
from constraintlang_runtime.fitting import (
    Fitted,
    ScoredCorpus,
    explained_share,
    fit_auxiliary,
    potential_exponent,
)
from constraintlang_runtime.groups import Group
from constraintlang_runtime.ranks import from_main, rank_and_size
from constraintlang_runtime.round_records import fit_logs
from constraintlang_runtime.rounds import FitRecord, Measurement, RoundPlan
from constraintlang_runtime.sampling import prompt_texts
from constraintlang_runtime.settings import ConstraintSettings

Outcome = TypeVar("Outcome")


def fit_groups(
    plan: RoundPlan, groups: Sequence[Group], found: Sequence[Measurement], anchor: Anchor, config: ConstraintSettings,
    tokenizer: Any, *, seeds: Sequence[int], corpus_of: Callable[[Group, int, int], ScoredCorpus | None],
    num_statements: int, progress: Callable[[str, int, int], None] | None, rehearsal: bool = False,
) -> list[FitRecord]:  # fmt: skip
    """Fit the auxiliary model of each group on its samples; start the controllers of all, as planned.

    ``corpus_of`` gives the scored training rows that are fitted beside so many samples of a group, by a seed.
    """
    records: list[FitRecord] = []
    fits: list[Fitted] = []  # in the main process
    for group, one, seed in zip(groups, found, seeds, strict=True):
        if not (plan.starts or group.is_active):
            records.append(FitRecord())
            continue
        clock, last = Clock(), group.balance
        corpus = corpus_of(group, len(one.rows), seed)
        report = fit_once(
            group, anchor, one, config, tokenizer, fits, seed=seed, corpus=corpus, progress=progress
        )
        assert group.head is not None
        group.head.attach(anchor)
        group.stamps |= {"auxiliary": plan.number} | ({"duals": plan.number} if plan.starts else {})
        clock.lap("fitting")
        records.append(FitRecord(fit_logs(report, last, one.proposals), clock.laps))
    if not plan.starts or not groups:
        return records
    started = start_once(
        groups, anchor, fits, found, config, tokenizer, num_statements=num_statements, rehearsal=rehearsal
    )
    return [
        FitRecord(record.logs | more, record.seconds) for record, more in zip(records, started, strict=True)
    ]


def fit_once(
    group: Group, anchor: Anchor, found: Measurement, config: ConstraintSettings, tokenizer: Any, fits: list[Fitted],
    *, seed: int, corpus: ScoredCorpus | None, progress: Callable[[str, int, int], None] | None = None,
) -> FitReport:  # fmt: skip
    """``fit_auxiliary`` in the first process, which adds the whole fit to ``fits``, and its outcome in all."""

    def fit() -> FitReport:
        fitted = fit_auxiliary(
            group, anchor, found.rows, found.statistics, config, pad_token(tokenizer), seed=seed,
            progress=progress, corpus=corpus, proposals=found.proposals,
        )  # fmt: skip
        fits.append(fitted)
        return fitted.report

    return _from_main([group], anchor, fit)


def start_once(
    groups: Sequence[Group], anchor: Anchor, fits: Sequence[Fitted], found: Sequence[Measurement],
    config: ConstraintSettings, tokenizer: Any, *, num_statements: int, rehearsal: bool = False,
) -> list[dict[str, float]]:  # fmt: skip
    """The start of all controllers in the first process and its outcome in all; returns what to log of each group."""
    return _from_main(
        groups, anchor,
        lambda: _start(groups, anchor, fits, found, config, tokenizer, num_statements, rehearsal),
    )  # fmt: skip


def _start(
    groups: Sequence[Group], anchor: Anchor, fits: Sequence[Fitted], found: Sequence[Measurement],
    config: ConstraintSettings, tokenizer: Any, num_statements: int, rehearsal: bool,
) -> list[dict[str, float]]:  # fmt: skip
    logs = start_controllers(
        groups, [fitted.law for fitted in fits], found, config, num_statements,
        partial(prompt_texts, tokenizer=tokenizer), [fitted.seen for fitted in fits],
        rehearsal,
    )  # fmt: skip
    for group, fitted, record in zip(groups, fits, logs, strict=True):
        if group.is_vacuous():
            continue
        assert group.head is not None
        share = explained_share(group.head, fitted.heldout, anchor, -group.log_potential())
        # a moving anchor tilts again in every round, which makes up for a weak auxiliary model by itself
        by_rule = 1.0 if config.regularizer.is_moving else potential_exponent(share)
        group.fitted_exponent = config.potential_exponent or by_rule
        record |= {"auxiliary/explained_share": share, "exponent": group.fitted_exponent}
    return logs


def _from_main(groups: Sequence[Group], anchor: Anchor, work: Callable[[], Outcome]) -> Outcome:
    """What the first process makes of some groups, in all processes."""
    outcome: Any = None
    if rank_and_size()[0] == 0:
        try:
            outcome = work()
        except Exception as error:  # the other processes wait for it
            outcome = error
    for group in groups:
        if group.head is not None:
            group.head.cpu()  # tensors of a GPU would be unpacked on that very GPU by every process
    outcome, states = from_main((outcome, [group.fitted_state() for group in groups]))
    if isinstance(outcome, Exception):
        raise outcome
    device: torch.device = next(anchor.model.parameters()).device
    for group, state in zip(groups, states, strict=True):
        group.take_fitted(state, device)
    return cast("Outcome", outcome)
