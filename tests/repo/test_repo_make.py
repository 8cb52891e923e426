"""`make` says what it would do, sets up once, and names what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no `make` on this machine")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell of its own: an outer `make test TORCH=...` must not pass on what it was given."""
    inherited = (
        "MAKEFLAGS",
        "MAKELEVEL",
        "MAKEOVERRIDES",
        "MFLAGS",
        "PYTHON",
        "VENV",
        "TORCH",
        "TORCH_INDEX",
        "OUTPUT",
        "SHARED",
        "SCALE",
        "JOBS",
    )
    environment = {key: value for key, value in os.environ.items() if key not in inherited}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_help_is_the_default_and_lists_every_target() -> None:
    done = make()
    assert done.returncode == 0
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets is not None
    assert re.findall(r"^  make ([\w-]+) ", done.stdout, re.MULTILINE) == targets[1].split()


def test_demo_on_a_fresh_machine(tmp_path: Path) -> None:
    done = make("-n", "demo", f"VENV={tmp_path}/venv")
    assert done.returncode == 0, done.stderr
    commands = done.stdout
    order = [commands.index(part) for part in ("-m venv", '"torch>=', '".[train]"', "constraintc demo")]
    assert order == sorted(order)
    assert "constraintc demo --output runs/demo" in commands
    assert "--group test" not in commands


def test_test_on_a_fresh_machine(tmp_path: Path) -> None:
    done = make("-n", "test", f"VENV={tmp_path}/venv")
    assert done.returncode == 0, done.stderr
    for part in (
        "--group test",
        "ruff check .",
        "ruff format --check .",
        "lint-imports",
        "mypy",
        "-m pytest",
    ):
        assert part in done.stdout


def test_the_torch_range_is_that_of_the_project(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (torch,) = (r for r in project["optional-dependencies"]["train"] if r.startswith("torch"))
    assert f'"{torch}"' in make("-n", "demo", f"VENV={tmp_path}/venv").stdout
    assert '"torch==2.12.0"' in make("-n", "demo", f"VENV={tmp_path}/venv", "TORCH=torch==2.12.0").stdout


def test_a_second_run_installs_nothing(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bin/python", ".train", ".test"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() + 60, time.time() + 60))
    assert "pip" not in make("-n", "test", f"VENV={tmp_path}").stdout
    os.utime(tmp_path / ".train", (0, 0))
    assert "pip install" in make("-n", "test", f"VENV={tmp_path}").stdout


def test_without_python_the_message_says_what_to_do(tmp_path: Path) -> None:
    done = make("demo", f"VENV={tmp_path}/venv", "PYTHON=python-that-is-not-here")
    assert done.returncode == 2
    assert "error: no `python-that-is-not-here` on this machine; install Python 3.11 or later" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\n[ $1 = -V ] && echo Python 3.9.1\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    done = make("demo", f"VENV={tmp_path}/venv", f"PYTHON={old}")
    assert done.returncode == 2
    assert "is Python 3.9.1, Python 3.11 or later is needed" in done.stderr


def test_ci_calls_make_test() -> None:
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "make test" in text


def test_hooks_run_the_commands_of_make() -> None:
    hooks = re.findall(
        r"entry: \.venv/bin/(.*)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    )
    commands = make("-n", "test").stdout
    assert len(hooks) == 4
    for hook in hooks:
        assert f".venv/bin/{hook}\n" in commands


def test_a_table_of_the_paper_installs_what_it_needs_and_takes_its_scale(tmp_path: Path) -> None:
    done = make("-n", "paper-toxigen", f"VENV={tmp_path}/venv", "SCALE=smoke", "FLAGS=--list")
    assert done.returncode == 0, done.stderr
    order = [
        done.stdout.index(part)
        for part in ('".[train]"', "--group benchmark", "benchmarks/paper/run.py toxigen")
    ]
    assert order == sorted(order)
    assert "--scale smoke --shared ../shared --jobs 2 --list" in done.stdout
