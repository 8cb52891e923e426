"""Runs a call that others wrote so that it can neither hang nor end the process that made it."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TooSlow(Exception):
    """The call had not returned in its time."""


class Exited(Exception):
    """The call tried to end the process."""


def call_within(seconds: float | None, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises; TooSlow when it takes longer than ``seconds``, Exited for ``sys.exit``.

    With a limit the call runs in a thread of its own, because nothing else can be given up half-way; a call that never
    returns keeps that thread, which ends with the process. Without a limit it runs in the caller's thread.
    """
    if seconds is None:
        return _guarded(call)
    context = contextvars.copy_context()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(context.run(_guarded, call))
        except BaseException as error:  # the waiting thread raises it
            errors.append(error)

    thread = threading.Thread(target=work, name="scorer", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TooSlow
    return results[0]


def _guarded(call: Callable[[], T]) -> T:
    try:
        return call()
    except SystemExit as error:
        raise Exited(str(error.code)) from error
