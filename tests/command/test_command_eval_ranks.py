"""``constraintc eval`` in several processes: they share the work, and give the result of one."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_process import two_ranks
from tiny_models import POLICY, World, write_jsonl

from constraintc.main import main
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.ranks import processes_together
from constraintlang_runtime.scorers import divided_pool
from constraintlang_runtime.scorers.divided_pool import DividedPool

Captured = pytest.CaptureFixture[str]
MANY = POLICY + (
    "calm: mean(toxicity) <= 0.4 for domain=chat\n"
    "steady: P(toxicity <= 0.5) >= 20% for domain=chat\n"
    "near: mean(toxicity) <= mean(toxicity@base) + 0.1 for domain=chat\n"
    "same: preserve mean(perplexity) <= 1.5 * base for domain=chat\n"
)


@pytest.fixture
def words(world: World, tmp_path: Path) -> list[str]:
    """An evaluation with a start model, rows, an audit scorer and two replies to each prompt."""
    shutil.copy(world.root / "words.tsv", tmp_path)
    (tmp_path / "many.policy").write_text(MANY)
    audit = write_word_list(tmp_path / "audit.tsv")
    return [
        "eval", str(tmp_path / "many.policy"), "--model", str(world.model), "--base", str(world.model),
        "--prompts", str(world.prompts), "--rows", f"chat={world.data}", "--audit", f"toxicity={audit}",
        "--max_new_tokens", "10", "--batch_size", "8", "--samples", "2",
    ]  # fmt: skip


def write_word_list(path: Path) -> Path:
    path.write_text("the\t0.5\n")
    return path


def found(folder: Path) -> dict[str, Any]:
    verdict: dict[str, Any] = json.loads((folder / "verdict.json").read_text())
    return {key: value for key, value in verdict.items() if key != "seconds"}


def assert_close(one: Any, other: Any) -> None:
    """Equal but for the last digits of floats: rows are in other batches."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list):
        for mine, its in zip(one, other, strict=True):
            assert_close(mine, its)
    else:
        assert (pytest.approx(one, rel=1e-6) if isinstance(one, float) else one) == other


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--sequential", "--samples", "1"]])
def test_two_processes_find_what_one_does(flags: list[str], words: list[str], tmp_path: Path) -> None:
    code = main([*words, *flags, "--output", str(tmp_path / "one")])
    codes, ranks = two_ranks(tmp_path, [*words, *flags, "--output", str(tmp_path / "two")])
    assert codes == [code, 0], "".join(rank.err.read_text()[-3000:] for rank in ranks)
    assert_close(found(tmp_path / "two"), found(tmp_path / "one"))
    samples = [(tmp_path / name / "samples.jsonl").read_bytes() for name in ("one", "two")]
    assert samples[0] == samples[1]
    assert "kind" in ranks[0].out.read_text()
    assert ranks[1].out.read_text() == ""
    assert "warning" not in ranks[1].err.read_text()


def test_what_has_no_model_is_not_shared(
    tmp_path: Path, world: World, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    replies = write_jsonl(tmp_path / "replies.jsonl", [{"prompt": "a", "completion": "b", "domain": "chat"}])
    shutil.copy(world.root / "words.tsv", tmp_path)
    (tmp_path / "own.policy").write_text(POLICY)
    assert main(["eval", str(tmp_path / "own.policy"), "--completions", str(replies)]) == 2
    assert "eval was started as 4 processes" in capsys.readouterr().err


def test_an_environment_that_names_no_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with (
        pytest.raises(ConfigError, match=r"one of 4 processes .* without RANK, LOCAL_RANK"),
        processes_together(),
    ):
        pass


class Lengths:
    """A pool that notes what it is asked for."""

    names = ("a", "b")
    follow_columns = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []

    def score(
        self, prompts: Any, completions: Any, names: Any = None, columns: Any = None, progress: Any = None
    ) -> dict[str, Any]:
        self.asked += zip(prompts, completions, columns["row"], strict=True)
        return {name: np.array([float(len(text)) for text in completions]) for name in names or self.names}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_each_text_is_scored_once_and_stands_in_its_place(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["long text", "a", "", "a", "four", "long text", "a"]
    pools, meeting, given = [Lengths() for _ in range(size)], threading.Barrier(size), [{}] * size
    own = threading.local()

    def gathered(part: dict[str, Any]) -> list[dict[str, Any]]:
        given[own.rank] = part
        meeting.wait(10)
        return list(given)

    def process(rank: int) -> Any:
        own.rank = rank
        return DividedPool(pools[rank]).score(["p"] * 7, texts, ["b"], {"row": list(range(7))})

    monkeypatch.setattr(divided_pool, "rank_and_size", lambda: (own.rank, size))
    monkeypatch.setattr(divided_pool, "gathered", gathered)
    with ThreadPoolExecutor(size) as processes:
        for scores in processes.map(process, range(size)):
            assert scores["b"].tolist() == [float(len(text)) for text in texts]
    asked = [{text for _, text, _ in pool.asked} for pool in pools]
    assert sum(len(part) for part in asked) == len(set(texts))
    assert sorted(row for pool in pools for _, _, row in pool.asked) == list(range(7))
