"""This machine: its GPUs as the driver names them, or its processor as a short measurement finds it; no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.estimate.gpu_table import (
    CPU_COMPUTE,
    CPU_LAUNCH,
    CPU_MEMORY_SHARE,
    GPUS,
    Machine,
    Range,
)

MATRIX = 512  # a few milliseconds: short enough to fall between the slices of other work
COPIED = 2**24  # float32 numbers, 64 MiB: more than a cache holds
SECONDS = 0.3  # of repeats; the best of them is the one that other work disturbed least


def own_gpus() -> tuple[str, int] | None:
    """Name in the table and number of this machine's GPUs; None when it has none.

    Raises: ConfigError for a GPU that the table does not hold.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    names = (
        [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
    )
    if not names:
        return None
    found = table_name(names[0])
    if found is None:
        raise ConfigError(
            f"this machine has `{names[0]}`, which is not among {', '.join(GPUS)}",
            help="give --gpu with the nearest one, or --gpu cpu",
        )
    return found, len(names)


def table_name(shown: str) -> str | None:
    """The table's name of a GPU as the driver shows it.

    >>> table_name("NVIDIA GeForce RTX 4090"), table_name("NVIDIA H200"), table_name("Tesla T4")
    ('rtx4090', 'h200', None)
    """
    plain = shown.lower().replace(" ", "")
    return next((name for name in GPUS if name in plain), None)


def measured_cpu() -> Machine:
    """This processor: FLOP/s of a float32 matrix product and bytes/s of a copy, each the best of repeats."""
    import numpy as np

    left = np.full((MATRIX, MATRIX), 0.5, dtype=np.float32)
    result = np.empty_like(left)
    source = np.zeros(COPIED, dtype=np.float32)
    target = np.ones_like(source)
    multiply = _best(lambda: np.matmul(left, left, out=result))
    copy = _best(lambda: np.copyto(target, source))
    flops = 2 * MATRIX**3 / multiply
    return Machine(
        "cpu", 1, flops, 2 * source.nbytes / copy, own_memory(), float("inf"), CPU_COMPUTE, CPU_MEMORY_SHARE,
        CPU_LAUNCH, Range(CPU_COMPUTE.worst * flops, CPU_COMPUTE.best * flops), "measured",
    )  # fmt: skip


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of many repeats, at least three."""
    began = time.perf_counter()
    times: list[float] = []
    while len(times) < 3 or time.perf_counter() - began < SECONDS:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def own_memory() -> float:
    """Bytes of main memory; infinity where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
