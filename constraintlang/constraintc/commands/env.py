"""``constraintc env``: versions and hardware, for bug reports; imports torch only when asked."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from constraintc.exit_codes import ExitCode
from constraintc.output import print_json, print_table

HELP = """Show versions and hardware, to paste into a bug report. No paths, no environment variables, no host
name."""

EPILOG = """examples:
  constraintc env
  constraintc env --torch --format json     asks torch for the GPUs, which takes some seconds"""

PACKAGES = (
    "constraintlang",
    "lark",
    "msgspec",
    "numpy",
    "scipy",
    "rich",
    "rfc8785",
    "google-re2",
    "pyyaml",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "peft",
    "safetensors",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("--torch", action="store_true", help="import torch and list the GPUs")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the result"
    )


def run(args: argparse.Namespace) -> int:
    """Collect and print."""
    facts: dict[str, object] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "packages": {name: _version(name) for name in PACKAGES},
    }
    if args.torch:
        facts["gpus"] = _gpus()
    if args.format == "json":
        print_json(facts)
        return ExitCode.OK
    rows = [(name, str(value)) for name, value in facts.items() if name not in ("packages", "gpus")]
    rows += [(name, _version(name) or "not installed") for name in PACKAGES]
    if args.torch:
        rows.append(("gpus", ", ".join(_gpus()) or "none"))
    print_table(("what", "value"), rows)
    return ExitCode.OK


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory_gib() -> float | None:
    if sys.platform == "win32":
        return None
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
