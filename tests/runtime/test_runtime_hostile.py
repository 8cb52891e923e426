"""Hostile texts and hostile policies: every scorer answers or refuses, in bounded time, and nothing is run or read."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from hostile_policies import POLICIES, write_folder
from hostile_texts import LEAST, LONG, SCORED, SIZES

from constraintlang.source import SourceFile
from constraintlang_compiler.pipeline import compile_path, compile_with_diagnostics
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.binding import bind_scorers
from constraintlang_runtime.scorers.pool import ScoringPool

# ------------------------------------------------------------------------------------------------- texts
SCORERS = {
    "readability": ("readability(gunning_fog)", "real in [0, 50]"),
    "repetition": ("repetition(distinct_2)", "score"),
    "language": ('language("en")', "score"),
    "secrets": ("secrets()", "count"),
    "json": ("json()", "flag"),
    "json_schema": ('json_schema("s.json")', "flag"),
    "python": ("code(python)", "flag"),
    "code_json": ("code(json)", "flag"),
    "toml": ("code(toml)", "flag"),
    "lexicon": ('lexicon("words.txt")', "count"),
    "regex": ('regex(re"(a+)+$")', "count"),
    "sentences": ("length(sentences)", "int"),
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ScoringPool:
    folder = tmp_path_factory.mktemp("policy")
    (folder / "s.json").write_text('{"type": "object"}')
    (folder / "words.txt").write_text("dog\n")
    lines = [f"attribute my_{n}: {kind} {{ backend = {b} }}" for n, (b, kind) in SCORERS.items()]
    demands = [f"always not my_{n}" if kind == "flag" else f"my_{n} <= 1" for n, (_, kind) in SCORERS.items()]
    (folder / "p.policy").write_text("\n".join(["edition 1", *lines, *demands]))
    compiled = compile_path(folder / "p.policy")
    return ScoringPool(
        compiled.ir.attributes, bind_scorers(compiled.ir, {}, folder=folder, files=compiled.files)
    )


@pytest.mark.parametrize("name", SCORED)
def test_hostile_texts(pool: ScoringPool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = pool.score([SCORED[name]], [SCORED[name]])
    assert set(found) == {f"my_{n}" for n in SCORERS}
    assert not any(math.isinf(value) for values in found.values() for value in values)
    assert list(tmp_path.iterdir()) == []  # nothing was run


@pytest.mark.parametrize("name", LONG)
def test_millions_of_characters(pool: ScoringPool, name: str) -> None:
    """Ten million in two of them; bounded by the tests' own time limit."""
    text = LONG[name] * (SIZES.get(name, LEAST) // len(LONG[name]))
    found = pool.score([""], [text])
    for parser in ("json", "json_schema", "python", "toml", "secrets"):
        assert math.isnan(found[f"my_{parser}"][0])  # no score, rather than a guess


# ---------------------------------------------------------------------------------------------- policies
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path)


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("name", POLICIES)
def test_hostile_policies(folder: Path, name: str, in_file: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by what the record says, as a text by any coded error or ConfigError; and nothing of them has run."""
    hostile = POLICIES[name]
    text = f"edition 1\n{hostile.text}"
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    (folder / "p.policy").write_text(text)
    source = SourceFile(text, str(folder / "p.policy"), folder) if in_file else SourceFile(text)
    outcome = compile_with_diagnostics(source)
    if outcome.policy is None:
        errors = [d for d in outcome.diagnostics if d.severity == "error"]
        assert all(d.code.startswith("PC") for d in errors)
        by, message = errors[0].code, errors[0].message
    else:
        with pytest.raises(ConfigError) as found:
            bind_scorers(outcome.policy.ir, {}, folder=folder, files=outcome.policy.files)
        assert found.value.help or "expected" in found.value.message
        by, message = "ConfigError", found.value.message
    if in_file:
        assert (by, hostile.says in message) == (hostile.by, True), message
    assert "evil" not in sys.modules
    assert "antigravity" not in sys.modules
    assert not (folder / "owned").exists()


@pytest.mark.parametrize("verb", ["score", "why", "try", "test", "eval", "generate", "train"])
def test_every_command_that_scores_has_both_flags(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    from constraintc.main import main

    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--allow-code" in text
    assert "--allow-plugins" in text


def test_the_command_refuses_and_allows_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from constraintc.main import main

    (folder / "checks.py").write_text("import answer\ndef test_a(): assert answer.x == 1\n")
    (folder / "p.policy").write_text(
        'edition 1\nattribute a: flag { backend = code_tests("checks.py") }\nalways a\n'
    )
    (folder / "rows.jsonl").write_text('{"prompt": "p", "completion": "x = 1"}\n')
    score = ["score", str(folder / "p.policy"), "--data", str(folder / "rows.jsonl"), "--quiet"]
    assert main(score) == 2
    assert "--allow-code" in capsys.readouterr().err
    assert main([*score, "--allow-code"]) == 0
