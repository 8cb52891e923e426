"""The standard library: every policy checks clean, and does to its accepted and rejected texts what it says."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from policy_cases import TORCH_FREE, Case, Judge, read_cases

from constraintlang import check_source, format_policy, parse
from constraintlang import nodes as n
from constraintlang.declarations import walk
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.sources import read_source
from constraintlang_policies.library import FOLDER, std_names, std_path, std_summary

STD = FOLDER / "std"
NAMES = std_names()


@cache
def judge(name: str) -> Judge:
    return Judge(std_path(f"std/{name}.policy"))


def cases(kind: str) -> list[object]:
    return [
        pytest.param(name, case, id=f"{name}-{index}")
        for name in NAMES
        for index, case in enumerate(read_cases(STD / "cases" / f"{name}.{kind}.jsonl"))
    ]


def test_there_is_a_library() -> None:
    assert len(NAMES) >= 14
    assert {path.name for path in (STD / "cases").iterdir()} == {
        f"{name}.{kind}.jsonl" for name in NAMES for kind in ("accepted", "rejected")
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_is_well_kept(name: str) -> None:
    source = read_source(std_path(f"std/{name}.policy"))
    found = check_and_lower(source)
    assert [d for d in found.diagnostics if d.severity == "warning"] == []
    assert [d for d in found.diagnostics if d.is_error] == []
    policy, _ = parse(source)
    assert format_policy(policy) == source.text
    assert source.text.split("\n")[1].startswith(("#", "edition 1"))
    assert std_summary(name).endswith(".")
    assert len(std_summary(name)) <= 120
    assert all(statement.label for statement in _statements(policy.items))
    assert check_source(source).tree == policy


def _statements(items: Iterable[n.Item]) -> list[n.Statement]:
    return [item for item, _ in walk(items) if isinstance(item, n.Statement)]


@pytest.mark.parametrize(("name", "case"), cases("accepted"))
def test_accepted_texts(name: str, case: Case) -> None:
    assert case.broken == frozenset()
    assert judge(name).broken(case.text, case.tags) == set()


@pytest.mark.parametrize(("name", "case"), cases("rejected"))
def test_rejected_texts(name: str, case: Case) -> None:
    assert case.broken
    assert judge(name).broken(case.text, case.tags) == case.broken


@pytest.mark.parametrize("name", NAMES)
def test_tests_in_the_file(name: str) -> None:
    policy = judge(name)
    assert len(policy.tests) >= 1
    assert [wrong for test in policy.tests for wrong in policy.run_test(test)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_has_a_case(name: str) -> None:
    """A text that breaks it, or a test in the file: a statement that nothing breaks demands nothing."""
    policy = judge(name)
    broken = {label for case in read_cases(STD / "cases" / f"{name}.rejected.jsonl") for label in case.broken}
    tested = {item.on for test in policy.tests for item in test.items if hasattr(item, "on")}
    rows = {s.label for s in policy.checked.statements if s.reading == "rows"}
    distribution = {s.label for s in policy.checked.statements if s.reading == "distribution"}
    assert set(policy.labels) - rows - distribution <= broken | tested
    assert broken <= set(policy.labels)
    assert not distribution or distribution & tested


@pytest.mark.parametrize("name", NAMES)
def test_every_attribute_can_be_measured(name: str) -> None:
    """By a backend, or, as the comment at the top says, by one that the user binds with --scorer."""
    source = read_source(std_path(f"std/{name}.policy"))
    for item in parse(source)[0].items:
        if isinstance(item, n.Attribute):
            backends = [f.value.function for f in item.fields if f.name == "backend"]
            assert backends or f"--scorer {item.name}=" in source.text
            assert not backends or backends[0] in (*TORCH_FREE, "classifier")


def test_word_lists() -> None:
    used = "".join(std_path(f"std/{name}.policy").read_text(encoding="utf-8") for name in NAMES)
    for path in (STD / "lists").iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        entries = [line for line in lines if not line.startswith("#")]
        assert lines[0].startswith("# ")
        assert entries == sorted(set(entries)) == [entry.strip().casefold() for entry in entries]
        assert f'"std/lists/{path.name}"' in used


def test_languages_share_no_word() -> None:
    words = {
        path.stem: set(path.read_text(encoding="utf-8").splitlines()[1:])
        for path in (STD / "lists").glob("words_*.txt")
    }
    assert len(words) == 4
    for one, other in itertools.combinations(words, 2):
        assert words[one] & words[other] == set()


@pytest.mark.parametrize("name", ["std/../prelude_1.policy", "std//etc/passwd", "std/", "no_pii", "std/a\\b"])
def test_names_that_leave_the_library(name: str) -> None:
    with pytest.raises(ValueError, match="below `std/`"):
        std_path(name)


TORCH_FREE_RUN = """
import sys
for name in ("torch", "transformers", "accelerate", "datasets", "peft", "safetensors"):
    sys.modules[name] = None
from pathlib import Path
from policy_cases import Judge
judge = Judge(Path(sys.argv[1]))
assert judge.broken("Only a MORON would ask that!!", {}) == {"polite", "composed"}
assert [wrong for test in judge.tests for wrong in judge.run_test(test)] == []
"""


def test_lists_patterns_lengths_and_verdicts_need_no_torch() -> None:
    place = std_path("std/politeness.policy")
    command = [sys.executable, "-c", TORCH_FREE_RUN, str(place)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_case_can_fail(tmp_path: Path) -> None:
    """A library whose pattern is broken is seen to be broken."""
    text = (STD / "no_pii.policy").read_text(encoding="utf-8")
    weak = text.replace(r"4\d{3}|", "", 1)
    assert weak != text
    (tmp_path / "no_pii.policy").write_text(weak, encoding="utf-8")
    worse = Judge(tmp_path / "no_pii.policy")
    rejected = list(read_cases(STD / "cases" / "no_pii.rejected.jsonl"))
    assert any(worse.broken(case.text, case.tags) != case.broken for case in rejected)
    assert any(worse.run_test(test) for test in worse.tests)
