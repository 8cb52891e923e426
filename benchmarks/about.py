"""Where a figure comes from: the command, the versions, the machine; no path and no host name."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("lark", "msgspec", "numpy", "google-re2", "pyahocorasick", "rfc8785")


def about(script: str, arguments: list[str], seed: int) -> dict[str, object]:
    """What has to stand beside a result."""
    return {
        "command": shlex.join(["python", f"benchmarks/{script}", *arguments]),
        "commit": commit(),
        "seed": seed,
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in PACKAGES},
        "machine": {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count()},
    }


def commit() -> str | None:
    """The commit of the checkout, with a `+` where files other than results differ from it; None outside a checkout."""
    run = ["git", "-C", str(Path(__file__).parents[1])]
    try:
        head = subprocess.run(
            [*run, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        others = [*run, "diff", "--quiet", "HEAD", "--", ".", ":(exclude)benchmarks/*/results"]
        changed = subprocess.run(others, capture_output=True).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
