"""``constraintc score --score_workers``: the same records from any number of processes, whatever ends one of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constraintc.main import main
from constraintlang_compiler.pipeline import compile_path
from constraintlang_runtime.errors import ConfigError, DataError, ScorerError
from constraintlang_runtime.score import audit as audits
from constraintlang_runtime.score.score_run import ScoreSettings, score_run
from constraintlang_runtime.scorers.lexicon import read_lexicon
from constraintlang_runtime.scorers.shared_pool import TOGETHER, SharedScoringSettings
from constraintlang_runtime.scorers.workers import Workers

POLICY = """edition 1
attribute rude: count { backend = lexicon("words.tsv") }
attribute fog: real in [0, 50] { backend = readability(gunning_fog) }
attribute here: real { backend = python("scorer_of_the_test:process") }
attribute digits: count { backend = regex(re"[0-9]+") }
kind: rude == 0 under tolerance=20%
clear: mean(fog) <= 14
short: over sentences (globally words < 14)
plain: digits <= 1 for lang=en
alone: here >= 0
"""
PLUGIN = """import os
def process(*, prompts, completions, lang, **columns):
    return [float(os.getpid() if tag == "pid" else len(tag)) for tag in lang]
"""
WORDS = ["a", "the", "of", "stupid.", "idiot", "class", "reading!", "12", "7", "important"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "p.policy").write_text(POLICY)
    (tmp_path / "words.tsv").write_text("stupid\nidiot\t2\n")
    (tmp_path / "scorer_of_the_test.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    draw = random.Random(3)
    for name in ("one", "two"):
        texts = [" ".join(draw.choices(WORDS, k=n % 30)) for n in range(130)]
        rows = [
            {"prompt": f"{name}{n}", "completion": text, "lang": "en" if n % 3 else "pid"}
            for n, text in enumerate(texts)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def audit(place: Path, folder: str, workers: int, **options: Any) -> dict[str, Any]:
    settings = ScoreSettings(
        data=tuple(str(place / f"{name}.jsonl") for name in ("one", "two")), output=str(place / folder),
        batch_size=20, score_workers=workers, allow_plugins=True, **options,
    )  # fmt: skip
    found = score_run(compile_path(place / "p.policy"), settings, folder=place).to_dict()
    return {key: value for key, value in found.items() if key not in ("seconds", "settings")}


def rows_of(place: Path, folder: str) -> bytes:
    return (place / folder / "rows.jsonl").read_bytes()


def test_any_number_of_workers_gives_the_same_records(place: Path) -> None:
    whole = audit(place, "one-process", 1)
    assert whole["rows"] == 260
    assert audit(place, "shared", 3) == whole
    assert rows_of(place, "shared") == rows_of(place, "one-process")
    first = json.loads(rows_of(place, "shared").splitlines()[0])
    assert first["scores"]["here"] == os.getpid()  # plug-ins are not handed on
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_named_and_the_audit_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = audit(place, "whole", 1)
    monkeypatch.setattr(audits, "SAVE_EVERY", 0.0)
    judge, calls = audits.Audit._judge, 0

    def kills(self: Any, *arguments: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 4:
            victim = next(p for p in multiprocessing.active_children() if p.name == "score worker 2")
            os.kill(victim.pid or 0, signal.SIGKILL)
        return judge(self, *arguments)

    monkeypatch.setattr(audits.Audit, "_judge", kills)
    with pytest.raises(
        ScorerError, match=r"score worker 2 of 2 \(process \d+\) was ended by SIGKILL"
    ) as found:
        audit(place, "cut", 2)
    assert "--score_workers" in (found.value.help or "")
    assert multiprocessing.active_children() == []
    assert 80 <= json.loads((place / "cut/state.json").read_text())["rows"] < 260
    assert audit(place, "cut", 1, resume=True) == whole
    assert rows_of(place, "cut") == rows_of(place, "whole")


def test_a_bad_row_keeps_what_came_before_it(place: Path) -> None:
    with (place / "two.jsonl").open("a") as file:
        file.write('\n{"text": 5}\n')
    says = []
    for workers in (1, 2):
        with pytest.raises(DataError) as found:
            audit(place, f"bad{workers}", workers)
        says.append(str(found.value))
    assert says[0] == says[1]
    assert rows_of(place, "bad1") == rows_of(place, "bad2")
    assert json.loads((place / "bad2/state.json").read_text())["rows"] == 250


def test_what_a_worker_cannot_build_is_an_error_of_the_command(place: Path, capsys: Any) -> None:
    command = [
        "score",
        str(place / "p.policy"),
        "--data",
        str(place / "one.jsonl"),
        "--quiet",
        "--allow-plugins",
    ]
    assert main([*command, "--score_workers", "2", "--scorer", f"rude={place / 'none.txt'}"]) == 2
    err = capsys.readouterr().err
    assert "cannot read" in err
    assert "Traceback" not in err
    assert main([*command, "--score_workers", "2", "--scorer", "rud=words.tsv"]) == 2
    assert "a similar name exists: `rude`" in capsys.readouterr().err
    assert main([*command, "--score_workers", "0"]) == 2
    assert "--score_workers: got 0" in capsys.readouterr().err
    assert main([*command, "--score_workers", "100000"]) == 2
    assert "got 100000, expected at most" in capsys.readouterr().err


def test_eval_gives_the_same_verdicts_and_samples(place: Path, capsys: Any) -> None:
    """Completions made elsewhere, with parts, a plug-in of this process and an audit."""
    found = []
    for workers in (1, 2):
        words = [
            "eval",
            str(place / "p.policy"),
            "--completions",
            str(place / "one.jsonl"),
            "--quiet",
            "--format",
            "json",
        ]
        words += [
            "--allow-plugins",
            "--audit",
            f"rude={place / 'words.tsv'}",
            "--score_workers",
            str(workers),
        ]
        assert main([*words, "--output", str(place / f"eval{workers}")]) in (0, 1)
        result = json.loads(capsys.readouterr().out)
        found.append({key: value for key, value in result.items() if key not in ("seconds", "settings")})
    assert found[0] == found[1]
    assert (place / "eval1/samples.jsonl").read_bytes() == (place / "eval2/samples.jsonl").read_bytes()
    assert multiprocessing.active_children() == []


def test_the_pool_of_eval_takes_texts_in_pieces(place: Path) -> None:
    (place / "p.policy").write_text(POLICY.replace("alone: here >= 0", "").replace("attribute here", "#"))
    policy, settings = compile_path(place / "p.policy"), SharedScoringSettings(score_workers=2)
    texts = [" ".join(WORDS[: n % 9]) for n in range(2 * TOGETHER + 5)]
    told: list[tuple[int, int]] = []
    with settings.shared_pool(policy, folder=place) as pool:
        shared = pool.score(texts, texts, progress=lambda done, total: told.append((done, total)))
        assert pool.score([], [], ["rude"])["rude"].shape == (0,)
        assert list(pool.score(["p"], ["a"], ["digits", "rude"])) == ["digits", "rude"]
    alone = settings.pool(policy, folder=place).score(texts, texts)
    assert list(shared) == list(alone)
    assert all(np.array_equal(shared[name], alone[name], equal_nan=True) for name in alone)
    assert told == [(TOGETHER, len(texts)), (2 * TOGETHER, len(texts)), (len(texts), len(texts))]


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_worker_outlives_the_command(place: Path, sign: signal.Signals, code: int) -> None:
    import psutil

    (place / "p.policy").write_text(
        "attribute fog: real in [0, 50] { backend = readability(gunning_fog) }\nfog <= 9"
    )
    line = json.dumps({"text": " ".join(WORDS * 30)}) + "\n"
    with (place / "many.jsonl").open("w") as file:
        for n in range(60_000):
            file.write(line.replace("12", str(n)))
    # a shell starts what it puts in the background with Ctrl-C ignored
    source = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    source += "import sys, constraintlang_runtime.score.audit as a; a.SAVE_EVERY = 0.05\n"
    source += "from constraintc.main import main; sys.exit(main(sys.argv[1:]))"
    words = [
        "score",
        str(place / "p.policy"),
        "--data",
        str(place / "many.jsonl"),
        "--output",
        str(place / "out"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", source, *words, "--quiet", "--score_workers", "2"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not (place / "out" / "state.json").exists() and process.poll() is None:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    if sign == signal.SIGINT:
        os.killpg(process.pid, sign)  # as a terminal does
    else:
        process.send_signal(sign)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in err
    assert ("interrupted; the same command with --resume goes on" in err) == (sign == signal.SIGINT)
    deadline = time.monotonic() + 20
    while any(map(lives, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, children))


def lives(process: Any) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# ------------------------------------------------------------ the processes alone
def test_results_are_in_order_and_tasks_are_read_as_they_are_needed(tmp_path: Path) -> None:
    (lists := tmp_path / "lists").mkdir()
    for number in range(1, 21):
        if number != 12:
            (lists / f"{number}.txt").write_text(f"word\t{number}\n")
    read = 0

    def tasks() -> Iterator[tuple[int, Path]]:
        nonlocal read
        for read in range(1, 21):
            yield read, lists / f"{read}.txt"

    with Workers(partial(partial, read_lexicon), 2) as workers:
        ahead = []
        with pytest.raises(ConfigError, match=r"cannot read .*12\.txt"):
            for expected, (number, found) in enumerate(workers.in_order(tasks()), start=1):
                assert (number, found) == (expected, {"word": expected})
                ahead.append(read - expected)
        assert len(ahead) == 11
        assert max(ahead) == 2  # one for each worker
        with pytest.raises(ScorerError, match="score worker 1 of 2"):  # not the result of the thirteenth
            list(workers.in_order([(1, lists / "1.txt")]))
    with pytest.raises(ConfigError, match="cannot read") as error:
        Workers(partial(read_lexicon, tmp_path / "none"), 2)
    assert "check the path" in str(error.value.help)
    assert multiprocessing.active_children() == []
