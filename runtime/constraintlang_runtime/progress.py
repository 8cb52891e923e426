"""Progress of a training run as calls ``progress(what, done, total)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

Progress = Callable[[str, int, int], None]


class StepProgress(TrainerCallback):
    """Reports every optimizer step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After each optimizer step."""
        self._progress("training", state.global_step, state.max_steps)
