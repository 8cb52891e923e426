"""Scorers that read a text together find what each finds by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constraintlang_runtime.scorers.fused import FusedScorers
from constraintlang_runtime.scorers.length import LengthScorer
from constraintlang_runtime.scorers.lexicon import LexiconScorer
from constraintlang_runtime.scorers.protocol import Scorer
from constraintlang_runtime.scorers.regex import RegexScorer

LISTS = ("ab\nb a\t0.1\naba\t0.2\n", "ab\t3\nß\n", "é\nb\n")
PATTERNS = (("a+b", False), ("(?i)B", True), ("^a", False), ("é|_", True))
texts = st.lists(st.text(st.sampled_from("abB _é ßS\u0301e\ud800"), max_size=12), max_size=6)


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scorer]:
    folder: Path = tmp_path_factory.mktemp("lists")
    found: dict[str, Scorer] = {"words": LengthScorer("words"), "characters": LengthScorer("characters")}
    for number, content in enumerate(LISTS):
        (folder / f"{number}.tsv").write_text(content)
        found[f"list{number}"] = LexiconScorer(folder / f"{number}.tsv", ceiling=4.0, flag=number == 2)
    found |= {f"pattern{n}": RegexScorer(text, flag=flag) for n, (text, flag) in enumerate(PATTERNS)}
    return found


@given(texts)
def test_together_is_each_by_itself(scorers: dict[str, Scorer], drawn: list[str]) -> None:
    together = FusedScorers(scorers)(drawn)
    assert set(together) == set(scorers)
    for name, scorer in scorers.items():
        alone = np.array(scorer(prompts=drawn, completions=drawn), dtype=np.float64)
        np.testing.assert_array_equal(together[name], alone.reshape(-1), err_msg=name)


def test_patterns_too_large_for_one_set_are_read_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constraintlang_runtime.scorers.fused.SET_MEMORY", 1000)
    wide = {name: RegexScorer(f"[{name}x]{{60}}y", flag=True) for name in ("a", "b")}
    found = FusedScorers(wide)(["a" * 60 + "y", "x" * 60 + "y", "y"])
    assert {name: values.tolist() for name, values in found.items()} == {"a": [1, 1, 0], "b": [0, 1, 0]}
