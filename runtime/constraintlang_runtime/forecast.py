"""How long a whole run takes on this machine, from the times of a small one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from constraintlang_runtime.balance import most_refit_steps
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.progress import Progress

FIT = "auxiliary"  # as the fit calls itself where it tells its progress
STAGES = ("sampling", "scoring", "fitting")


@dataclass(frozen=True)
class Rounds:
    """The rounds of a run as they count for its time, each as often as it samples.

    ``starts`` is the number of the round that draws ``anchor_samples`` and makes the first fit, None without one;
    ``measured`` rounds draw ``control_samples``, and the last ``refits`` of them make a fit each. ``plain_steps`` come
    before the regularizer.
    """

    starts: int | None
    measured: int
    refits: int
    plain_steps: int

    @staticmethod
    def of(engine: ConstraintEngine) -> Rounds:
        """Those of an engine; ``ConstraintEngine.plan_round`` says what each does."""
        steps = range(0, engine.last_round_step + 1, engine.round_length)
        plans = [engine.plan_round(step) for step in steps if not engine.is_waiting(step)]
        starts = next((plan.number for plan in plans if plan.starts), None)
        acts = engine.config.method == "constraint"
        later = [plan for plan in plans if starts is not None and plan.number > starts]
        refits = len(later) - 1 if engine.config.regularizer.is_moving else 0  # none after the last step
        return Rounds(
            starts, len(plans) - (starts is not None), max(0, refits),
            engine.activation_step if acts else engine.max_steps,
        )  # fmt: skip


class StepWatch(TrainerCallback):
    """Times the optimizer steps of a run without their rounds, and its fits."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._began = progress, 0.0
        self.steps: list[float] = []
        self.fits: list[list[tuple[int, float]]] = []

    def progress(self, what: str, done: int, total: int) -> None:
        """Passes progress on; a fit tells how many steps it has done now and then."""
        if what == FIT:
            if not self.fits or done <= self.fits[-1][-1][0]:
                self.fits.append([])
            self.fits[-1].append((done, time.perf_counter()))
        if self._progress is not None:
            self._progress(what, done, total)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the round of this step, if any: the trainer's own callbacks come first."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After each optimizer step."""
        self.steps.append(time.perf_counter() - self._began)

    @property
    def fit_step(self) -> float:
        """Seconds of a step of a fit, between what it first and last told; 0 without any."""
        spans = [(marks[-1][1] - marks[0][1], marks[-1][0] - marks[0][0]) for marks in self.fits]
        return sum(span for span, _ in spans) / max(1, sum(number for _, number in spans))


def forecast(
    watch: StepWatch,
    history: Iterable[Mapping[str, Any]],
    small: tuple[ConstraintConfig, Rounds],
    wanted: tuple[ConstraintConfig, Rounds],
    *,
    processes: int = 1,
) -> dict[str, float]:
    """Seconds of the stages of the run ``wanted``, one after the other, from those of the run ``small``.

    Equation: steps before the regularizer and after its start, each by the last of its kind that was timed;
    completions by the fastest round's seconds for one, of sampling and of scoring, those of ``processes`` in batches
    that they share; fits by their steps, as many as they may take, and what was read for one by its completions.
    Checkpoints, evaluations, `preserve` rows and the scoring of training rows are not in it.
    ``small`` draws no more than one batch in a round, which one process samples.
    """
    (little, own), (config, plan) = small, wanted
    rounds: dict[int, dict[str, float]] = {}
    for record in history:
        for key, value in record.items():
            stage = key.rsplit("/", 1)[-1]
            if "/seconds/" in key and stage in STAGES:
                spent = rounds.setdefault(int(record["round"]), dict.fromkeys(STAGES, 0.0))
                spent[stage] += float(value)
    drawn = {
        number: little.anchor_samples if number == own.starts else little.control_samples for number in rounds
    }
    counts = [config.anchor_samples] * (plan.starts is not None) + [config.control_samples] * plan.measured
    steps = int(config.max_steps)
    plain = watch.steps[max(0, min(own.plain_steps, len(watch.steps)) - 1)]
    found = {
        "training": plan.plain_steps * plain + (steps - plan.plain_steps) * watch.steps[-1],
        "sampling": 0.0,
        "scoring": 0.0,
        "fitting": 0.0,
    }
    for count in counts:
        for stage in ("sampling", "scoring"):
            # a smaller round is not faster in proportion
            alike = [number for number in rounds if drawn[number] <= count] or list(rounds)
            rate = min((rounds[number][stage] / drawn[number] for number in alike), default=0.0)
            found[stage] += rate * count * (_share(count, config, processes) if stage == "sampling" else 1.0)
    whole = sum(spent["fitting"] for spent in rounds.values())
    if watch.fits:
        groups = len(watch.fits)
        done = groups * little.auxiliary_steps * little.auxiliary_ensemble
        reading = max(0.0, whole - watch.fit_step * done) / little.anchor_samples
        refit = (config.control_samples, most_refit_steps(config.auxiliary_steps))
        for samples, fit_steps in [(config.anchor_samples, config.auxiliary_steps), *[refit] * plan.refits]:
            found["fitting"] += reading * samples
            found["fitting"] += watch.fit_step * groups * fit_steps * config.auxiliary_ensemble
    return {stage: round(seconds, 3) for stage, seconds in found.items()}


def _share(count: int, config: ConstraintConfig, processes: int) -> float:
    """The part of a round's batches that the busiest process samples."""
    batches = -(-count // config.sampling_batch_size)
    return -(-batches // processes) / batches
