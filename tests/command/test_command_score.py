"""``constraintc score``: existing rows judged in a stream, the same as one by one, through kills and bad input."""

from __future__ import annotations

import csv
import gzip
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from constraintc.main import main
from constraintlang_runtime.errors import ScorerError
from constraintlang_runtime.integrations.policy import Policy
from constraintlang_runtime.score import audit as audits
from constraintlang_runtime.score.score_run import ScoreSettings, score_run

POLICY = """edition 1
attribute rude: count { backend = lexicon("words.tsv") }
attribute mail: flag { backend = regex(re"[a-z.]+@[a-z]+") }
attribute digits: count { backend = regex(re"[0-9]+") }
kind: rude == 0 under tolerance=20%
private: always not mail
short: mean(words) <= 9
plain: digits <= 1 for lang=en
long_tail: quantile(words, 0.9) <= 14
even: P(mail | lang=en) <= P(mail | lang=de) + 0.2
"""
WORDS = ["a", "b", "c", "the", "of", "stupid", "idiot", "class", "x@y", "12", "7", "Tom"]


def make_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {
            "prompt": f"q{n}",
            "completion": " ".join(draw.choices(WORDS, k=draw.randint(0, 15))),
            "lang": draw.choice(["en", "de"]),
        }
        for n in range(count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "p.policy").write_text(POLICY)
    (tmp_path / "words.tsv").write_text("stupid\nidiot\t2\nass\n")
    return tmp_path


def score(place: Path, data: Path | str, *more: str, capsys: Any) -> tuple[int, dict[str, Any], str]:
    code = main(["score", str(place / "p.policy"), "--data", str(data), "--format", "json", "--quiet", *more])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def test_verdicts_are_those_of_the_texts_judged_at_once(place: Path, capsys: Any) -> None:
    rows = make_rows(700)
    code, found, err = score(place, write(place / "rows.jsonl", rows), "--batch_size", "64", capsys=capsys)
    assert code == 1, err
    policy = Policy.load(place / "p.policy")
    texts, prompts = [row["completion"] for row in rows], [row["prompt"] for row in rows]
    expected = policy.metric().compute(texts, prompts, lang=[row["lang"] for row in rows])
    for clause in found["clauses"]:
        for key in ("lower", "upper", "verdict"):
            assert clause[key] == expected[f"{clause['clause']}/{key}"], clause["clause"]
    answers = policy.satisfied(texts, prompts, [{"lang": row["lang"]} for row in rows])
    assert (found["rows"], found["satisfied"]) == (700, sum(answers))
    assert found["violating"] == 700 - sum(answers)


def test_every_format_gives_the_same_verdicts(place: Path, capsys: Any) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = make_rows(300)
    sources = [
        write(place / "rows.jsonl", rows),
        place / "rows.jsonl.gz",
        place / "rows.csv",
        place / "rows.parquet",
    ]
    sources[1].write_bytes(gzip.compress(sources[0].read_bytes()))
    with sources[2].open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), sources[3], row_group_size=70)
    found = [score(place, source, "--batch_size", "32", capsys=capsys)[1]["clauses"] for source in sources]
    assert all(clauses == found[0] for clauses in found)


def test_text_lines_and_conversations_are_rows(place: Path, capsys: Any) -> None:
    (place / "p.policy").write_text("short: words <= 2")
    (place / "lines.txt").write_text("one two\none two three\n\n")
    _, found, _ = score(place, place / "lines.txt", capsys=capsys)
    assert (found["rows"], found["violating"]) == (2, 1)
    turns = [{"role": "user", "content": "a b c d"}, {"role": "assistant", "content": "e f"}]
    _, found, _ = score(place, write(place / "chat.jsonl", [{"messages": turns}]), capsys=capsys)
    assert (found["rows"], found["violating"]) == (1, 0)


