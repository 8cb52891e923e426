"""The limits of the analysis, and what is raised when one is met: the answer is then "not decided"."""

from __future__ import annotations

import time

MAX_CELLS = 60_000
MAX_COLUMNS = 20_000
MAX_WORLDS = 256
MAX_CANDIDATES = 4_000
MAX_QUERIES = 256  # alternatives of one question
SECONDS = 10.0


class TooLarge(Exception):
    """A limit was met; the text says which."""


class Budget:
    """The time that may still be spent."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.deadline = time.monotonic() + seconds

    @property
    def is_spent(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.deadline

    @property
    def left(self) -> float:
        """Seconds left.

        Raises: TooLarge when the time is up.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TooLarge("the time for the analysis is up")
        return left
