"""check --sat, diff, plan, lock, audit and --locked, as a user meets them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from constraintc.exit_codes import ExitCode
from constraintc.main import main
from constraintlang_compiler.clean_bounds import clean_samples_needed
from constraintlang_compiler.sample_plan import prompts_for_rate

CLASH = "edition 1\nmean(words) < 10\nP(words > 100) >= 30%\n"
GOOD = "edition 1\ncap: toxicity < 0.1 for domain=chat\nlong: always words < 300\n"
LISTED = (
    'attribute slurs: count { backend = lexicon("lists/slurs.txt") }\n'
    'attribute ssn: flag { backend = regex(re"[0-9]{9}") }\nnone: slurs == 0\nalways not ssn\n'
)
DOCS = Path(__file__).parents[2] / "docs" / "analysis.md"
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str, name: str = "my.policy") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return make


@pytest.fixture
def listed(write: Write, tmp_path: Path) -> str:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "slurs.txt").write_text("bad\n")
    return write("edition 1\n" + LISTED)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# ------------------------------------------------------------ check --sat
def test_sat_is_asked_for(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    path = write(CLASH)
    assert run(capsys, "check", path)[1] == ""
    code, out, err = run(capsys, "check", "--sat", path)
    assert code == ExitCode.OK
    assert "warning[PC302]: these two requirements cannot both hold" in out
    assert "2 warnings" in err  # and PC502, the open range of words
    assert run(capsys, "check", "--sat", path, "--deny", "warnings")[0] == ExitCode.FINDINGS
    code, out, _ = run(capsys, "check", "--sat", "--format", "json", path)
    assert {"PC302", "PC502"} == {finding["code"] for finding in json.loads(out)}


def test_sat_on_a_policy_with_errors_reports_the_errors(
    capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    code, out, _ = run(capsys, "check", "--sat", write("edition 1\ntoxcity < 0.1\nmean(words) < 1\n"))
    assert code == ExitCode.REJECTED
    assert re.findall(r"\[(PC\d+)\]", out) == ["PC101"]
    assert run(capsys, "check", "--sat", write("# nothing\n"))[0] == ExitCode.OK


def test_too_few_prompts(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    path = write("P(toxicity >= 0.5) < 0.1%\n")
    assert "PC501" in run(capsys, "check", "--sat", "--num_prompts", "500", path)[1]
    assert "PC501" not in run(capsys, "check", "--sat", "--num_prompts", "5000", path)[1]
    for wrong in (["--num_prompts", "5"], ["--sat", "--num_prompts", "0"]):
        code, _, err = run(capsys, "check", *wrong, path)
        assert code == ExitCode.USAGE
        assert "`--num_prompts`" in err


# ------------------------------------------------------------ diff
@pytest.mark.parametrize(
    ("new", "code"),
    [
        (GOOD, 0),
        (GOOD.replace("toxicity < 0.1", "not toxicity >= 0.1"), 0),
        (GOOD.replace("0.1", "0.05"), 0),
        (GOOD + "more: mean(toxicity) < 0.5\n", 0),
        (GOOD.replace("0.1", "0.2"), 1),
        ("edition 1\ncap: toxicity < 0.1 for domain=chat\n", 1),
        (GOOD.replace("cap: ", "cap: prefer "), 1),
    ],
)
def test_the_gate(capsys: pytest.CaptureFixture[str], write: Write, new: str, code: int) -> None:
    paths = write(GOOD, "old.policy"), write(new, "new.policy")
    got, out, _ = run(capsys, "diff", *paths)
    assert got == code
    assert ("may let through what the old policy forbids" in out) == bool(code)
    assert run(capsys, "diff", *paths, "--allow-looser")[0] == ExitCode.OK


def test_diff_as_json(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    paths = write(GOOD, "old.policy"), write(GOOD.replace("0.1", "0.2"), "new.policy")
    code, out, _ = run(capsys, "diff", *paths, "--format", "json")
    assert code == ExitCode.FINDINGS
    found = json.loads(out)
    assert found["opens"] is True
    cap, long = found["statements"]
    assert (cap["status"], long["status"]) == ("looser", "equal")
    assert sum(eval(row["weight"].replace("/", "./")) for row in cap["witness"]) == pytest.approx(1)  # noqa: S307
    assert all(row["tags"] == {"domain": "chat"} for row in cap["witness"])
    assert "-toxicity < 0.1" in found["canonical_diff"]


def test_diff_takes_compiled_directories_and_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path
) -> None:
    old, bad = write(GOOD, "old.policy"), write("toxcity < 0.1\n", "bad.policy")
    run(capsys, "compile", old, "-o", str(tmp_path / "out"))
    assert run(capsys, "diff", str(tmp_path / "out"), old)[0] == ExitCode.OK
    code, _, err = run(capsys, "diff", old, bad)
    assert code == ExitCode.REJECTED
    assert "PC101" in err
    assert run(capsys, "diff", old, str(tmp_path / "none.policy"))[0] == ExitCode.USAGE
    (tmp_path / "out" / "policy.source.policy").write_text(GOOD.replace("0.1", "0.9"))
    code, _, err = run(capsys, "diff", str(tmp_path / "out"), old)
    assert code != ExitCode.OK
    assert "was altered" in err


# ------------------------------------------------------------ plan
def test_plan(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    path = write(GOOD)
    code, out, _ = run(capsys, "plan", path)
    assert code == ExitCode.OK
    cap = next(line for line in out.splitlines() if line.startswith("cap"))
    needed = prompts_for_rate(0.05, 0.025, 0.05 / 2, 0.9)
    assert cap.split()[-3:] == [str(clean_samples_needed(0.05, 0.05 / 2)), "2.5%", str(needed)]
    _, out, _ = run(capsys, "plan", path, "--num_prompts", "500", "--format", "json")
    found = json.loads(out)
    assert found["domains"] == {"chat": needed}
    assert [clause["can_hold"] for clause in found["clauses"]] == [True, None]
    assert run(capsys, "plan", path, "--at", "2")[0] == ExitCode.USAGE
    assert run(capsys, "plan", write("toxcity < 1\n"))[0] == ExitCode.REJECTED


# ------------------------------------------------------------ lock, audit, --locked
def test_lock_then_drift(capsys: pytest.CaptureFixture[str], listed: str, tmp_path: Path) -> None:
    out_dir = str(tmp_path / "out")
    code, _, err = run(capsys, "compile", listed, "-o", out_dir, "--locked")
    assert code == ExitCode.USAGE
    assert "no lock" in err
    code, out, _ = run(capsys, "lock", listed)
    assert code == ExitCode.OK
    assert "lists/slurs.txt" in out
    assert Path(listed + ".lock").exists()
    assert run(capsys, "lock", listed, "--check")[0] == ExitCode.OK
    assert run(capsys, "compile", listed, "-o", out_dir, "--locked")[0] == ExitCode.OK
    assert (tmp_path / "out" / "lock.json").read_text() == Path(listed + ".lock").read_text()
    (tmp_path / "lists" / "slurs.txt").write_text("worse\n")
    for command in (
        ["compile", listed, "-o", str(tmp_path / "again"), "--locked"],
        ["lock", listed, "--check"],
        ["eval", listed, "--model", "none", "--prompts", "none.jsonl", "--locked"],
        ["train", listed, "--model", "none", "--data", "none.jsonl", "--output", "none", "--locked"],
    ):
        code, _, err = run(capsys, *command)
        assert code == ExitCode.REJECTED, command
        assert "PC604" in err
    assert not (tmp_path / "again").exists()


def test_what_nothing_pins_is_a_warning_and_then_refused(
    capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path
) -> None:
    path = write(GOOD)
    code, _, err = run(capsys, "lock", path)
    assert code == ExitCode.OK
    assert "warning[PC601]" in err
    code, _, err = run(capsys, "compile", path, "-o", str(tmp_path / "out"), "--locked")
    assert code == ExitCode.REJECTED
    assert "error[PC601]" in err
    (tmp_path / "tox").mkdir()
    (tmp_path / "tox" / "config.json").write_text("{}")
    run(capsys, "lock", path, "--scorer", f"toxicity={tmp_path / 'tox'}#toxic")
    assert run(capsys, "compile", path, "-o", str(tmp_path / "out"), "--locked")[0] == ExitCode.OK
    code, _, err = run(capsys, "lock", path, "--check", "--scorer", f"toxicity={tmp_path / 'tox'}")
    assert code == ExitCode.REJECTED
    assert "was locked with scorer option" in err


def test_a_lock_is_checked_with_the_scorers_that_it_was_written_with(
    capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path
) -> None:
    words = write("acme\n", "competitors.txt")
    path = write("edition 1\nattribute rival: count\nalways rival == 0\nmean(toxicity) < 0.1\n", "two.policy")
    assert run(capsys, "lock", path, "--scorer", f"rival={words}")[0] == ExitCode.OK
    code, out, err = run(capsys, "lock", path, "--check")
    assert (code, "error[" in err) == (ExitCode.OK, False)
    assert err.count("warning[PC601]") == 1  # toxicity, which was written as not pinned
    assert words in out
    assert run(capsys, "compile", path, "--locked", "--emit", "canonical")[0] == ExitCode.REJECTED
    Path(words).write_text("acme\nother\n", encoding="utf-8")
    code, _, err = run(capsys, "lock", path, "--check")
    assert (code, "PC604" in err) == (ExitCode.REJECTED, True)
    run(capsys, "lock", path, "--scorer", f"rival={words}", "--scorer", f"toxicity={words}")
    code, _, err = run(capsys, "lock", path, "--check", "--scorer", f"rival={words}")
    assert (code, "error[PC601]" in err) == (ExitCode.REJECTED, True)


def test_a_long_pattern_does_not_widen_the_table_of_a_lock(
    capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    pattern = "a|" * 100 + "b"
    path = write(f'edition 1\nattribute a: flag {{ backend = regex(re"{pattern}") }}\nalways not a\n')
    assert max(map(len, run(capsys, "lock", path)[1].splitlines())) < 120
    assert pattern in run(capsys, "lock", path, "--format", "json")[1]


def test_a_contradiction_does_not_compile_under_locked(
    capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path
) -> None:
    path = write(CLASH)
    run(capsys, "lock", path)
    assert run(capsys, "compile", path, "-o", str(tmp_path / "free"))[0] == ExitCode.OK
    code, _, err = run(capsys, "compile", path, "-o", str(tmp_path / "out"), "--locked")
    assert code == ExitCode.REJECTED
    assert "error[PC302]" in err
    assert not (tmp_path / "out").exists()


def test_lock_of_stdin_makes_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "lock", "-")[0] == ExitCode.USAGE


def test_audit(capsys: pytest.CaptureFixture[str], write: Write, listed: str) -> None:
    code, out, err = run(capsys, "audit", listed, "--deny", "concerns")
    assert code == ExitCode.OK
    assert "attribute slurs" in out
    assert "0 to worry about" in err
    code, out, _ = run(capsys, "audit", write(GOOD, "other.policy"), "--deny", "concerns", "--format", "json")
    assert code == ExitCode.FINDINGS
    found = {entry["part"]: entry for entry in json.loads(out)}
    assert "binds its scorer" in found["attribute toxicity"]["concern"]
    assert found["attribute words"]["concern"] == ""


# ------------------------------------------------------------ the page
def test_the_code_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python analysis\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "analysis.md", "exec"), names)
    assert [finding.code for finding in names["findings"]] == ["PC401"]  # type: ignore[attr-defined]
    assert names["changes"][0].status == "looser"  # type: ignore[index]
    assert names["changes"][0].sample  # type: ignore[index]
