"""The share of a reference model's readings of rows that takes a pass, where its hidden states are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from constraintlang_runtime.estimate.model_shape import ModelShape
from constraintlang_runtime.estimate.workload import Workload
from constraintlang_runtime.settings import ConstraintSettings


@dataclass(frozen=True)
class Passes:
    """Shares in [0, 1] of the readings at which the layers run: of the anchor, and of the start model on rows of
    `preserve` domains. ``reads`` is False where the anchor is the student's own pass.
    """

    anchor: float = 1.0
    start: float = 1.0
    reads: bool = True


def passes(
    shape: ModelShape, load: Workload, config: ConstraintSettings, *, element: int, devices: int
) -> Passes:
    """Count them: a row is computed at its first reading, and again at each one where the cache has no room for it.

    Corpus rows come in epochs without repetition; ``fresh`` has how many of the readings are first ones. Samples to
    which the auxiliary model was fitted are known already; of the later ones each is counted once (an upper bound: they
    are drawn with replacement). ``element`` are the bytes of a number of a hidden state.
    """
    start = _preserved(load, devices) if config.anchor_cache_gib else 1.0
    if config.anchor == "current" and config.loss != "plain":
        return Passes(anchor=0.0, start=start, reads=False)
    if not config.anchor_cache_gib:
        return Passes()
    if config.regularizer.is_moving or not load.active_steps:
        return Passes(start=start)
    micro = load.micro_batches * devices
    corpus = load.active_steps * micro * load.constrained_rows
    sampled = float(load.active_steps * micro * load.sampled_rows)
    before = (load.steps - load.active_steps) * micro * load.constrained_rows
    own = fresh(corpus, load.rows * load.constrained, before)
    new = _new_samples(sampled, load, config)
    numbers = own * load.completion_tokens + new * load.new_tokens
    room = config.anchor_cache_gib * 2**30 / (shape.hidden * element)
    kept = min(1.0, room / numbers) if numbers else 1.0
    readings = corpus + sampled
    first = (own + new) / readings if readings else 1.0
    return Passes(anchor=1 - kept * (1 - first), start=start)


def fresh(readings: float, rows: float, before: float) -> float:
    """First readings among ``readings`` of ``rows`` rows in epochs, after ``before`` readings that were not kept.

    The rest of the epoch that is under way is new; of the next one, in another order, the share that was not in it.
    """
    if rows <= 0:
        return 0.0
    rest = rows - before % rows
    first = min(readings, rest)
    return first + min(readings - first, rows) * (1 - rest / rows)


def _preserved(load: Workload, devices: int) -> float:
    readings = load.steps * load.micro_batches * devices * load.batch * load.preserved
    return fresh(readings, load.rows * load.preserved, 0.0) / readings if readings else 1.0


def _new_samples(readings: float, load: Workload, config: ConstraintSettings) -> float:
    """Readings of samples that came after the fit: a round replaces the oldest of ``anchor_samples`` in the store."""
    length = max(1, math.ceil(load.steps / config.rounds))
    rounds = max(1, math.ceil(load.active_steps / length))
    later = [min(1.0, number * load.control_samples / load.start_samples) for number in range(rounds)]
    drawn = (rounds - 1) * load.control_samples * len(load.bins)
    return min(readings * sum(later) / rounds, float(drawn))
