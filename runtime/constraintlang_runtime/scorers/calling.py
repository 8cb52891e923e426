"""Makes calls to a service that may be slow, busy or away: several at once, at a rate, again after growing pauses."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from constraintlang_runtime.errors import ScorerUnavailable
from constraintlang_runtime.scorers.protocol import Terms

T = TypeVar("T")
FIRST_PAUSE = 0.5  # seconds, doubled after each attempt
LONGEST_PAUSE = 30.0  # seconds, also of what a service asks for
GIVE_UP_AFTER = 20  # calls in a row that failed for good; the service is away, and the rest is not asked


class RateLimit:
    """When calls may begin: ``per_second`` of them, evenly, and none while the service wants to be left alone."""

    def __init__(self, per_second: float | None) -> None:
        self._gap = 0.0 if per_second is None else 1.0 / per_second
        self._lock = threading.Lock()
        self._next = 0.0
        self._held_until = 0.0

    def seconds_to_wait(self) -> float:
        """Seconds until the place in the queue that this takes."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._gap
            return start - now

    def leave_alone(self, seconds: float) -> None:
        """No call begins for so long, not even one that has its place in the queue."""
        with self._lock:
            self._held_until = max(self._held_until, time.monotonic() + seconds)
            self._next = max(self._next, self._held_until)

    @property
    def held(self) -> float:
        """Seconds for which the service is still left alone."""
        with self._lock:
            return self._held_until - time.monotonic()


class Caller(Generic[T]):
    """Makes calls on a scorer's terms; what fails for good comes back as the reason, and is not lost silently.

    A call that raises ``ScorerUnavailable`` is made again after ``FIRST_PAUSE`` * 2**attempt seconds, times a seeded
    factor from 0.5 to 1.5, or after as long as the service asks for. Any other exception ends all calls and is raised.
    """

    def __init__(self, terms: Terms, *, seed: int = 0) -> None:
        self._terms = terms
        self._limit = RateLimit(terms.per_second)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._failed_in_row = 0
        self._last_failure: ScorerUnavailable | None = None

    def run(
        self, calls: Sequence[Callable[[], T]], done: Callable[[int, T | ScorerUnavailable], None]
    ) -> None:
        """``done(index, result or reason)`` for every call, in the caller's thread, as they end."""
        stop = threading.Event()
        self._failed_in_row = 0
        if self._terms.at_once == 1 or len(calls) <= 1:
            for index, call in enumerate(calls):
                done(index, self._made(call, stop))
            return
        executor = ThreadPoolExecutor(min(self._terms.at_once, len(calls)), thread_name_prefix="scorer")
        waiting: dict[Future[T | ScorerUnavailable], int] = {}
        upcoming = iter(enumerate(calls))
        try:
            while True:
                for index, call in upcoming:
                    waiting[executor.submit(self._made, call, stop)] = index
                    if len(waiting) >= 2 * self._terms.at_once:
                        break
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    done(waiting.pop(future), future.result())
        finally:
            stop.set()  # those that wait for their next attempt
            executor.shutdown(wait=False, cancel_futures=True)

    def _made(self, call: Callable[[], T], stop: threading.Event) -> T | ScorerUnavailable:
        """The result of a call, or the reason why there is none after all attempts."""
        with self._lock:
            if self._failed_in_row >= GIVE_UP_AFTER and self._last_failure is not None:
                return self._last_failure
        attempt = 0
        while True:
            stop.wait(self._limit.seconds_to_wait())
            while not stop.is_set() and (held := self._limit.held) > 0:
                stop.wait(held)
                stop.wait(self._limit.seconds_to_wait())
            if stop.is_set():  # nobody waits for the result, which may cost money
                return ScorerUnavailable("the run was stopped")
            try:
                result = call()
            except ScorerUnavailable as error:
                failure = error
            else:
                with self._lock:
                    self._failed_in_row = 0
                return result
            attempt += 1
            if not failure.again or attempt >= self._terms.attempts or stop.is_set():
                with self._lock:
                    self._failed_in_row += 1
                    self._last_failure = failure
                return failure
            stop.wait(self._pause(attempt, failure.retry_after))

    def _pause(self, attempt: int, retry_after: float | None) -> float:
        if retry_after is not None:
            asked = min(max(retry_after, 0.0), LONGEST_PAUSE)
            self._limit.leave_alone(asked)
            return asked
        with self._lock:
            factor = 0.5 + self._random.random()
        return min(FIRST_PAUSE * 2 ** (attempt - 1) * factor, LONGEST_PAUSE)
