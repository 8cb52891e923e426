"""Runs a Python file that is not trusted in a process of its own, with limits."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CHILD = Path(__file__).with_name("sandbox_child.py")
MAX_OUTPUT = 1_000_000  # bytes of a result that are read


@dataclass(frozen=True)
class Limits:
    """What a run may use."""

    wall_seconds: float = 15.0
    cpu_seconds: int = 10
    memory_bytes: int = 1 << 30
    file_bytes: int = 1 << 20
    open_files: int = 64


def run_limited(folder: Path, words: list[str], *, token: str, limits: Limits) -> str:
    """What the child of ``folder`` wrote to its result pipe until it ended or was killed.

    The child is a fresh interpreter (``-I``: no environment, no user packages) in a session of its own, in ``folder``,
    with an empty environment, no standard streams but ``token`` on its input, and the limits that
    ``sandbox_child.py`` puts on itself before it reads anything untrusted. When the time is over, and when it has
    ended, its whole process group is killed.
    """
    reading, writing = os.pipe()
    sizes = [limits.cpu_seconds, limits.memory_bytes, limits.file_bytes, limits.open_files]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(CHILD), str(writing), *map(str, sizes), *words],
            cwd=folder,
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing,),
            start_new_session=True,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has already died, and the result says so
            process.stdin.write(token.encode())
            process.stdin.close()
        return _read(reading, time.monotonic() + limits.wall_seconds)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(pipe: int, deadline: float) -> str:
    """The text from a pipe until its end, the deadline, or too much."""
    parts: list[bytes] = []
    size = 0
    with selectors.DefaultSelector() as waiting:
        waiting.register(pipe, selectors.EVENT_READ)
        while size < MAX_OUTPUT and (left := deadline - time.monotonic()) > 0:
            if not waiting.select(left):
                break
            part = os.read(pipe, 65536)
            if not part:
                break
            parts.append(part)
            size += len(part)
    return b"".join(parts).decode("utf-8", "replace")
