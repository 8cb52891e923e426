"""Progress of long work on standard error: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

LINE_EVERY_SECONDS = 10.0


class LineProgress:
    """One line per stage at most every ten seconds, with how many a second there were since the last."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Report ``done`` of ``total``."""
        now = time.monotonic()
        then, before = self._last.setdefault(what, (now, done))
        if done < before:  # the stage began again
            then, before = self._last[what] = (now, done)
        if now - then >= LINE_EVERY_SECONDS:
            rate = (done - before) / (now - then)
            print(f"{what}: {done:,} of {total:,} ({rate:,.3g} a second)", file=sys.stderr, flush=True)
            self._last[what] = (now, done)


class BarProgress:
    """One bar per stage; a stage that starts again reuses its bar."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Report ``done`` of ``total``."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, rate="")
        self._progress.update(self._tasks[what], completed=done, total=total)
        speed = next((task.speed for task in self._progress.tasks if task.id == self._tasks[what]), None)
        self._progress.update(self._tasks[what], rate="" if speed is None else f"{speed:,.3g}/s")


@contextlib.contextmanager
def shown(quiet: bool = False) -> Iterator[Any]:
    """A progress callable for the block; None when quiet."""
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        yield LineProgress()
    else:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield BarProgress(progress)


@contextlib.contextmanager
def quiet_libraries(*, speaks: bool = True) -> Iterator[None]:
    """Silence the libraries' own bars and advice, which would mix with ours; their errors and our warnings show.

    Without ``speaks`` our errors show, and what scorers warn of: another process has the other warnings, too.
    """
    import logging
    import warnings

    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with contextlib.suppress(ImportError):
        import datasets

        datasets.disable_progress_bars()
    own, handler = logging.getLogger("constraintlang_runtime"), logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.addFilter(
        lambda record: (
            speaks or record.levelno >= logging.ERROR or record.name.startswith(f"{own.name}.scorers")
        )
    )
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    own.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pin_memory.*")
            yield
    finally:
        own.removeHandler(handler)
