"""Scores on disk: found again by other runs and processes, bounded, and never the reason why a run fails."""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from constraintlang.source import SourceFile
from constraintlang_compiler.pipeline import compile_with_diagnostics
from constraintlang_runtime.errors import ConfigError, ScorerError, ScorerUnavailable
from constraintlang_runtime.scorers import cache as cache_file
from constraintlang_runtime.scorers import calling
from constraintlang_runtime.scorers.cache import FILE, ScoreCache, default_folder, open_cache, score_key
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.protocol import Terms

KEYS = [score_key("s", "p", str(i)) for i in range(2000)]


class Counting:
    """Scores a text by its length over ten, and counts the texts that it was given."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.seen: list[str] = []

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        self.seen += completions
        return [None if text == "?" else len(text) / 10 for text in completions]


def pool(scorer: Any, cache: ScoreCache | None, **options: Any) -> ScoringPool:
    text = "edition 1\nattribute tone: score in [0, 1] lower_is_better\ntone <= 1\n"
    outcome = compile_with_diagnostics(SourceFile(text, "p.policy"))
    assert outcome.policy is not None
    return ScoringPool(outcome.policy.ir.attributes, {"tone": scorer}, cache=cache, **options)


# ------------------------------------------------------------ what is kept
def test_numbers_are_found_again(tmp_path: Path) -> None:
    values = {key: i / 7 for i, key in enumerate(KEYS)}
    first = ScoreCache(tmp_path)
    first.put(values)
    first.close()
    assert ScoreCache(tmp_path).get([*KEYS, score_key("s", "p", "other")]) == values


def test_keys_do_not_meet() -> None:
    """A text that moves over from the prompt, or from the scorer's name, is another key."""
    given = [
        ("s", "a", "b"),
        ("s", "ab", ""),
        ("s", "", "ab"),
        ("sa", "", "b"),
        ("s", 'a","', "b"),
        ("s", "a", '","b'),
    ]
    assert len({score_key(*one) for one in given}) == len(given)
    assert len(score_key("s", "\ud800", "\udfff")) == 32  # half a surrogate pair is a text too


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, max_scores=100)
    cache.put(dict.fromkeys(KEYS[:50], 0.5))
    cache.put(dict.fromkeys(KEYS[50:90], 0.5))
    assert len(cache.get(KEYS[:50])) == 50  # used again
    for key in KEYS[90:130]:
        cache.put({key: 0.5})
    found = cache.get(KEYS)
    assert len(found) <= 105
    assert set(KEYS[:50]) <= set(found)
    assert len(set(KEYS[50:90]) & set(found)) <= 15
    assert set(KEYS[90:130]) <= set(found)


def test_several_processes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from constraintlang_runtime.scorers.cache import ScoreCache, score_key\n"
        "own = int(sys.argv[2]); cache = ScoreCache(Path(sys.argv[1]))\n"
        "for i in range(60):\n"
        "    cache.put({score_key('s', str(own), str(i)): i / 64, score_key('s', 'all', str(i)): i / 32})\n"
        "    assert cache.get([score_key('s', str(own), str(i))])\n"
        "assert not cache._is_off\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    running = [
        subprocess.Popen([*command, str(i)], env=environment, stderr=subprocess.PIPE, text=True)
        for i in range(4)
    ]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
    cache = ScoreCache(tmp_path)
    for own in ("0", "1", "2", "3", "all"):
        expected = {score_key("s", own, str(i)): i / (32 if own == "all" else 64) for i in range(60)}
        assert cache.get(list(expected)) == expected


def test_a_process_that_was_forked_opens_the_file_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ScoreCache(tmp_path)
    cache.put({KEYS[0]: 0.5})
    old = cache._connection
    monkeypatch.setattr(cache_file.os, "getpid", lambda: 1)
    assert cache.get(KEYS[:1]) == {KEYS[0]: 0.5}
    assert cache._connection is not old


