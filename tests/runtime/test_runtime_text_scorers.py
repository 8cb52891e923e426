"""The scorers of texts: values computed by hand, what they refuse, and the laws that all of them obey."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from constraintlang.known_values import KNOWN
from constraintlang.source import SourceFile
from constraintlang.vocabulary import BACKENDS
from constraintlang_compiler.ir import PolicyIR
from constraintlang_compiler.pipeline import compile_with_diagnostics
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers import extras
from constraintlang_runtime.scorers.binding import bind_scorers
from constraintlang_runtime.scorers.builders import BUILDERS, builder_of
from constraintlang_runtime.scorers.fences import code_of
from constraintlang_runtime.scorers.limits import MAX_CHARACTERS
from constraintlang_runtime.scorers.protocol import Scorer
from constraintlang_runtime.testing import check_scorer

needs_presidio = pytest.mark.skipif(
    importlib.util.find_spec("presidio_analyzer") is None,
    reason="presidio-analyzer is not installed: pip install 'constraintlang[pii]'",
)


def policy(backend: str, kind: str) -> PolicyIR:
    text = f"edition 1\nattribute a: {kind} {{ backend = {backend} }}\n"
    text += "always not a\n" if kind == "flag" else "a <= 1\n"
    outcome = compile_with_diagnostics(SourceFile(text, "p.policy"))
    assert outcome.policy is not None, outcome.diagnostics
    return outcome.policy.ir


def bound(backend: str, kind: str, folder: Path = Path(), **allowed: bool) -> Scorer:
    return bind_scorers(policy(backend, kind), {}, folder=folder, **allowed)["a"]


def score(scorer: Scorer, *texts: str) -> list[float | None]:
    return list(scorer(prompts=[""] * len(texts), completions=list(texts)))


def test_every_backend_of_the_language_has_a_builder() -> None:
    assert set(BUILDERS) == set(BACKENDS)
    assert builder_of("nothing") is None


def test_a_builder_whose_file_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(BUILDERS, "secrets", "constraintlang_runtime.scorers.not_there:build")
    with pytest.raises(ConfigError, match="`secrets` is not run by this release"):
        bound("secrets()", "flag", tmp_path)
    monkeypatch.setitem(sys.modules, "constraintlang_runtime.scorers.broken", None)
    monkeypatch.setitem(BUILDERS, "secrets", "constraintlang_runtime.scorers.broken:build")
    assert builder_of("secrets") is None


# ------------------------------------------------------------------------------------------- repetition
@pytest.mark.parametrize(
    ("measure", "text", "expected"),
    [
        ("distinct_1", "a b a b", 1 / 2),
        ("distinct_2", "a b a b", 2 / 3),
        ("distinct_3", "a b a b", 1.0),
        ("repeated_2", "a b a b", 1 / 3),
        ("repeated_3", "x y z x y z x", 1 - 3 / 5),
        ("repeated_4", "go go go go go", 1 / 2),
        ("distinct_1", "The the\nTHE\tthe", 1 / 4),
        ("distinct_1", "", 1.0),
        ("repeated_2", "", 0.0),
        ("repeated_2", "one", 0.0),
        ("distinct_3", "one two", 1.0),
    ],
)
def test_repetition(measure: str, text: str, expected: float) -> None:
    assert score(bound(f"repetition({measure})", "score"), text) == [pytest.approx(expected)]


def test_repetition_counts_as_sets_of_tuples_do() -> None:
    import random

    source = random.Random(3)
    for n in (1, 2, 3):
        scorer = bound(f"repetition(distinct_{n})", "score")
        for _ in range(30):
            words = [source.choice("abcd") for _ in range(source.randrange(n, 40))]
            groups = list(zip(*(words[i:] for i in range(n)), strict=False))
            assert score(scorer, " ".join(words)) == [pytest.approx(len(set(groups)) / len(groups))]


# ------------------------------------------------------------------------------------------ readability
TEXT = "The cat sat on the mat. It was an unbelievable animal."
# 11 words, 2 sentences, 42 letters; syllables by pyphen: all words 1 but un-be-liev-able 4 and an-i-mal 3


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("flesch_reading_ease", 206.835 - 1.015 * 5.5 - 84.6 * 16 / 11),
        ("flesch_kincaid_grade", 0.39 * 5.5 + 11.8 * 16 / 11 - 15.59),
        ("gunning_fog", 0.4 * (5.5 + 100 * 2 / 11)),
        ("smog_index", 1.043 * math.sqrt(30 * 2 / 2) + 3.1291),
        ("coleman_liau_index", 5.88 * 42 / 11 - 29.6 * 2 / 11 - 15.8),
        ("automated_readability_index", 4.71 * 42 / 11 + 0.5 * 5.5 - 21.43),
    ],
)
def test_readability(formula: str, expected: float) -> None:
    scorer = bound(f"readability({formula})", "real in [-100, 200]")
    assert score(scorer, TEXT) == [pytest.approx(expected)]
    assert score(scorer, "", " .,! ") == [None, None]


def test_readability_is_cut_to_the_range() -> None:
    scorer = bound("readability(flesch_kincaid_grade)", "real in [0, 12]")
    assert score(scorer, "Go.", "incomprehensibility " * 50) == [0.0, 12.0]


# --------------------------------------------------------------------------------------------- language
def test_language() -> None:
    english = "This is a longer sentence that was written in English by somebody who speaks it."
    german = "Dies ist ein längerer Satz, der auf Deutsch geschrieben wurde, und zwar von jemandem."
    scorer = bound('language("de")', "score")
    first, second = score(scorer, english, german)
    assert first is not None
    assert second is not None
    assert first < 0.05
    assert second > 0.9
    assert score(scorer, "", "12 + 3 =") == [None, None]
    with pytest.raises(ConfigError, match="did you mean `en`"):
        bound('language("EN-us")', "score")
    with pytest.raises(ConfigError, match="they are") as refused:
        bound('language("77")', "score")
    assert listed(refused.value) <= set(KNOWN["language"])


def listed(error: ConfigError) -> set[str]:
    """The values that the library knows, as an error lists them: all are known when a policy is checked."""
    return set((error.help or "").removeprefix("they are ").split(", "))


# ---------------------------------------------------------------------------------------------- secrets
KEY = "AKIA" + "ABCDEFGHIJKLMNOP"  # the form of an AWS key; none


def test_secrets() -> None:
    count, flag = bound("secrets()", "count"), bound("secrets()", "flag")
    twice = f"use {KEY}\nand again {KEY}"
    two = f"{KEY}\n-----BEGIN RSA PRIVATE KEY-----"
    texts = (
        "nothing here, 8.8.8.8",
        KEY,
        twice,
        two,
        "https://joe:hunter2@example.com/x",
        "password = 'sw0rdfish'",
    )
    assert score(count, *texts) == [0, 1, 1, 2, 1, 1]
    assert score(flag, *texts) == [0, 1, 1, 1, 1, 1]
    assert score(count, "a" * 10_000 + " " + KEY + " " + "b" * 10_000) == [1]
    assert score(count, *(" " * n + KEY for n in range(3980, 4010))) == [1] * 30  # across the parts of a line


def test_secrets_asks_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a scorer opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert score(bound("secrets()", "count"), f"aws_secret = '{'x9' * 20}' {KEY}")[0]


# --------------------------------------------------------------------------------------------- JSON, code
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", 1), (' [1, "a", null] \n', 1), ("3", 1), ('"\\ud83d"', 1), ("", 0), ("{'a': 1}", 0), ("[1,]", 0),
        ("NaN", 0), ("[Infinity]", 0), ("{} {}", 0), ("```json\n{}\n```", 0), ("[" * 200 + "]" * 200, 1),
        ("[" * 201 + "]" * 201, 0), ("[" * 99_999, 0), ('"' + "[" * 999 + '"', 1), ("1" * 5000, 0),
        ("x" * (MAX_CHARACTERS + 1), None),
    ],
)  # fmt: skip
def test_json(text: str, expected: float | None) -> None:
    assert score(bound("json()", "flag"), text) == [expected]


def test_json_schema(tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["name"], "properties": {"name": {"$ref": "#/$defs/word"}}}
    schema["$defs"] = {"word": {"type": "string", "minLength": 1}}
    (tmp_path / "s.json").write_text(json.dumps(schema))
    scorer = bound('json_schema("s.json")', "flag", tmp_path)
    assert score(scorer, '{"name": "x"}', '{"name": ""}', "{}", "{", "[]") == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ('{"$ref": "https://example.com/s.json"}', "refers to `https://example.com/s.json`"),
        ('{"properties": {"a": {"$ref": "file:///etc/passwd"}}}', "refers to `file:///etc/passwd`"),
        ('{"$ref": "other.json#/a"}', "which is not in the file"),
        ('{"$ref": "#/nowhere"}', "something that it does not hold"),
        ('{"$ref": "#"}', "round in circles"),
        ('{"type": "objet"}', "is no JSON Schema"),
        ("[1]", "holds a list"),
        ("{", "is not JSON"),
    ],
)
def test_schemas_that_are_refused(tmp_path: Path, schema: str, message: str) -> None:
    (tmp_path / "s.json").write_text(schema)
    with pytest.raises(ConfigError, match=message):
        bound('json_schema("s.json")', "flag", tmp_path)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("python", "x = 1", 1), ("python", "x = ", 0), ("python", "Sure:\n```python\nx = 1\n```\nDone.", 1),
        ("python", "Sure:\n```\nx = \n```", 0), ("python", "x\0", 0), ("python", "(" * 5000, 0),
        ("python", "-" * 100_000 + "1", 0), ("python", "'\\d'", 1), ("json", "```json\n{}\n```", 1), ("json", "", 0),
        ("toml", "a = 1", 1), ("toml", "a = ", 0), ("toml", "a = " + "[" * 9999, 0), ("toml", "a." * 50_000, None),
        ("python", "import os; os._exit(1)", 1),
    ],
)  # fmt: skip
def test_code(language: str, text: str, expected: float | None) -> None:
    assert score(bound(f"code({language})", "flag"), text) == [expected]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("plain", "plain"), ("a\n```py\nb\n```\nc", "b\n"), ("```\nb", "b"), ("~~~\nb\n```\nc\n~~~", "b\n```\nc\n"),
        ("````\n```\n````", "```\n"), ("```\r\nb\r\n```", "b\n"), ("```", ""), ("x ```y``` z", "x ```y``` z"),
        ("```a\n1\n```\n```b\n2\n```", "1\n"),
    ],
)  # fmt: skip
def test_fences(text: str, code: str) -> None:
    assert code_of(text) == code


# --------------------------------------------------------------------------------------- tests of the code
CHECKS = """
from answer import double

