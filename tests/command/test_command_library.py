"""The standard library and imports as a user of the command meets them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from constraintc.exit_codes import ExitCode
from constraintc.main import main
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.sources import read_source
from constraintlang_policies.library import std_names, std_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("name", std_names())
def test_init_copies_a_standard_policy(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    code, out, _ = run(capsys, "init", str(tmp_path / "new"), "--from", f"std/{name}")
    place = tmp_path / "new" / f"{name}.policy"
    assert code == ExitCode.OK
    assert f"constraintc check {place}" in out
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert place.read_text(encoding="utf-8") == std_path(f"std/{name}.policy").read_text(encoding="utf-8")
    codes = {d.code for d in check_and_lower(read_source(place)).diagnostics if d.severity != "note"}
    assert codes <= {"PC120"}  # a copy finds the library's word lists, wherever it stands
    assert run(capsys, "init", str(tmp_path / "new"), "--template", name)[0] == ExitCode.USAGE


@pytest.mark.parametrize("name", std_names())
def test_the_tests_of_a_standard_policy_run(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, _ = run(capsys, "test", "--live", str(std_path(f"std/{name}.policy")))
    assert (code, "ERROR" in out, "skip " in out) == (ExitCode.OK, False, False), out


@pytest.mark.parametrize("written", ["no_pii", "std/no_pii.policy", "no_pii.policy"])
def test_init_knows_a_policy_by_its_short_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, written: str
) -> None:
    assert run(capsys, "init", str(tmp_path), "--template", written)[0] == ExitCode.OK
    assert [path.name for path in tmp_path.iterdir()] == ["no_pii.policy"]


def test_init_copies_a_word_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "init", str(tmp_path), "--from", "std/lists/insults.txt")
    assert code == ExitCode.OK
    assert "next" not in out
    assert "moron" in (tmp_path / "insults.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "help_text"),
    [("std/no_pi", "--from std/no_pii"), ("../prelude_1.policy", "--list"), ("std/" + "x" * 300, "--list")],
)
def test_init_from_what_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, help_text: str
) -> None:
    code, _, err = run(capsys, "init", str(tmp_path), "--from", name)
    assert code == ExitCode.USAGE
    assert help_text in err
    assert list(tmp_path.iterdir()) == []


def test_init_lists_the_standard_library(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "init", "--list")
    assert code == ExitCode.OK
    assert [line.split()[0] for line in out.splitlines()[1:]] == [f"std/{name}" for name in std_names()]
    listed = json.loads(run(capsys, "init", "--list", "--format", "json")[1])
    assert listed[0]["demand"].endswith(".")
    assert run(capsys, "init", "--list", "--from", "x")[0] == ExitCode.USAGE


def test_a_path_outside_the_folder_needs_the_flag(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "team.policy").write_text("let cap = 9\n", encoding="utf-8")
    (tmp_path / "mine").mkdir()
    policy = tmp_path / "mine" / "my.policy"
    policy.write_text('import "../team.policy" as team\nwords < team.cap\n', encoding="utf-8")
    for verb, *rest in (("check",), ("explain",), ("compile", "--emit", "ir")):
        code, out, err = run(capsys, verb, str(policy), *rest)
        assert code == ExitCode.REJECTED
        assert "PC119" in out + err
        assert run(capsys, verb, str(policy), *rest, "--allow-path")[0] == ExitCode.OK


def test_standard_input_imports_from_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "team.policy").write_text("let cap = 9\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sys.stdin", io.TextIOWrapper(io.BytesIO(b'import "team.policy" as t\nwords < t.cap'))
    )
    assert run(capsys, "check", "-", "--deny", "warnings")[0] == ExitCode.OK


def test_findings_in_imported_files_are_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "team.policy").write_text("edition 1\nlet cap = 1 / 0\n", encoding="utf-8")
    policy = tmp_path / "my.policy"
    policy.write_text('import "team.policy" as team\nwords < team.cap\n', encoding="utf-8")
    code, out, _ = run(capsys, "check", str(policy))
    assert code == ExitCode.REJECTED
    assert f"{tmp_path}/team.policy:2:11" in out
    assert "2 | let cap = 1 / 0" in out
    (finding,) = (
        f
        for f in json.loads(run(capsys, "check", str(policy), "--format", "json")[1])
        if f["code"] == "PC223"
    )
    assert finding["file"].endswith("team.policy")
    assert finding["line"] == 2
