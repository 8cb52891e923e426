"""A lane: a thread that does jobs in order, whose errors and silence the training lane notices."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch

from constraintlang_runtime.errors import RuntimeFailure, TrainingError
from constraintlang_runtime.mishaps import reason_of

T = TypeVar("T")
POLL_SECONDS = 0.2
CLOSING_SECONDS = 10.0


class Dropped(BaseException):
    """Ends a job whose result nobody wants any more."""


class Promise(Generic[T]):
    """A result that a lane will give."""

    def __init__(self) -> None:
        self._given = threading.Event()
        self._results: list[T] = []

    @staticmethod
    def kept(result: T) -> Promise[T]:
        """A result that is there already."""
        promise: Promise[T] = Promise()
        promise.give(result)
        return promise

    def give(self, result: T) -> None:
        """Called once, by the lane."""
        self._results.append(result)
        self._given.set()

    def is_given(self, within: float = 0.0) -> bool:
        """Whether the result is there, now or within some seconds."""
        return self._given.wait(within)

    @property
    def result(self) -> T:
        """The result; only when it is given."""
        return self._results[0]


class Lane:
    """Does jobs one after the other in a thread of its own; the first error ends it and is kept in ``error``.

    A job tells by ``beat`` that it goes on. The thread never keeps the process from ending.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self.name = name
        self._timeout, self._closed = timeout, False
        self._jobs: queue.SimpleQueue[tuple[str, Callable[[], Any], Promise[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._job = ""
        self._last_beat = time.monotonic()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"lane {name}", daemon=True)
        self._thread.start()

    def submit(self, what: str, job: Callable[[], T]) -> Promise[T]:
        """Add a job; ``what`` names it in errors. Raises: TrainingError after ``close``, when nobody would do it."""
        if self._closed:
            raise TrainingError(
                f"the {self.name} lane ended with the training that it was made for",
                help="make another ConstraintTrainer, and resume it from the last checkpoint",
            )
        promise: Promise[T] = Promise()
        self._jobs.put((what, job, promise))
        return promise

    def beat(self) -> None:
        """The job goes on. Raises: Dropped when it need not."""
        self._last_beat = time.monotonic()
        if self._closed:
            raise Dropped

    def fail(self, error: BaseException) -> None:
        """Something outside the thread ends the lane."""
        self.error = self.error or error

    def check(self) -> None:
        """Raise what ended the lane, or TrainingError when its job has said nothing for longer than the time-out."""
        if self.error is not None:
            raise self.error
        silence = time.monotonic() - self._last_beat
        if self._job and silence > self._timeout:
            raise TrainingError(
                f"the {self.name} lane hangs: {self._job} said nothing for {silence:.0f} seconds",
                help="--resume goes on from the last checkpoint; a slow model or scorer needs a larger --lane_timeout",
            )

    def close(self) -> None:
        """Drop all jobs, and wait a little for the thread: one inside torch would spoil the end of the process."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join(CLOSING_SECONDS)

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None and not self._closed:
            what, job, promise = entry
            self._last_beat = time.monotonic()
            self._job = what
            try:
                promise.give(job())
            except BaseException as error:  # the training lane raises it
                self.fail(as_lane_error(error, self.name, what))
                return
            finally:
                self._job = ""
            del entry, job  # they hold weights


def as_lane_error(error: BaseException, lane: str, what: str) -> BaseException:
    """An error as the training lane raises it: those that are explained already as they are."""
    if isinstance(error, RuntimeFailure | MemoryError | torch.OutOfMemoryError) or not isinstance(
        error, Exception
    ):
        return error
    wrapped = TrainingError(
        f"the {lane} lane failed in {what}: {type(error).__name__}: {reason_of(error)}",
        help="--resume goes on from the last checkpoint once the cause is gone",
    )
    wrapped.__cause__ = error
    return wrapped


def wait_for(promise: Promise[T], lanes: Sequence[Lane]) -> T:
    """The result of a promise. Raises: what ended one of the lanes, TrainingError for one that hangs."""
    while not promise.is_given(POLL_SECONDS):
        for lane in lanes:
            lane.check()
    return promise.result
