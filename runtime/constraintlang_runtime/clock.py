"""How long the stages of a piece of work took."""

from __future__ import annotations

import time


class Clock:
    """Seconds by stage; ``lap`` adds the time since the last lap (or the start) to a stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a lap that belongs to ``stage``."""
        now = time.perf_counter()
        self.laps[stage] = round(self.laps.get(stage, 0.0) + now - self._last, 3)
        self._last = now
