"""The twelve examples of the language: complete, clean, in canonical form, and what is not compiled yet is listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from policy_cases import Judge

from constraintlang import format_policy, parse
from constraintlang.nodes import Comment, Policy
from constraintlang.source import SourceFile
from constraintlang_compiler.emit import canonical_policy
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.pipeline import compile_path, compile_source
from constraintlang_compiler.sources import read_source
from constraintlang_policies.library import FOLDER

EXAMPLES = sorted((FOLDER / "examples").glob("*.policy"))


def test_there_are_twelve() -> None:
    assert [path.stem[:2] for path in EXAMPLES] == [f"{n:02}" for n in range(1, 13)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_clean(path: Path) -> None:
    source = read_source(path)
    found = check_and_lower(source)
    assert [d for d in found.diagnostics if d.is_error] == []
    # A ratio of chances is verified, and not trained on.
    expected = {"PC603"} if path.stem == "08_strata" else set()
    assert {d.code for d in found.diagnostics if d.severity == "warning"} == expected
    assert found.lowered is not None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_formatting_changes_nothing_and_keeps_comments(path: Path) -> None:
    text = read_source(path).text
    policy, diagnostics = parse(text)
    assert [d for d in diagnostics if d.is_error] == []
    assert format_policy(policy) == text
    marked = text.replace("\n", "  # kept\n")
    again, _ = parse(format_policy(parse(marked)[0]))
    assert again == policy
    assert sum("kept" in comment.text for comment in _comments(again)) == text.count("\n")


def _comments(policy: Policy) -> list[Comment]:
    return [comment for comment in policy.comments if comment.text]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_canonical_text_has_the_same_hash(path: Path) -> None:
    policy = compile_path(path)
    text = canonical_policy(policy.ir)
    assert compile_source(SourceFile(text)).semantic_hash == policy.semantic_hash


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_tests_in_the_file(path: Path) -> None:
    judge = Judge(path)
    assert [wrong for test in judge.tests for wrong in judge.run_test(test)] == []
    assert bool(judge.tests) == ("test " in judge.source.text)
