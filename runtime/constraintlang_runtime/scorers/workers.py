"""Processes that call one function on tasks, results in the order of the tasks; one that dies ends the run."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, TypeVar

from constraintlang_runtime.errors import RuntimeFailure, ScorerError

Key = TypeVar("Key")
Task = TypeVar("Task")
Result = TypeVar("Result")

READY = "ready"
PATIENCE = 2.0  # seconds that a worker has to end by itself


@dataclass(frozen=True)
class Failure:
    """An error of ours, as it travels between processes."""

    kind: type[RuntimeFailure]
    message: str
    help: str | None

    @classmethod
    def of(cls, error: RuntimeFailure) -> Failure:
        """What ``raised`` makes anew."""
        return cls(type(error), error.message, error.help)

    def raised(self) -> RuntimeFailure:
        """The error."""
        return self.kind(self.message, help=self.help)


class Workers(Generic[Task, Result]):
    """``count`` fresh processes, each with its own ``build()``; use it in a ``with`` block.

    ``build``, tasks and results are sent by ``multiprocessing``. A worker has one task at a time, so at most ``count``
    of them exist besides the one that the caller works on. Workers leave Ctrl-C to the caller, and end when the
    block or the caller's process does.
    Raises: what ``build()`` raises of ours, and ScorerError that names a worker that has died.
    """

    def __init__(self, build: Callable[[], Callable[[Task], Result]], count: int) -> None:
        # Not forked: a fork copies threads' locks in whatever state they are in.
        context = multiprocessing.get_context("spawn")
        self._processes: list[Any] = []
        self._connections: list[Connection] = []
        try:
            with _interrupts_wait():
                for number in range(1, count + 1):
                    ours, theirs = context.Pipe()
                    process = context.Process(
                        target=work, args=(build, theirs), name=f"score worker {number}", daemon=True
                    )
                    process.start()
                    theirs.close()  # so that the end of the worker is the end of the pipe
                    self._processes.append(process)
                    self._connections.append(ours)
            for number in range(count):
                self._receive(number)
        except BaseException:
            self.close()
            raise

    def in_order(self, tasks: Iterable[tuple[Key, Task]]) -> Iterator[tuple[Key, Result]]:
        """Each key with the result of its task, in the order of the tasks.

        An error of ours that ``tasks`` raises is raised behind the results of all tasks before it. The workers end
        when not all results are taken.
        """
        waiting: deque[tuple[Key, int]] = deque()
        failures: list[RuntimeFailure] = []
        upcoming = iter(tasks)
        turn = 0

        def fill() -> None:
            nonlocal turn
            while not failures and len(waiting) < len(self._processes):
                try:
                    key, task = next(upcoming)
                except StopIteration:
                    return
                except RuntimeFailure as error:
                    failures.append(error)
                    return
                self._send(turn, task)
                waiting.append((key, turn))
                turn = (turn + 1) % len(self._processes)

        try:
            fill()
            while waiting:
                key, number = waiting.popleft()
                result: Result = self._receive(number)
                fill()  # before the caller takes its time
                yield key, result
        finally:
            if waiting:
                self.close()  # results that nobody waits for must not be taken for those of other tasks
        if failures:
            raise failures[0]

    def close(self) -> None:
        """End the workers: those that are idle at once, the others by a signal."""
        for connection in self._connections:
            connection.close()
        for end in (None, "terminate", "kill"):
            for process in self._processes:
                if end is not None and process.is_alive():
                    getattr(process, end)()
            for process in self._processes:
                process.join(PATIENCE / 10 if end is None else PATIENCE)

    def __enter__(self) -> Workers[Task, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, number: int, task: Task) -> None:
        try:
            self._connections[number].send(task)
        except OSError as error:
            raise self._dead(number) from error

    def _receive(self, number: int) -> Any:
        connection = self._connections[number]
        wait([connection, self._processes[number].sentinel])
        try:
            found = connection.recv() if connection.poll() else None
        except (EOFError, OSError) as error:
            raise self._dead(number) from error
        if found is None:
            raise self._dead(number)
        if isinstance(found, Failure):
            raise found.raised()
        return found

    def _dead(self, number: int) -> ScorerError:
        process = self._processes[number]
        process.join(PATIENCE)
        code = process.exitcode
        how = "does not answer" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f"was ended by {signal.Signals(-code).name}"
        return ScorerError(
            f"{process.name} of {len(self._processes)} (process {process.pid}) {how}",
            help="was memory short? Take fewer --score_workers or a smaller --batch_size; --resume goes on",
        )


def work(build: Callable[[], Callable[[Any], Any]], connection: Connection) -> None:
    """What a worker does until the other end of its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, EOFError):
        try:
            call = build()
        except RuntimeFailure as error:
            connection.send(Failure.of(error))
            return
        connection.send(READY)
        while True:
            task = connection.recv()
            try:
                result = call(task)
            except RuntimeFailure as error:
                result = Failure.of(error)
            connection.send(result)


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back while processes start: they inherit that, and print no traceback of their imports."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
