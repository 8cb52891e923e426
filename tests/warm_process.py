"""Processes that are forked from one which has the imports already, so that a test does not pay them for each.

What a library prints while it is imported is not seen in them.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

PRELOADED = [
    "constraintlang_runtime.train_run",
    "constraintc.commands.train",
    "transformers.models.llama.modeling_llama",
]


@dataclass
class WarmProcess:
    """A process and the files of its streams."""

    process: ForkServerProcess
    out: Path
    err: Path

    def ended(self, timeout: float) -> int | None:
        """The exit code; a process that runs on after the time is killed, and has none."""
        self.process.join(timeout)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        return code

    def send_signal_at(self, mark: Path, sent: signal.Signals) -> None:
        """Send a signal when a file is there."""
        deadline = time.monotonic() + 120
        while not mark.exists() and time.monotonic() < deadline:
            assert self.process.is_alive(), self.err.read_text()[-3000:]
            time.sleep(0.05)
        assert mark.exists(), f"{mark} was not made within two minutes"
        assert self.process.pid is not None
        os.kill(self.process.pid, sent)


def started(
    folder: Path, name: str, target: Callable[..., Any], *args: Any, **environment: str
) -> WarmProcess:
    """A process that ends with the code which ``target`` returns, a function of a module beside this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    environment = {"HF_HUB_OFFLINE": "1"} | environment
    process = context.Process(target=go, args=(str(out), str(err), environment, target, args))
    process.start()
    return WarmProcess(process, out, err)


def go(out: str, err: str, environment: dict[str, str], target: Callable[..., Any], args: Any) -> None:
    """Do in the new process what it was started for."""
    gc.freeze()
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.environ |= environment
    import torch

    torch.set_num_threads(1)
    code = target(*args)
    sys.stdout.flush()
    sys.exit(code)


def run_script(path: str, words: list[str]) -> None:
    """A file as ``python FILE WORDS`` runs it."""
    sys.argv = [path, *words]
    runpy.run_path(path, run_name="__main__")