def test_records_name_row_and_clauses(place: Path, capsys: Any) -> None:
    rows = [{"text": "fine", "lang": "en"}, {"text": "stupid x@y", "lang": "de"}]
    data = write(place / "rows.jsonl", rows)
    score(place, data, "--output", str(place / "out"), capsys=capsys)
    records = [json.loads(line) for line in (place / "out" / "rows.jsonl").read_text().splitlines()]
    assert [record["satisfied"] for record in records] == [True, False]
    assert sorted(records[1]["violated"]) == ["kind", "private"]
    assert records[1]["scores"] == {"rude": 1.0, "mail": 1.0, "digits": 0.0, "words": 2.0}
    summary = json.loads((place / "out" / "summary.json").read_text())
    assert [clause["clause"] for clause in summary["clauses"]]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_an_audit_goes_on_where_it_was_stopped(
    place: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow
    from pyarrow import parquet

    from constraintlang_compiler.pipeline import compile_path

    rows = make_rows(500)
    data = place / f"rows.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), data, row_group_size=90)
    elif kind == "csv":
        with data.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = write(place / "plain.jsonl", rows).read_bytes()
        data.write_bytes(gzip.compress(text) if kind == "jsonl.gz" else text)
    policy = compile_path(place / "p.policy")

    def run(folder: str, resume: bool = False) -> dict[str, Any]:
        settings = ScoreSettings(data=(str(data),), output=str(place / folder), batch_size=40, resume=resume)
        found = score_run(policy, settings, folder=place).to_dict()
        return {key: value for key, value in found.items() if key not in ("seconds", "settings")}

    whole = run("whole")
    monkeypatch.setattr(audits, "SAVE_EVERY", 0.0)
    judge = audits.Audit._judge
    for stop in (1, 4, 9):
        calls = 0

        def dies(self: Any, *arguments: Any, last: int = stop) -> bytes:
            nonlocal calls
            calls += 1
            if calls > last:
                judge(self, *arguments)  # counted, but never published
                raise KeyboardInterrupt
            return judge(self, *arguments)

        monkeypatch.setattr(audits.Audit, "_judge", dies)
        with pytest.raises(KeyboardInterrupt):
            run(f"cut{stop}")
        monkeypatch.setattr(audits.Audit, "_judge", judge)
        with (place / f"cut{stop}" / "rows.jsonl").open("ab") as file:
            file.write(b'{"half a rec')
        assert run(f"cut{stop}", resume=True) == whole
        assert (place / f"cut{stop}/rows.jsonl").read_bytes() == (place / "whole/rows.jsonl").read_bytes()


def test_a_killed_audit_loses_nothing_and_counts_nothing_twice(place: Path) -> None:
    data = write(place / "rows.jsonl", make_rows(40_000))
    source = "import sys, constraintlang_runtime.score.audit as a; a.SAVE_EVERY = 0.05\n"
    source += "from constraintc.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["score", str(place / "p.policy"), "--data", str(data), "--output", str(place / "out"), "--quiet"]
    command = [sys.executable, "-c", source, *words, "--batch_size", "500", "--format", "json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = place / "out" / "state.json"
    while process.poll() is None and not (state.exists() and json.loads(state.read_text())["rows"]):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped_at = json.loads((place / "out" / "state.json").read_text())["rows"]
    assert 0 < stopped_at < 40_000
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    records = [json.loads(line)["row"] for line in (place / "out" / "rows.jsonl").read_text().splitlines()]
    assert found["rows"] == 40_000
    assert records == list(range(40_000))


def test_a_failing_scorer_keeps_what_was_judged(place: Path) -> None:
    from constraintlang_compiler.pipeline import compile_path
    from constraintlang_runtime.scorers.pool import ScoringPool

    data = write(place / "rows.jsonl", make_rows(100))
    settings = ScoreSettings(data=(str(data),), output=str(place / "out"), batch_size=10)
    original, calls = ScoringPool.score, 0

    def fails(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise ScorerError("the service is gone", help="wait")
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScoringPool, "score", fails)
        with pytest.raises(ScorerError, match="the service is gone"):
            score_run(compile_path(place / "p.policy"), settings, folder=place)
    assert json.loads((place / "out" / "state.json").read_text())["rows"] == 50
    again = ScoreSettings(data=(str(data),), output=str(place / "out"), batch_size=10, resume=True)
    assert score_run(compile_path(place / "p.policy"), again, folder=place).rows == 100


def test_strata_are_found_in_the_data(place: Path, capsys: Any) -> None:
    (place / "p.policy").write_text("short: mean(words) <= 12 per lang")
    _, found, err = score(place, write(place / "rows.jsonl", make_rows(200)), capsys=capsys)
    assert [clause["clause"] for clause in found["clauses"]] == ["short[lang=de]", "short[lang=en]"], err


def test_clauses_that_texts_do_not_decide_are_named(place: Path, capsys: Any) -> None:
    (place / "p.policy").write_text(
        "short: words <= 12\nkeep: preserve mean(perplexity) <= base + 2%\nsame: mean(words) <= base + 1"
    )
    code, found, err = score(place, write(place / "rows.jsonl", make_rows(50)), capsys=capsys)
    assert [clause["clause"] for clause in found["clauses"]] == ["short"], err
    assert [left["clause"] for left in found["not_judged"]] == ["same", "keep"] or code
    assert err.count("is not judged") == 2


def test_no_torch_is_loaded(place: Path) -> None:
    data = write(place / "rows.jsonl", make_rows(20))
    source = "import sys; from constraintc.main import main; main(sys.argv[1:])\n"
    source += "assert not {'torch', 'transformers', 'datasets', 'jaxtyping'} & set(sys.modules)"
    command = [sys.executable, "-c", source, "score", str(place / "p.policy"), "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"text": "a"}\n{"text": \n', "line 2 of"),
        ("[1]\n", "is a JSON list"),
        ('{"body": "a"}\n', "--data: line 1 of"),
        ("", "there are no rows"),
        ('{"text": 5}\n', "got 5 where a text is needed"),
    ],
)
def test_wrong_data_are_named(place: Path, content: str, says: str, capsys: Any) -> None:
    (place / "rows.jsonl").write_text(content)
    code, _, err = score(place, place / "rows.jsonl", capsys=capsys)
    assert code in (2, 4)
    assert says in err


def test_odd_texts_are_scored(place: Path, capsys: Any) -> None:
    lines = ['{"text": "\\ud800 stupid x@y"}', '{"text": "NaN", "n": NaN}', '{"text": ""}']
    (place / "rows.jsonl").write_text("\n".join(lines))
    _, found, err = score(place, place / "rows.jsonl", "--output", str(place / "out"), capsys=capsys)
    assert found["rows"] == 3, err
    first = json.loads((place / "out" / "rows.jsonl").read_text().splitlines()[0])
    assert first["scores"]["rude"] == 1.0
    assert first["scores"]["mail"] == 1.0


def test_a_folder_is_not_overwritten_by_accident(place: Path, capsys: Any) -> None:
    data = write(place / "rows.jsonl", make_rows(20))
    (place / "out").mkdir()
    (place / "out" / "mine.txt").write_text("keep")
    own = write(place / "out" / "rows.jsonl", make_rows(20))
    before = own.read_bytes()
    for flag in ((), ("--overwrite",), ("--resume",)):
        code, _, err = score(place, own, "--output", str(place / "out"), *flag, capsys=capsys)
        assert code == 2
        assert "is not empty" in err
        assert own.read_bytes() == before
    code, _, err = score(place, data, "--output", str(place), "--overwrite", capsys=capsys)
    assert (code, "is not empty" in err, data.exists()) == (2, True, True)
    code, _, err = score(place, place / "none.jsonl", capsys=capsys)
    assert (code, "no file" in err) == (2, True)
    first = score(place, data, "--output", str(place / "new"), capsys=capsys)[1]
    assert (
        score(place, data, "--output", str(place / "new"), "--overwrite", capsys=capsys)[1]["rows"]
        == first["rows"]
    )
    other = write(place / "other.jsonl", make_rows(30))
    code, _, err = score(place, other, "--output", str(place / "new"), "--resume", capsys=capsys)
    assert (code, "another policy, data or scorers" in err) == (2, True)
    rows = place / "new" / "rows.jsonl"
    code, _, err = score(place, rows, "--output", str(place / "new"), "--overwrite", capsys=capsys)
    assert (code, "would be overwritten" in err, rows.exists()) == (2, True, True)


def test_what_another_version_left_is_not_gone_on_with(place: Path, capsys: Any) -> None:
    data = write(place / "rows.jsonl", make_rows(20))
    assert score(place, data, "--output", str(place / "out"), capsys=capsys)[1]["rows"] == 20
    state = place / "out" / "state.json"
    state.write_text(
        json.dumps({key: value for key, value in json.loads(state.read_text()).items() if key != "form"})
    )
    code, _, err = score(place, data, "--output", str(place / "out"), "--resume", capsys=capsys)
    assert (code, "left by another version" in err, "--overwrite" in err) == (2, True, True)


def test_the_order_of_rows_changes_no_verdict(place: Path, capsys: Any) -> None:
    size = "attribute size: count in [0, 100] { backend = length(words) }"
    (place / "p.policy").write_text(f"edition 1\n{size}\nshort: mean(size) <= 9\n")
    rows = sorted(make_rows(200), key=lambda row: len(row["completion"].split()))
    found = []
    for number, given in enumerate((rows, rows[::-1])):
        data = write(place / f"{number}.jsonl", given)
        (clause,) = [c for c in score(place, data, capsys=capsys)[1]["clauses"] if c["clause"] == "short"]
        assert clause["method"] == "betting"
        found.append((clause["lower"], clause["upper"]))
    assert found[0] == found[1]


def test_a_scorer_that_changed_is_not_mixed_with_itself(place: Path, capsys: Any) -> None:
    (place / "p.policy").write_text("attribute bad: score in [0, 1]\nmild: P(bad > 0.5) <= 0.5\n")
    words = place / "bad.tsv"
    words.write_text("awful\t1\n")
    data = write(place / "rows.jsonl", make_rows(20))
    flags = ("--scorer", f"bad={words}", "--output", str(place / "out"))
    assert score(place, data, *flags, capsys=capsys)[1]["rows"] == 20
    assert score(place, data, *flags, "--resume", capsys=capsys)[1]["rows"] == 20
    words.write_text("fine\t1\n")
    code, _, err = score(place, data, *flags, "--resume", capsys=capsys)
    assert (code, "another policy, data or scorers" in err) == (2, True)
