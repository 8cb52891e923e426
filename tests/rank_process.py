"""``constraintc`` in a process of its own, alone or as a rank of two, whose lanes can be killed or made to hang."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from warm_process import WarmProcess, started


def run_command(
    words: list[str], mark: str = "", where: str = "", number: int = 1, what: str = "hang"
) -> int:
    """``constraintc``; at a call in the lane ``where`` it leaves a mark, and is killed or hangs."""
    from constraintc.main import main
    from constraintlang_runtime import fit_once, rounds
    from constraintlang_runtime.trainer import ConstraintTrainer

    places: dict[str, tuple[Any, str]] = {
        "sampling": (rounds, "sample"),
        "fitting": (fit_once, "fit_auxiliary"),
        "training": (ConstraintTrainer, "compute_loss"),
    }
    if where:
        owner, name = places[where]
        original, calls = getattr(owner, name), [0]

        def struck(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == number:
                Path(mark).touch()
                if what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(120)
            return original(*args, **kwargs)

        setattr(owner, name, struck)
    return main(words)


def run_divided(words: list[str]) -> int:
    """``constraintc`` under FSDP2 on processors, which accelerate knows of GPUs alone: it is told these were some."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    own = AcceleratorState.__init__

    def as_if_on_gpus(self: Any, *args: Any, **kwargs: Any) -> None:
        if PartialState(cpu=True).distributed_type == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        own(self, *args, **kwargs)

    AcceleratorState.__init__ = as_if_on_gpus
    return run_command(words)


def two_ranks(
    folder: Path, *args: Any, target: Any = run_command, **environment: str
) -> tuple[list[int | None], list[WarmProcess]]:
    """``run_command`` as two ranks that no launcher looks after: their exit codes, and their processes."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    ranks = [
        started(
            folder, f"rank {rank}", target, *args, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
            LOCAL_WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=str(port), **environment,
        )
        for rank in range(2)
    ]  # fmt: skip
    deadline = time.monotonic() + 150
    return [rank.ended(max(0.1, deadline - time.monotonic())) for rank in ranks], ranks
