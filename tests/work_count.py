"""How much Python does in a block, counted in calls and lines, which are as many on a slow machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


class TooMuchWork(AssertionError):
    """A block made more calls than its test lets it make."""


@dataclass
class Work:
    """The calls of functions, Python's and C's, and on request the lines of Python."""

    calls: int = 0
    lines: int = 0


@contextmanager
def counted(at_most: float = float("inf"), *, lines: bool = False) -> Iterator[Work]:
    """Count the work of this thread; one call of C is one call, whatever it does.

    Raises: TooMuchWork at the first call beyond ``at_most``, so that what would not end fails.
    """
    work = Work()

    def count_call(frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            work.calls += 1
            if work.calls > at_most:
                raise TooMuchWork(f"more than {at_most:,} calls")

    def count_line(frame: FrameType, event: str, argument: object) -> Any:
        work.lines += event == "line"
        return count_line

    profiler, tracer = sys.getprofile(), sys.gettrace()
    if lines:
        sys.settrace(count_line)
    sys.setprofile(count_call)
    try:
        yield work
    finally:
        sys.setprofile(profiler)
        if lines:
            sys.settrace(tracer)
    assert work.calls <= at_most, f"{work.calls:,} calls"  # where the block caught the exception
