"""Progress of a training run: calls ``progress(what, done, total)``, and a line for every round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback

from constraintlang_compiler.ir import Clause
from constraintlang_runtime.round_words import round_line

Progress = Callable[[str, int, int], None]


class StepProgress(TrainerCallback):
    """Reports every optimizer step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After each optimizer step."""
        self._progress("training", state.global_step, state.max_steps)


class RoundLines(TrainerCallback):
    """Tells how the loss and the clauses stand after each round; the groups of a round share a line."""

    def __init__(self, tell: Callable[[str], None], clauses: Callable[[], Sequence[Clause]]) -> None:
        self._tell, self._clauses = tell, clauses
        self._loss = ""
        self._found: dict[str, Any] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Keep what a record says."""
        if "loss_lm" in logs:
            self._loss = f", language-model loss {logs['loss_lm']:.4g}"
        if "round" in logs:
            self._found |= logs

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """All groups of a round have logged when the next step begins."""
        self._end_round(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """No step begins after the last round."""
        self._end_round(state)

    def _end_round(self, state: Any) -> None:
        line = round_line(self._clauses(), self._found)
        if line:
            self._tell(f"step {state.global_step} of {state.max_steps}{self._loss}: {line}")
        self._found = {}
