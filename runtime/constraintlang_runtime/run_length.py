"""How long a run is: so many optimizer steps, or so many epochs; no torch."""

from __future__ import annotations

import math

from constraintlang_runtime.errors import ConfigError

MAX_STEPS = 1000  # of a run that says neither


def checked_steps(max_steps: int, epochs: float) -> int:
    """``max_steps``, or its default where epochs are given beside transformers' -1 for "not given".

    Raises: ConfigError for a length that cannot be, or that is given twice.
    """
    if max_steps == -1 and epochs:
        max_steps = MAX_STEPS
    if max_steps < 1:
        raise ConfigError(
            f"max_steps: got {max_steps}, expected at least 1",
            help="give num_train_epochs for a run that is as long as its rows",
        )
    if not 0 <= epochs < math.inf:
        raise ConfigError(
            f"num_train_epochs: got {epochs}, expected a positive number",
            help="without it a run is max_steps long",
        )
    if epochs and max_steps != MAX_STEPS:
        raise ConfigError(
            f"num_train_epochs: got {epochs:g}, and max_steps {max_steps}, which says another length",
            help="give one of the two: max_steps -1 or num_train_epochs 0 takes the other back",
        )
    return max_steps


def steps_of(
    epochs: float,
    rows: int,
    *,
    batch: int,
    processes: int = 1,
    accumulation: int = 1,
    drop_last: bool = False,
) -> int:
    """Optimizer steps of ``epochs`` passes over ``rows``, at least one.

    Equation: ⌈epochs · ⌈⌈⌈rows / batch⌉ / processes⌉ / accumulation⌉⌉, as transformers counts; with ``drop_last`` the
    two innermost quotients are rounded down. ``batch`` are the rows of a micro-batch in one process.
    """
    batches = _quotient(_quotient(rows, batch, down=drop_last), processes, down=drop_last)
    updates = max(1, _quotient(batches, accumulation, down=False))
    return max(1, math.ceil(epochs * updates))


def _quotient(count: int, by: int, *, down: bool) -> int:
    return count // by if down else -(-count // by)
