"""Versions of what shapes a result, for provenance."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("constraintlang", "torch", "transformers", "accelerate", "datasets", "peft", "numpy")


def versions() -> dict[str, str]:
    """Versions of what shapes a result, and the machine."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "python": platform.python_version(), "machine": platform.platform()}
