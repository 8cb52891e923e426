"""Doing something again whenever one of some files changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

PAUSE_SECONDS = 0.3


def watch(names: Sequence[str], act: Callable[[], object]) -> None:
    """Act now, and again after every change, until the user interrupts."""
    while True:
        seen = stamps(names)
        act()
        while stamps(names) == seen:
            time.sleep(PAUSE_SECONDS)


def stamps(names: Sequence[str]) -> list[tuple[int, int] | None]:
    """What tells that a file was written: its time and size; None while it is not there."""
    found: list[tuple[int, int] | None] = []
    for name in names:
        try:
            status = Path(name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size))
    return found
