"""The law tests for scorers: each of ten broken scorers fails the law that it breaks, and says where."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from constraintlang_runtime.testing import LAWS, LawBroken, ScorerLaws, check_scorer

Values = list[Any]


class Broken:
    """A scorer made of a function of the completions and the number of the call."""

    def __init__(self, function: Callable[[list[str], int], Values]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> Values:
        self.calls += 1
        assert isinstance(completions, list)
        return self.function(completions, self.calls)


def share(text: str) -> float:
    return min(len(text), 100) / 100


def refuse_empty(texts: list[str], call: int) -> Values:
    if any(not text for text in texts):
        raise ZeroDivisionError("division by zero")
    return [share(t) for t in texts]


def sort_in_place(texts: list[str], call: int) -> Values:
    values = [share(t) for t in texts]
    texts.sort()
    return values


def only_short(texts: list[str], call: int) -> Values:
    if any(len(t) > 10_000 for t in texts):
        raise RecursionError("maximum recursion depth exceeded")
    return [share(t) for t in texts]


BROKEN: dict[str, tuple[Callable[[list[str], int], Values], str, str]] = {
    "forgets the last": (lambda t, c: [share(x) for x in t[:-1]], "one result per text", "got 10 results for 11"),
    "divides by the length": (refuse_empty, "one result per text", "raised ZeroDivisionError"),
    "gives words": (lambda t, c: ["good" for _ in t], "numbers", "got 'good' for ''"),
    "gives NaN": (lambda t, c: [share(x) if x else math.nan for x in t], "no NaN", "got nan for ''"),
    "leaves the range": (lambda t, c: [float(len(x)) for x in t], "range", "expected one in [0, 1]"),
    "draws": (lambda t, c: [(c % 7) / 10 for _ in t], "determinism", "at first and"),
    "ranks in the batch": (
        lambda t, c: [sum(y < x for y in t) / max(1, len(t)) for x in t], "batch = single", "among 11 texts and",
    ),
    "reads its place": (
        lambda t, c: [share(x) / (2 if len(t) > 1 and i == 3 and not x.startswith("The quick") else 1) for i, x in
                      enumerate(t)], "order", "in the given order and",
    ),
    "sorts its input": (sort_in_place, "inputs unchanged", "the list `completions` was changed"),
    "needs a text": (lambda t, c: [share(x) for x in t] if t else [0.0], "no texts", "got 1 results for 0 texts"),
    "recurses": (only_short, "huge", "raised RecursionError"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_scorer_fails_the_right_law(name: str) -> None:
    function, law, message = BROKEN[name]
    with pytest.raises(LawBroken) as found:
        check_scorer(Broken(function), range=(0, 1))
    assert found.value.law == law
    assert str(found.value).startswith(f"law `{law}`: ")
    assert message in str(found.value)


def test_every_law_is_broken_by_some_scorer() -> None:
    assert {law for _, law, _ in BROKEN.values()} == set(LAWS)


def test_a_message_names_the_text_and_what_was_got() -> None:
    with pytest.raises(LawBroken, match=r"got 2\.0 for 'yy', expected one in \[0, 1\]"):
        check_scorer(Broken(lambda t, c: [float(len(x)) for x in t]), texts=["y", "yy"], range=(0, 1))


def test_none_and_the_ends_of_the_range_are_allowed() -> None:
    check_scorer(Broken(lambda t, c: [None if not x else 1 if x > "m" else 0 for x in t]), range=(0, 1))


def test_a_models_rounding_is_allowed() -> None:
    check_scorer(Broken(lambda t, c: [0.5 + len(t) * 1e-7 for _ in t]), range=(0, 1))


def test_prompts_and_columns_reach_the_scorer() -> None:
    def scorer(
        *, prompts: Sequence[str], completions: Sequence[str], weight: Sequence[float], **columns: Any
    ) -> Values:
        return [len(p) * w for p, w in zip(prompts, weight, strict=True)]

    check_scorer(scorer, texts=["a", "b"], prompts=["x", "yy"], columns={"weight": [1.0, 0.5]}, range=(1, 1))
    with pytest.raises(ValueError, match="got 1 values for 2 texts"):
        check_scorer(scorer, texts=["a", "b"], columns={"weight": [1.0]})


def test_the_documented_example() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scorers.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "scorers.md", "exec"), names)
    names["TestShouting"]().test_range()


class TestTheMixin(ScorerLaws):
    """One test for each law, collected by pytest."""

    scorer = Broken(lambda t, c: [share(x) for x in t])
    range = (0.0, 1.0)


def test_the_mixin_has_a_test_for_every_law() -> None:
    tests = [name for name in dir(ScorerLaws) if name.startswith("test_")]
    assert len(tests) == len(LAWS)

    class Wrong(ScorerLaws):
        scorer = Broken(lambda t, c: [math.nan for _ in t])

    with pytest.raises(LawBroken, match="no NaN"):
        Wrong().test_no_nan()
