"""The same policy is the same bytes: under any hash seed, in any folder, in any order of its items."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from constraintlang import format_policy, parse
from constraintlang import nodes as n
from constraintlang.source import SourceFile
from constraintlang_compiler.canonical import canonical_bytes
from constraintlang_compiler.pipeline import compile_source, compile_with_diagnostics
from constraintlang_compiler.sources import read_source
from constraintlang_policies.library import FOLDER

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "determinism" / "run.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("determinism", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def here() -> dict[str, dict[str, str]]:
    module = script()
    return dict(module.hashes(module.shipped()))


def test_every_policy_that_compiles_is_in_it(here: dict[str, dict[str, str]]) -> None:
    paths = [path for part in ("examples", "std") for path in (FOLDER / part).glob("*.policy")]
    compiled = [path for path in paths if compile_with_diagnostics(read_source(path)).policy is not None]
    assert set(here) == {f"{path.parent.name}/{path.stem}" for path in compiled}
    assert len(here) >= 18
    # Two examples differ in label and tests only: they mean the same, and no others do.
    same = here["examples/01_one_line"]["semantic_hash"]
    assert here["examples/10_tests"]["semantic_hash"] == same
    assert len({hashes["semantic_hash"] for hashes in here.values()}) == len(here) - 1


@pytest.mark.parametrize("seed", [1, 4242])
def test_hash_seeds_and_folders(here: dict[str, dict[str, str]], tmp_path: Path, seed: int) -> None:
    """In a fresh process, with the policies in another folder and another current directory."""
    other = tmp_path / "a folder with spaces" / str(seed)
    shutil.copytree(ROOT / "policies", other / "policies", ignore=shutil.ignore_patterns("__pycache__"))
    packages = [str(other / "policies"), *(str(ROOT / name) for name in ("constraintlang", "compiler"))]
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(packages), "PYTHONHASHSEED": str(seed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hashes"] == here


def shuffled(policy: n.Policy, seed: int) -> n.Policy:
    """The items in another order, those of groups too; the edition stays first."""
    order = random.Random(seed)

    def mixed(items: tuple[n.Item, ...]) -> tuple[n.Item, ...]:
        first = [item for item in items if isinstance(item, n.Edition)]
        rest = [
            n.Group(name=item.name, clauses=item.clauses, items=mixed(item.items))
            if isinstance(item, n.Group)
            else item
            for item in items
            if not isinstance(item, n.Edition)
        ]
        order.shuffle(rest)
        return (*first, *rest)

    return n.Policy(items=mixed(policy.items))


def test_the_order_of_items(here: dict[str, dict[str, str]]) -> None:
    moved = 0
    for name, hashes in here.items():
        path = FOLDER / f"{name}.policy"
        source = read_source(path)
        written = canonical_bytes(compile_source(source).ir_json())
        for seed in range(3):
            text = format_policy(shuffled(parse(source.text)[0], seed))
            moved += text.split() != source.text.split()
            policy = compile_source(SourceFile(text, path.name, path.parent))
            assert policy.semantic_hash == hashes["semantic_hash"], name
            assert canonical_bytes(policy.ir_json()) == written, name
    assert moved > 40


def test_a_policy_that_means_something_else_has_another_hash(here: dict[str, dict[str, str]]) -> None:
    """The comparison can fail: one threshold of one policy."""
    source = read_source(FOLDER / "examples" / "02_readings.policy")
    other = compile_source(replace(source, text=source.text.replace("< 0.5", "<= 0.5")))
    assert other.semantic_hash != here["examples/02_readings"]["semantic_hash"]
