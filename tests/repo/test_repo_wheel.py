"""The wheel holds the five packages with all their files, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "constraintlang": "constraintlang/constraintlang",
    "constraintc": "constraintlang/constraintc",
    "constraintlang_compiler": "compiler/constraintlang_compiler",
    "constraintlang_runtime": "runtime/constraintlang_runtime",
    "constraintlang_policies": "policies/constraintlang_policies",
}
NEEDED = (
    "constraintlang/grammar.lark",
    "constraintlang/grammar_table.json",
    "constraintlang/REFERENCE.md",
    "constraintlang_policies/prelude_1.policy",
    "constraintlang_policies/std/no_pii.policy",
    "constraintlang_policies/std/lists/insults.txt",
    "constraintlang_policies/examples/12_rich.policy",
    "constraintlang_runtime/report/template.html.j2",
    "constraintlang_runtime/report/doubts.html.j2",
    "constraintlang_runtime/report/panels.html.j2",
    "constraintlang_runtime/report/samples.html.j2",
    "constraintlang_runtime/report/samples.css",
    "constraintlang_runtime/report/samples.js",
    *(f"{package}/py.typed" for package in PACKAGES),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_needed_files(wheel: zipfile.ZipFile) -> None:
    assert set(NEEDED) <= set(wheel.namelist())


def test_exactly_the_files_of_the_packages(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)
    }
    assert shipped == sources
    assert len(shipped) > 100


def test_no_tests_and_no_bytecode(wheel: zipfile.ZipFile) -> None:
    for name in wheel.namelist():
        assert "test" not in Path(name).stem.split("_") or name == "constraintc/commands/test.py"
        assert not name.endswith(".pyc")
        assert name.count(".dist-info/") or name.split("/")[0] in PACKAGES


def test_metadata(wheel: zipfile.ZipFile) -> None:
    (root,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{root}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "matplotlib" not in metadata
    assert "Requires-Dist: torch" in metadata
    assert not any(
        line.startswith("Requires-Dist: torch") and "extra ==" not in line for line in metadata.splitlines()
    )
    assert "Apache License" in wheel.read(f"{root}/licenses/LICENSE").decode()
    entry_points = wheel.read(f"{root}/entry_points.txt").decode()
    assert "constraintc = constraintc.main:entry_point" in entry_points
    assert "[pygments.lexers]\npolicy = constraintc.pygments_lexer:PolicyLexer" in entry_points
    assert "Requires-Dist: pygls<3,>=2.1; extra == 'lsp'" in metadata
