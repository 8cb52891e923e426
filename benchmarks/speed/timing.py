"""Interleaved repeats of several systems, medians with quartiles and paired ratios, and the peak memory of a process."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

OUT_OF_MEMORY = "out of memory"  # the state of a row in the place of its numbers


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    systems: Mapping[str, Callable[[int], Any]], repeats: int, device: torch.device, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of every system in each round A B C, A B C, ...; a system is called with the number of the round.

    Rounds before the first timed one are negative, so that a system may do other work in them. A system that runs out
    of memory has no seconds and is not called again; the others go on.
    """
    found: dict[str, list[float]] = {name: [] for name in systems}
    left = dict(systems)
    for number in range(-warm_up, repeats):
        for name, call in list(left.items()):
            try:
                synchronize(device)
                began = time.perf_counter()
                call(number)
                synchronize(device)
            except torch.OutOfMemoryError:
                found[name] = []
                del left[name]
            if name not in left:
                freed()  # after the error, whose frames hold what the call made
            elif number >= 0:
                found[name].append(time.perf_counter() - began)
    return found


def freed() -> None:
    """Give back what is no longer used, of the GPU too, where processes of their own may come next."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def summary(seconds: list[float], base: list[float] | None = None) -> dict[str, Any]:
    """Median and quartiles of seconds, and of the ratio to another system round by round.

    Without seconds ``not_measured`` says why; without those of the other system there is no ratio.
    """
    if not seconds:
        return {"not_measured": OUT_OF_MEMORY}
    found = {
        "seconds": _median(seconds),
        "seconds_q1": _quartile(seconds, 0),
        "seconds_q3": _quartile(seconds, 2),
    }
    if base:
        ratios = [own / other for own, other in zip(seconds, base, strict=True)]
        found |= {
            "ratio": _median(ratios),
            "ratio_q1": _quartile(ratios, 0),
            "ratio_q3": _quartile(ratios, 2),
        }
    return {key: float(f"{value:.5g}") for key, value in found.items()}


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _quartile(values: list[float], number: int) -> float:
    return statistics.quantiles(values, n=4, method="inclusive")[number] if len(values) > 1 else values[0]


def reset_peak(device: torch.device) -> float:
    """Begin to measure the peak anew; MiB held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak(device: torch.device) -> float:
    """MiB at the peak since ``reset_peak``: of the process on a CPU (Linux), of the allocator on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return _status("VmHWM")


def _status(key: str) -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key + ":"))
    return int(line.split()[1]) / 1024
