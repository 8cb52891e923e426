"""Hashes of the prompts that a run saw: what counts as the same prompt, and the overlap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constraintlang_runtime.errors import DataError
from constraintlang_runtime.seen_prompts import (
    FILE,
    is_seen,
    prompt_hash,
    prompt_hashes,
    read_seen,
    write_seen,
)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"prompt": "How  do\nI "}, {"prompt": "how do i"}, True),
        ({"prompt": "a"}, {"prompt": "a", "completion": "b", "domain": "chat"}, True),
        ({"prompt": "\u00e9"}, {"prompt": "e\u0301"}, True),
        ({"prompt": "a"}, {"messages": [{"role": "user", "content": "a"}]}, True),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]},
            True,
        ),
        ({"text": "one text"}, {"text": "one  text"}, True),
        ({"prompt": "a b"}, {"prompt": "ab"}, False),
        ({"prompt": "a"}, {"prompt": "b"}, False),
        ({"text": "one"}, {"text": "two"}, False),
        (
            {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "a"}]},
            {"messages": [{"role": "user", "content": "a"}]},
            False,
        ),
    ],
)
def test_what_counts_as_the_same_prompt(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    assert (prompt_hash(one) == prompt_hash(other)) is same


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_overlap_is_that_of_the_texts(trained: list[str], asked: list[str]) -> None:
    seen = prompt_hashes({"prompt": text} for text in trained)
    hashes = np.array([prompt_hash({"prompt": text}) for text in asked], dtype=np.uint64)
    known = {prompt_hash({"prompt": text}) for text in trained}
    assert is_seen(seen, hashes).tolist() == [int(h) in known for h in hashes]


def test_what_is_written_is_read_back_and_damage_is_told(tmp_path: Path) -> None:
    assert read_seen(tmp_path) is None
    hashes = prompt_hashes({"prompt": str(n)} for n in range(1000))
    write_seen(tmp_path, hashes)
    found = read_seen(tmp_path)
    assert found is not None
    assert found.tolist() == sorted(hashes.tolist())
    assert (tmp_path / FILE).stat().st_size < 8 * 1000 + 200
    (tmp_path / FILE).write_bytes(b"cut short")
    with pytest.raises(DataError, match="cannot be read"):
        read_seen(tmp_path)
