"""What is wrong with names on the command line is said at once, before torch and transformers are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from constraintc.main import main

POLICY = "edition 1\nkind: toxicity < 0.5 for domain=talk\ncalm: toxicity < 0.9 for domain=wiki\n"
ROWS = '{"prompt": "a", "completion": "b"}\n'
DATA = ["--data", "talk=talk.jsonl", "--data", "wiki=wiki.jsonl"]
PROMPTS = ["--prompts", "talk=talk.jsonl", "--prompts", "wiki=wiki.jsonl"]
SCORER = ["--scorer", "toxicity=./classifier#rude"]
TRAIN = ["train", "my.policy", "--model", "./model", "--output", "out"]
EVAL = ["eval", "my.policy", "--model", "./model"]

WRONG: list[tuple[list[str], list[str]]] = [
    (
        [*TRAIN, *SCORER, "--data", "tlak=talk.jsonl", "--data", "wiki=wiki.jsonl"],
        ["no prompt lies in the domain of `kind` (talk)", "a similar name exists: `talk`", "`tlak`"],
    ),
    (
        [*EVAL, *SCORER, "--prompts", "talk=talk.jsonl", "--prompts", "wikki=wiki.jsonl"],
        ["no prompt lies in the domain of `calm` (wiki)", "a similar name exists: `wiki`", "`wikki`"],
    ),
    (
        [*TRAIN, *DATA, "--scorer", "toxicity=./clasifier#rude"],
        ["no sequence classifier at `./clasifier`: there is no such folder", "`classifier`", "OWNER/NAME"],
    ),
    ([*EVAL, *PROMPTS, "--scorer", "toxicity=./clasifier"], ["`classifier`", "OWNER/NAME"]),
    ([*TRAIN, *DATA, "--scorer", "toxicity=talk.jsonl"], ["`talk.jsonl` is a file", "config.json"]),
    ([*TRAIN, *DATA, "--scorer", "toxicity=word.txt"], ["no file `word.txt`", "`words.txt`"]),
    ([*TRAIN, *DATA, "--scorer", "toxicity"], ["--scorer: got 'toxicity'", "NAME=PATH"]),
    (
        [*TRAIN, *DATA, "--scorer", "toxicty=./classifier"],
        ["--scorer: ", "a similar name exists: `toxicity`"],
    ),
    ([*TRAIN, *SCORER, "--data", "talk=tlak.jsonl"], ["--data: no file `tlak.jsonl`", "`talk.jsonl`"]),
    ([*EVAL, *SCORER, *PROMPTS, "--rows", "x=wki.jsonl"], ["--rows: no file `wki.jsonl`", "`wiki.jsonl`"]),
    ([*TRAIN, *SCORER, *DATA, "--learning_rte", "1"], ["`learning_rte`", "`learning_rate`"]),
    ([*TRAIN, *SCORER, *DATA, "--weight_decy", "1"], ["`weight_decy`", "`weight_decay`"]),
    ([*TRAIN, *SCORER, *DATA, "--max_steps", "many"], ["max_steps", "expected a number"]),
    ([*TRAIN, *SCORER, *DATA, "--anchor", "moon"], ["anchor", "start, tuned, previous, current"]),
    ([*EVAL, *SCORER, *PROMPTS, "--temperature", "-1"], ["temperature"]),
    ([*EVAL, *SCORER, *PROMPTS, "--samples", "0"], ["--samples: got 0, expected at least 1"]),
    (["train", "my.policy", *DATA, "--model", "./mdel", "--output", "o", *SCORER], ["`./mdel`", "`model`"]),
]

RUN = """
import sys
from constraintc.main import main
code = main(sys.argv[1:])
print("heavy" if {"torch", "transformers"} & set(sys.modules) else "light")
sys.exit(code)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my.policy").write_text(POLICY)
    for name in ("talk", "wiki"):
        (tmp_path / f"{name}.jsonl").write_text(ROWS)
    for name in ("classifier", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "words.txt").write_text("bad\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("words", "parts"), WRONG, ids=lambda value: " ".join(value[-2:]))
def test_what_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for part in parts:
        assert part in err
    assert err.count("error:") == 1
    assert not (folder / "out").exists()


@pytest.mark.parametrize("number", [0, 1, 11])
def test_nothing_heavy_is_imported_for_it(folder: Path, number: int) -> None:
    words, parts = WRONG[number]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words], capture_output=True, text=True, timeout=300, cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "light\n"), done.stderr
    assert parts[0] in done.stderr


def test_score_names_the_domain_that_is_near(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["score", "my.policy", "--data", "tlak=talk.jsonl", "--scorer", "toxicity=words.txt"]
    assert main(words) == 4
    assert "a similar name exists: `talk`, where the data have `tlak`" in capsys.readouterr().err


def test_why_reads_what_score_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record has no text: it is found in the source, with its tags, and the domain that the flag gave."""
    rows = '\n{"prompt": "say", "completion": "a bad one", "lang": "en"}\n{"text": "fine"}\n'
    (folder / "talk.jsonl").write_text(rows)
    score = ["score", "my.policy", "--data", "talk=talk.jsonl", "--scorer", "toxicity=words.txt"]
    main([*score, "--output", "audit"])
    why = [
        "why",
        "my.policy",
        "--samples",
        "audit/rows.jsonl",
        "--scorer",
        "toxicity=words.txt",
        "--only",
        "kind",
    ]
    capsys.readouterr()
    assert main(why) == 0  # two responses decide nothing
    out = capsys.readouterr().out
    assert "1 of 2 responses are not satisfied" in out
    assert '"a bad one"' in out
    assert "toxicity = 1" in out
    (folder / "talk.jsonl").write_text(ROWS)
    assert main(why) == 2
    err = capsys.readouterr().err
    assert (
        "--samples: line 1 of `audit/rows.jsonl` is a record of `constraintc score` about `talk.jsonl`" in err
    )
    (folder / "talk.jsonl").unlink()
    assert main(why) == 2
    assert "no file `talk.jsonl`" in capsys.readouterr().err