# ------------------------------------------------------------ what is not a score
@pytest.mark.parametrize(
    "value", ["null", "true", '"0.5"', "NaN", "[1]", "{", "Infinity", "", b"\x80\x04K\x01."]
)
def test_rows_that_are_not_scores_are_not_read(tmp_path: Path, value: Any) -> None:
    cache = ScoreCache(tmp_path)
    cache.put({KEYS[0]: 0.5, KEYS[1]: 0.25})
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE scores SET value = ? WHERE key = ?", [value, KEYS[0]])
    connection.close()
    assert cache.get(KEYS[:2]) == {KEYS[1]: 0.25}


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, None], ids=["another file", "damaged pages"]
)
def test_a_broken_file_is_begun_anew(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    first = ScoreCache(tmp_path)
    first.put(dict.fromkeys(KEYS, 0.5))
    first.close()
    path = tmp_path / FILE
    path.write_bytes(content or path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    cache = ScoreCache(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEYS) == {}
        cache.put({KEYS[0]: 0.75})
    assert "begun anew" in caplog.text
    assert cache.get(KEYS) == {KEYS[0]: 0.75}
    assert (tmp_path / "scores.broken").exists()


def test_a_full_disk_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ScoreCache(tmp_path)
    cache.put({KEYS[0]: 0.5})
    assert cache._connection is not None
    cache._connection.execute("PRAGMA max_page_count = 8")
    scorer = Counting(Terms(identity="t"))
    texts = [str(i) for i in range(2000)]
    with caplog.at_level(logging.WARNING):
        assert pool(scorer, cache).score(["p"] * 2000, texts)["tone"].tolist() == [len(t) / 10 for t in texts]
    assert caplog.text.count("is not used: database or disk is full") == 1


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = ScoreCache(tmp_path / "file" / "below")
    with caplog.at_level(logging.WARNING):
        cache.put({KEYS[0]: 0.5})
        assert cache.get(KEYS[:1]) == {}
    assert caplog.text.count("is not used") == 1


# ------------------------------------------------------------ in the pool
def test_a_scorer_with_an_identity_is_asked_once_by_all_runs(tmp_path: Path) -> None:
    scorers = [Counting(Terms(identity="s")) for _ in range(2)]
    for scorer in scorers:
        found = pool(scorer, ScoreCache(tmp_path)).score(["p"] * 3, ["a", "bb", "?"])["tone"].tolist()
        assert found[:2] == [0.1, 0.2]
        assert math.isnan(found[2])
    assert scorers[0].seen == ["a", "?", "bb"]
    assert scorers[1].seen == ["?"]  # unavailable is not a score, and is asked again


@pytest.mark.parametrize("terms", [Terms(), Terms(identity="one"), Terms(identity="other")], ids=str)
def test_scores_of_one_scorer_are_not_those_of_another(tmp_path: Path, terms: Terms) -> None:
    pool(Counting(Terms(identity="s")), ScoreCache(tmp_path)).score(["p"], ["a"])
    scorer = Counting(terms)
    pool(scorer, ScoreCache(tmp_path)).score(["p"], ["a"])
    assert scorer.seen == ["a"]
    with sqlite3.connect(tmp_path / FILE) as connection:
        (count,) = connection.execute("SELECT count(*) FROM scores").fetchone()
    connection.close()
    assert count == (1 if terms.identity is None else 2)


def test_what_is_kept_is_checked_like_what_is_new(tmp_path: Path) -> None:
    ScoreCache(tmp_path).put({score_key("s", "p", "a"): 7.0})
    with pytest.raises(ScorerError, match="outside the declared range"):
        pool(Counting(Terms(identity="s")), ScoreCache(tmp_path)).score(["p"], ["a"])


def test_progress_counts_what_is_kept(tmp_path: Path) -> None:
    pool(Counting(Terms(identity="s")), ScoreCache(tmp_path)).score(["p"] * 2, ["a", "bb"])
    calls: list[tuple[int, int]] = []
    made = pool(Counting(Terms(identity="s")), ScoreCache(tmp_path), batch_size=1)
    made.score(["p"] * 4, ["a", "bb", "c", "d"], progress=lambda *at: calls.append(at))
    assert calls == [(2, 4), (3, 4), (4, 4)]


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "constraintlang"
    usual, named = open_cache(None), open_cache(str(tmp_path))
    assert usual is not None
    assert named is not None
    costly, cheap, unnamed = Terms(identity="s", is_costly=True), Terms(identity="s"), Terms(is_costly=True)
    assert [usual.takes(terms) for terms in (costly, cheap, unnamed)] == [True, False, False]
    assert [named.takes(terms) for terms in (costly, cheap, unnamed)] == [True, True, False]
    assert open_cache("off") is open_cache(False) is None
    (tmp_path / "file").write_text("")
    for wrong in (True, "", str(tmp_path / "file")):
        with pytest.raises(ConfigError, match="score_cache"):
            open_cache(wrong)
    pool(Counting(cheap), usual).score(["p"], ["a"])
    assert not (tmp_path / "constraintlang").exists()


# ------------------------------------------------------------ scorers that fail
class Shaky:
    """Is unavailable some times for each call, then scores."""

    def __init__(self, times: int, terms: Terms, **why: Any) -> None:
        self.terms = terms
        self.times, self.why = times, why
        self.calls: dict[str, int] = {}

    def __call__(self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
        key = json.dumps(list(completions))
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] <= self.times:
            raise ScorerUnavailable("away", **self.why)
        return [0.5] * len(completions)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that a caller asks for, none of which is made."""
    found: list[float] = []
    original = calling.Caller._pause

    def pause(self: Any, attempt: int, retry_after: float | None) -> float:
        found.append(original(self, attempt, retry_after))
        return 0.0

    monkeypatch.setattr(calling.Caller, "_pause", pause)
    return found


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_scorer_that_is_away_is_asked_again(at_once: int, pauses: list[float]) -> None:
    terms = Terms(batch_size=2, at_once=at_once, attempts=3)
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    there, gone = Shaky(2, terms), Shaky(3, terms)
    assert pool(there, None).score(["p"] * 5, texts)["tone"].tolist() == [0.5] * 5
    made = pool(gone, None)
    assert np_all_nan(made.score(["p"] * 5, texts)["tone"].tolist())
    assert made.unavailable == {"tone": 5}
    assert set(there.calls.values()) == set(gone.calls.values()) == {3}


def np_all_nan(values: list[float]) -> bool:
    return all(math.isnan(value) for value in values)


def test_pauses_grow_and_follow_from_the_seed(pauses: list[float]) -> None:
    runs = []
    for seed in (0, 0, 1):
        pauses.clear()
        pool(Shaky(9, Terms(attempts=9)), None, seed=seed).score(["p"], ["a"])
        runs.append(list(pauses))
    assert runs[0] == runs[1] != runs[2]
    for attempt, pause in enumerate(runs[0]):
        assert min(30.0, 0.25 * 2**attempt) <= pause <= min(30.0, 0.75 * 2**attempt)
    assert len(runs[0]) == 8


def test_what_is_asked_for_is_kept_within_bounds(pauses: list[float]) -> None:
    pool(Shaky(1, Terms(), retry_after=0.01), None).score(["p"], ["a"])
    assert pauses == [0.01]
    for asked, pause in ((0.001, 0.001), (1e9, 30.0), (-1.0, 0.0)):
        pauses.clear()
        calling.Caller[int](Terms())._pause(1, asked)
        assert pauses == [pause]


def test_of_no_use_is_not_asked_again() -> None:
    scorer = Shaky(1, Terms(), again=False)
    assert np_all_nan(pool(scorer, None).score(["p"], ["a"])["tone"].tolist())
    assert scorer.calls == {'["a"]': 1}
