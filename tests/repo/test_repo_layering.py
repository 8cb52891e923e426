"""Imports point down the floors, nothing below the runtime loads torch; each check is seen to fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ("constraintlang", "compiler", "runtime", "policies")
PACKAGES = ("constraintlang_policies", "constraintlang", "constraintlang_compiler", "constraintc")
ONE_WAY, NO_TORCH = "dependencies point one way", "no torch below the runtime"
NO_PYGLS = "only the command knows the library of its language server"
HEAVY = {"torch", "transformers", "accelerate", "datasets", "peft", "safetensors"}
LINT = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"
IMPORT_ALL = """
import importlib, json, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # the extra `lsp` may not be installed
            if error.name.partition(".")[0] not in ("pygls", "lsprotocol"):
                raise
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def with_path(root: Path) -> dict[str, str]:
    """The environment in which the packages below ``root`` are found first."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(root / floor) for floor in FLOORS)}


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=root,
        env=with_path(root) | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def loaded(root: Path, *packages: str) -> set[str]:
    """Top-level modules in a fresh process that has imported every module of the packages."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_ALL, *packages],
        env=with_path(root),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources in a place where mistakes can be planted."""
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, tmp_path / floor, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_are_kept() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "statement", "contract"),
    [
        ("compiler/constraintlang_compiler/lower.py", "import torch", NO_TORCH),
        ("compiler/constraintlang_compiler/lower.py", "import constraintlang_runtime.data", ONE_WAY),
        ("constraintlang/constraintlang/nodes.py", "import constraintlang_compiler.ir", ONE_WAY),
        ("compiler/constraintlang_compiler/front.py", "import lsprotocol.types", NO_PYGLS),
    ],
)
def test_a_planted_import_is_caught(copy: Path, file: str, statement: str, contract: str) -> None:
    with (copy / file).open("a", encoding="utf-8") as source:
        source.write(f"\n\ndef planted():\n    {statement}\n")
    done = lint_imports(copy)
    assert done.returncode == 1, done.stdout
    assert f"{contract} BROKEN" in done.stdout


def test_no_module_below_the_runtime_loads_torch() -> None:
    """Every module of the lower floors, and of the command, whose verbs import the runtime when they run."""
    modules = loaded(ROOT, *PACKAGES)
    assert set(PACKAGES) <= modules
    assert not modules & HEAVY


def test_the_runtime_itself_can_be_named_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, constraintlang_runtime; sys.exit('torch' in sys.modules)"],
        env=with_path(ROOT),
        check=False,
    )
    assert done.returncode == 0


def test_a_planted_torch_is_seen(copy: Path) -> None:
    (copy / "policies" / "torch.py").write_text(
        "", encoding="utf-8"
    )  # a light torch, found before the real one
    with (copy / "compiler" / "constraintlang_compiler" / "canonical.py").open(
        "a", encoding="utf-8"
    ) as source:
        source.write("\nimport torch\n")
    assert "torch" in loaded(copy, "constraintlang_compiler")
