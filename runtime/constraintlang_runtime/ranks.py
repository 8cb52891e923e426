"""Which process of a distributed run this is, and how the processes agree; one process is the ordinary case.

Processes are started by torchrun or ``accelerate launch``; transformers sets up ``torch.distributed`` to train.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from constraintlang_runtime.errors import ConfigError

T = TypeVar("T")
LONGEST_WAIT = timedelta(hours=12)  # a judge that is slow for one process is waited for by the others


def is_main() -> bool:
    """Whether this process writes files and speaks to people; told by the environment before anything is set up."""
    return int(os.environ.get("RANK", "0")) == 0


def _distributed() -> Any:
    """``torch.distributed`` when there are several processes, else None."""
    import torch.distributed as dist

    ready = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return dist if ready else None


@contextlib.contextmanager
def processes_together() -> Iterator[None]:
    """The processes that a launcher started as one group for the block, each on a device of its own; else nothing.

    They exchange Python objects alone. Raises: ConfigError where the environment names several and not this one.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield
        return
    missing = [
        name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise ConfigError(
            f"the environment says that this is one of {size} processes (WORLD_SIZE), without {', '.join(missing)}",
            help="start it by torchrun or `accelerate launch`, or unset WORLD_SIZE",
        )
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    torch.distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
    yield
    torch.distributed.destroy_process_group()  # not after an error, when the others may be anywhere


def rank_and_size() -> tuple[int, int]:
    """This process's number, and how many there are."""
    dist = _distributed()
    return (0, 1) if dist is None else (dist.get_rank(), dist.get_world_size())


def barrier() -> None:
    """Wait until every process is here."""
    dist = _distributed()
    if dist is not None:
        dist.barrier()


def gathered(own: T) -> list[T]:
    """What every process passed, in the order of their numbers; the same list in each."""
    dist = _distributed()
    if dist is None:
        return [own]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, own)
    return found


def from_main(own: T) -> T:
    """What the main process passed."""
    dist = _distributed()
    if dist is None:
        return own
    found: list[Any] = [own]
    dist.broadcast_object_list(found, src=0)
    return found[0]


def interleaved(parts: Sequence[Sequence[T]]) -> list[T]:
    """Inverse of taking every n-th element: ``[0, 2, 4], [1, 3]`` becomes ``[0, 1, 2, 3, 4]``."""
    total = sum(len(part) for part in parts)
    return [parts[index % len(parts)][index // len(parts)] for index in range(total)]
