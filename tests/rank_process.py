"""A rank of a parallel run as a process of its own, in which one lane can be killed or made to hang.

Ranks are forked from a process that has the imports already, so that a test does not pay them for every rank.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def run_rank(rank: int, port: int, folder: str, words: list[str], where: str, what: str) -> None:
    """``constraintc`` as rank ``rank`` of two; in the lane ``where`` it is killed, or hangs, and leaves a mark."""
    log = os.open(f"{folder}/log {rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    import torch

    torch.set_num_threads(1)
    from constraintc.main import main
    from constraintlang_runtime import fit_once, rounds
    from constraintlang_runtime.trainer import ConstraintTrainer

    places: dict[str, tuple[Any, str, int]] = {
        "sampling": (rounds, "sample", 3),
        "fitting": (fit_once, "fit_auxiliary", 1),
        "training": (ConstraintTrainer, "compute_loss", 10),
    }
    if where:
        owner, name, number = places[where]
        original, calls = getattr(owner, name), [0]

        def struck(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == number:
                Path(folder, "struck").touch()
                if what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(120)
            return original(*args, **kwargs)

        setattr(owner, name, struck)
    code = main(words)
    sys.stdout.flush()
    sys.exit(code)


def ranks() -> Any:
    """Where ranks are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["constraintlang_runtime.train_run", "constraintc.main"])
    return context