def test_small():
    assert double(2) == 4

def test_negative():
    assert double(-1) == -2

def helper():
    raise RuntimeError
"""


@pytest.fixture
def checks(tmp_path: Path) -> Path:
    (tmp_path / "checks.py").write_text(CHECKS)
    return tmp_path


def test_code_tests(checks: Path) -> None:
    share = bound('code_tests("checks.py")', "score", checks, allow_code=True)
    flag = bound('code_tests("checks.py")', "flag", checks, allow_code=True)
    right = "Here it is:\n```python\ndef double(x):\n    return 2 * x\n```"
    assert score(share, right, "def double(x): return abs(2 * x)", "no code") == [1.0, 0.5, 0.0]
    assert score(flag, right, "def double(x): return abs(2 * x)") == [1.0, 0.0]


LEAVES = {
    "exits": "import sys\ndef double(x): sys.exit(0)",
    "exits hard": "import os\ndef double(x): os._exit(0)",
    "eats memory": "def double(x): return len(bytearray(1 << 33)) and 2 * x",
    "writes outside": "def double(x):\n    open('PLACE', 'w').write('x')\n    return 2 * x",
    "fills the disk": "def double(x):\n    open('f', 'wb').write(bytes(1 << 22))\n    return 2 * x",
    "starts a shell": "import os\ndef double(x):\n    os.system('touch PLACE')\n    return 2 * x",
    "starts a process": (
        "import subprocess\ndef double(x):\n    subprocess.run(['touch', 'PLACE'])\n    return 2 * x"
    ),
    "forks": "import os\ndef double(x):\n    os.fork()\n    return 2 * x",
    "opens a socket": "import socket\ndef double(x):\n    socket.socket()\n    return 2 * x",
    "asks a name": "import socket\ndef double(x):\n    socket.getaddrinfo('localhost', 1)\n    return 2 * x",
    "removes": "import os\ndef double(x):\n    os.remove('KEPT')\n    return 2 * x",
    "reads the environment": "import os\nassert os.environ['SECRET']\ndef double(x): return 2 * x",
    "prints the verdict": "def double(x): print('test_small')",
}


@pytest.mark.parametrize("name", LEAVES)
def test_what_code_may_not_do(
    checks: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, place = tmp_path / "kept", tmp_path / "made"
    kept.write_text("x")
    monkeypatch.setenv("SECRET", "x")
    code = LEAVES[name].replace("PLACE", str(place)).replace("KEPT", str(kept))
    assert score(bound('code_tests("checks.py")', "score", checks, allow_code=True), code) == [0.0]
    assert kept.exists()
    assert not place.exists()


def test_code_that_does_not_end(checks: Path) -> None:
    from constraintlang_runtime.scorers.code_tests import CodeTestsScorer
    from constraintlang_runtime.scorers.sandbox import Limits

    path = checks / "checks.py"
    sleeps = "import time\ndef double(x):\n    if x < 0: time.sleep(60)\n    return 2 * x"
    spins = "def double(x):\n    while x < 0: pass\n    return 2 * x"
    assert score(CodeTestsScorer(path, flag=False, limits=Limits(wall_seconds=1.0)), sleeps) == [0.5]
    assert score(CodeTestsScorer(path, flag=False, limits=Limits(cpu_seconds=1)), spins) == [0.5]


@pytest.mark.parametrize(("text", "message"), [("x = 1", "has no test"), ("def", "is not Python")])
def test_files_of_tests_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "checks.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        bound('code_tests("checks.py")', "score", tmp_path, allow_code=True)


# ----------------------------------------------------------------------------------------------- plug-ins
def test_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_metrics.py").write_text(
        "def size(*, prompts, completions, **columns):\n    return [len(c) / 10 for c in completions]\nNUMBER = 3\n"
    )
    (tmp_path / "acme_broken.py").write_text("raise RuntimeError('boom')")
    monkeypatch.syspath_prepend(tmp_path)
    target = 'python("acme_metrics:size", deterministic=true)'
    with pytest.raises(ConfigError, match="--allow-plugins"):
        bound(target, "score")
    assert "acme_metrics" not in sys.modules
    assert score(bound(target, "score", allow_plugins=True), "abc") == [0.3]
    for wrong, message in (
        ("acme_metrics:weight", "has no function `weight`"),
        ("acme_metrics:NUMBER", "has no function `NUMBER`"),
        ("acme_nowhere:f", "importing `acme_nowhere` raised ModuleNotFoundError"),
        ("acme_broken:f", "raised RuntimeError: boom"),
    ):
        with pytest.raises(ConfigError, match=message):
            bound(f'python("{wrong}")', "score", allow_plugins=True)
    monkeypatch.delitem(sys.modules, "acme_metrics")


def test_an_installed_plugin_needs_no_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_installed.py").write_text(
        "def size(*, prompts, completions, **c): return [1.0] * len(prompts)\n"
    )
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[constraintlang.scorers]\nsize = acme_installed:size\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert score(bound('python("acme_installed:size")', "score"), "x") == [1.0]
    with pytest.raises(ConfigError, match="plug-ins are not allowed"):
        bound('python("acme_installed:other")', "score")


# ------------------------------------------------------------------------------------------------- extras
def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyphen", None)
    with pytest.raises(ConfigError, match=r"pip install 'constraintlang\[text\]'"):
        bound("readability(gunning_fog)", "real in [0, 30]")
    with pytest.raises(ConfigError, match=r"`no_such_library`.*\n.*constraintlang\[pii\]"):
        extras.library("no_such_library.part", backend="pii", extra="pii")


@needs_presidio
def test_pii() -> None:
    count = bound('pii("EMAIL_ADDRESS")', "count")
    assert score(count, "write to ada@example.com", "no one", "a@b.de and c@d.org") == [1, 0, 2]
    assert score(bound('pii("any")', "flag"), "card 4111 1111 1111 1111", "see https://a.org/b") == [1, 0]
    with pytest.raises(ConfigError, match="did you mean `EMAIL_ADDRESS`"):
        bound('pii("EMAIL")', "flag")
    with pytest.raises(ConfigError, match="they are") as refused:
        bound('pii("77")', "flag")
    assert listed(refused.value) <= set(KNOWN["pii"])


# --------------------------------------------------------------------------------------------------- laws
OWN: dict[str, tuple[str, str, float]] = {
    "repetition": ("repetition(repeated_2)", "score", 1),
    "readability": ("readability(smog_index)", "real in [0, 30]", 30),
    "language": ('language("en")', "score", 1),
    "secrets": ("secrets()", "count", math.inf),
    "json": ("json()", "flag", 1),
    "json_schema": ('json_schema("s.json")', "flag", 1),
    "python code": ("code(python)", "flag", 1),
    "JSON code": ("code(json)", "flag", 1),
    "TOML code": ("code(toml)", "flag", 1),
    "regex": ('regex(re"[a-z]+")', "count", math.inf),
    "length": ("length(sentences)", "count", math.inf),
    "lexicon": ('lexicon("words.txt")', "count", math.inf),
    "pii": ('pii("EMAIL_ADDRESS")', "count", math.inf),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_presidio if n == "pii" else ()) for n in OWN])
def test_built_in_scorers_obey_the_laws(name: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type": "object"}')
    (tmp_path / "words.txt").write_text("dog\nred\n")
    backend, kind, high = OWN[name]
    check_scorer(bound(backend, kind, tmp_path), range=(0, high), huge=50_000)


def test_code_tests_obeys_the_laws(checks: Path) -> None:
    scorer = bound('code_tests("checks.py")', "score", checks, allow_code=True)
    check_scorer(scorer, texts=["", "def double(x): return 2 * x", "\ud83d"], range=(0, 1), huge=0)


def test_no_scorer_of_texts_imports_torch() -> None:
    import subprocess

    program = (
        "import sys\nfrom constraintlang_runtime.scorers.builders import builder_of\n"
        "[builder_of(k) for k in ('readability', 'repetition', 'language', 'pii', 'secrets', 'json', 'json_schema', "
        "'code', 'code_tests', 'python')]\nimport constraintlang_runtime.testing\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
