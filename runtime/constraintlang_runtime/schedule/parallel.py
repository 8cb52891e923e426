"""The parallel schedule as the training lane sees it: jobs go out at a round and come back a fixed number later.

Results of the jobs of round k are used from round k + staleness on, never earlier, whenever they were ready: what a
step sees depends on the seed alone, and a run is as reproducible as a sequential one.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.mishaps import damaged, require_finite
from constraintlang_runtime.ranks import from_main, rank_and_size
from constraintlang_runtime.rounds import FitRecord, Measured, RoundPlan
from constraintlang_runtime.schedule import records
from constraintlang_runtime.schedule.lanes import Lane, Promise, wait_for
from constraintlang_runtime.schedule.work import Beat, GroupFit, Terms, Weights, snapshot
from constraintlang_runtime.settling import is_open

T = TypeVar("T")
PENDING_FILE = "pending.json"
PENDING_TENSORS = "pending.safetensors"


class Bench(Protocol):
    """Where the jobs of a lane are done: in this process, or in another."""

    def measure(
        self, plan: RoundPlan, terms: Sequence[Terms], weights: Weights, beat: Beat
    ) -> list[Measured]:
        """Phase A of a round."""
        ...

    def fit(
        self,
        plan: RoundPlan,
        measured: Sequence[Measured],
        last: Sequence[GroupFit],
        weights: Weights,
        beat: Beat,
    ) -> list[GroupFit]:
        """Phase C of a round."""
        ...

    def release(self) -> None:
        """No more jobs."""
        ...


@dataclass(frozen=True, eq=False)
class Pending:
    """The jobs of a round: used from round ``due`` on; ``weights`` are those of its model where they become p_ref."""

    plan: RoundPlan
    due: int
    measured: Promise[list[Measured]]
    fits: Promise[list[GroupFit]] | None
    weights: dict[str, Tensor] | None


class ParallelSchedule:
    """Runs the rounds of an engine on lanes, while the caller trains.

    Round k samples and scores the model of round k, and fits the auxiliary model to these samples where the method
    fits. A frozen anchor is fitted once: ``start`` before the first step, ``tuned`` from its snapshot while training
    goes on without the regularizer. A result that is not there when it is due is waited for.

    ``benches`` are where the sampling and the fitting lane work; only the main process of the training ranks has them,
    the others are told the results.
    Raises, from every method: what ended a lane, TrainingError for a lane that hangs.
    """

    def __init__(
        self, engine: ConstraintEngine, benches: tuple[Bench, Bench] | None, *, staleness: int, timeout: float
    ) -> None:
        self._engine, self._benches, self._staleness = engine, benches, staleness
        self._pending: list[Pending] = []
        self._lanes: tuple[Lane, ...] = (
            () if benches is None else (Lane("sampling", timeout), Lane("fitting", timeout))
        )
        activation = engine.activation_step // engine.round_length
        self._acts_from = activation + (staleness if activation else 0)
        self._open = any(is_open(clause) for clause in engine.clauses)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The sampling and the fitting lane, where this process has them."""
        return self._lanes

    # ------------------------------------------------------------ rounds
    def before_step(self, model: Any, step: int) -> None:
        """Look after the lanes; at a round, use the results that are due and send out its jobs."""
        for lane in self._lanes:
            lane.check()
        if not self._engine.is_round(step):
            return
        require_finite(model, step)
        number = step // self._engine.round_length
        self._use(number, [pending for pending in self._pending if pending.due <= number], model)
        self._send(model, step)
        self._use(number, [pending for pending in self._pending if pending.due <= number], model)

    def finish(self, model: Any) -> None:
        """Use what is still out, and measure the model after the last step."""
        step = self._engine.last_round_step
        require_finite(model, step)
        number = step // self._engine.round_length
        self._use(number, list(self._pending), model)
        self._send(model, step)
        self._use(number, list(self._pending), model)
        self.close()

    def close(self) -> None:
        """The lanes get no more jobs."""
        for lane in self._lanes:
            lane.close()

    def _send(self, model: Any, step: int) -> None:
        """Send out the jobs of the round at this step."""
        engine = self._engine
        plan = engine.plan_round(step)
        engine.measure_budgets(model, plan, step)
        if engine.is_waiting(step):
            return
        at_once = step >= engine.max_steps or (plan.starts and step == 0)
        due = plan.number + (0 if at_once else self._staleness)
        if plan.refits and due * engine.round_length >= engine.max_steps:
            plan = replace(plan, refits=False)  # no step would use it
        fits = plan.starts or plan.refits
        taken = fits and engine.config.anchor in ("tuned", "previous")
        measured: Promise[list[Measured]] = Promise()
        fitted: Promise[list[GroupFit]] | None = Promise() if fits else None
        weights = snapshot(model) if taken or self._benches is not None else None
        if self._benches is not None:
            assert weights is not None
            terms = self._terms()
            sampling, fitting = self._lanes
            sampler, fitter = self._benches
            named = f"round {plan.number}"
            measured = sampling.submit(named, lambda: sampler.measure(plan, terms, weights, sampling.beat))
            if fits:
                last = self._last_fits()

                def fit() -> list[GroupFit]:
                    while not measured.is_given(1.0):
                        fitting.beat()  # it waits for the other lane, which has a time-out of its own
                    return fitter.fit(plan, measured.result, last.result, weights, fitting.beat)

                fitted = fitting.submit(named, fit)
        self._pending.append(Pending(plan, due, measured, fitted, weights if taken else None))

    def _terms(self) -> list[Terms]:
        """The clauses to measure; those that a measurement settles are waited for, because a statistic may change."""
        settling = [p for p in self._pending if self._open and (p.plan.number == 0 or p.plan.starts)]
        if settling:
            return [
                Terms(one.clauses, one.corpus_means) for one in wait_for(settling[-1].measured, self._lanes)
            ]
        return [Terms(group.clauses, group.corpus_means) for group in self._engine.groups]

    def _last_fits(self) -> Promise[list[GroupFit]]:
        """What a refit starts from: the fit before it, which its lane has done by then."""
        before = [pending.fits for pending in self._pending if pending.fits is not None]
        return before[-1] if before else Promise.kept([GroupFit.of(group) for group in self._engine.groups])

    def _use(self, number: int, chosen: Sequence[Pending], model: Any) -> None:
        """From round ``number`` on, train with the results of these rounds."""
        engine, started = self._engine, time.perf_counter()
        for pending in chosen:
            measured, fits = self._told(partial(self._results, pending))
            self._pending.remove(pending)
            for group, one in zip(engine.groups, measured, strict=True):
                group.clauses, group.corpus_means = one.clauses, one.corpus_means
            if (
                pending.plan.number > self._acts_from
            ):  # before, the regularizer had not acted on what was sampled
                engine.control_groups(measured, number * engine.round_length)
            if fits is not None:
                self._take_fits(pending, fits, model)
            empty = [FitRecord() for _ in measured]
            engine.end_round(measured, [f.record for f in fits] if fits else empty, applied=number)
        if chosen:
            engine.log({"schedule/seconds/waiting": round(time.perf_counter() - started, 3)})

    def _results(self, pending: Pending) -> tuple[list[Measured], list[GroupFit] | None]:
        measured = wait_for(pending.measured, self._lanes)
        return measured, None if pending.fits is None else wait_for(pending.fits, self._lanes)

    def _told(self, results: Callable[[], T]) -> T:
        """What the main process of the training ranks has, in all of them."""
        if rank_and_size()[1] == 1:
            return results()
        outcome: Any = None
        if self._benches is not None:
            try:
                outcome = results()
            except Exception as error:  # the other processes wait for it
                outcome = error
        outcome = from_main(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _take_fits(self, pending: Pending, fits: Sequence[GroupFit], model: Any) -> None:
        """Put a fit and its p_ref in place; the controllers are those of the fit only when the regularizer starts."""
        engine = self._engine
        if pending.weights is None:
            engine.take_anchor(model)
        else:
            engine.anchor = Anchor(model, pending.weights)
        device = next(model.parameters()).device
        for group, fit in zip(engine.groups, fits, strict=True):
            group.target, group.bin_values, group.balance = fit.target, fit.bin_values, fit.balance
            group.head = copy.deepcopy(fit.head)
            if group.head is not None:
                group.head.to(device)
            group.stamps["auxiliary"] = pending.plan.number
            if pending.plan.starts:
                group.controllers, group.fitted_exponent = fit.controllers, fit.fitted_exponent
                group.stamps["duals"] = pending.plan.number
        engine.attach()
        self._release_fitting()

    def _release_fitting(self) -> None:
        """A frozen anchor is fitted once."""
        is_fitted = self._engine.anchor is not None and not self._engine.config.regularizer.is_moving
        if self._benches is not None and is_fitted:
            self._benches[1].release()

    # ------------------------------------------------------------ checkpoints
    def save(self, folder: Path) -> None:
        """Wait for what is out, and write it with its stamps; it is used when it is due, as if nothing was written."""
        rounds: list[dict[str, Any]] = []
        tensors: dict[str, Tensor] = {}
        for number, pending in enumerate(self._pending):
            measured, fits = self._results(pending)
            record, found = records.pack_measured(measured)
            tensors |= records.under(f"{number}.measured.", found)
            entry = {"plan": asdict(pending.plan), "due": pending.due, "measured": record, "fits": None}
            if fits is not None:
                entry["fits"], found = records.pack_fits(fits)
                tensors |= records.under(f"{number}.fits.", found)
            if pending.weights is not None:
                whole = {name: weight.cpu().contiguous() for name, weight in pending.weights.items()}
                tensors |= records.under(f"{number}.weights.", whole)
            rounds.append(entry)
        save_file(tensors, folder / PENDING_TENSORS)
        (folder / PENDING_FILE).write_text(
            json.dumps({"staleness": self._staleness, "rounds": rounds}, default=str)
        )

    def load(self, folder: Path, device: torch.device) -> None:
        """Restore what ``save`` wrote. Raises: TrainingError for a damaged checkpoint."""
        try:
            rounds = json.loads((folder / PENDING_FILE).read_text())["rounds"]
            tensors = load_file(folder / PENDING_TENSORS)
        except (OSError, json.JSONDecodeError, KeyError, SafetensorError) as error:
            raise damaged(folder, f"the lanes' results cannot be read: {error}") from error
        self._pending = []
        for number, entry in enumerate(rounds):
            own = records.below(tensors, f"{number}.")
            weights = {name: w.to(device) for name, w in records.below(own, "weights.").items()}
            fits = entry["fits"]
            self._pending.append(
                Pending(
                    RoundPlan(**entry["plan"]), entry["due"],
                    Promise.kept(records.unpack_measured(entry["measured"], records.below(own, "measured."))),
                    None if fits is None
                    else Promise.kept(records.unpack_fits(fits, records.below(own, "fits."))),
                    weights or None,
                )
            )  # fmt: skip
        self._release_fitting()
