"""`constraintc check` for machines: SARIF, GitHub, which findings count, and watching files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from constraintc import watch
from constraintc.exit_codes import ExitCode
from constraintc.github import workflow_command
from constraintc.main import main
from constraintc.selection import Selection
from constraintlang.diagnostics import Diagnostic, Label
from constraintlang.source import SourceFile, Span

MIXED = 'edition 1\nbad: toxicity < words\nup: mean(toxicity) > 0.1\nplain: toxicity < 0.1 because "100%"\n'
ALLOWED = "edition 1\nup: mean(toxicity) > 0.1  # allow PC405: a bait\n"
Run = Callable[..., tuple[int, str, str]]

# The parts of SARIF 2.1.0 that are used: what each object must have, and what it may have, by the OASIS schema.
TEXT, COUNT, LIST = str, int, list
SHAPES: dict[str, tuple[set[str], dict[str, Any]]] = {
    "log": ({"version", "runs"}, {"$schema": TEXT, "version": TEXT, "runs": ["run"]}),
    "run": (
        {"tool"},
        {
            "tool": "tool",
            "columnKind": TEXT,
            "artifacts": ["artifact"],
            "invocations": ["invocation"],
            "results": ["result"],
        },
    ),
    "tool": ({"driver"}, {"driver": "driver"}),
    "driver": ({"name"}, {"name": TEXT, "version": TEXT, "rules": ["rule"]}),
    "rule": (
        {"id"},
        {"id": TEXT, "shortDescription": "text", "fullDescription": "text", "help": "text"},
    ),
    "text": ({"text"}, {"text": TEXT, "markdown": TEXT}),
    "artifact": (set(), {"location": "artifactLocation"}),
    "artifactLocation": (set(), {"uri": TEXT}),
    "invocation": (
        {"executionSuccessful"},
        {"executionSuccessful": bool, "exitCode": COUNT, "toolExecutionNotifications": ["notification"]},
    ),
    "notification": ({"message"}, {"level": TEXT, "message": "text"}),
    "result": (
        {"message"},
        {
            "ruleId": TEXT,
            "ruleIndex": COUNT,
            "level": TEXT,
            "message": "text",
            "locations": ["location"],
            "relatedLocations": ["location"],
            "suppressions": ["suppression"],
        },
    ),
    "location": (set(), {"id": COUNT, "message": "text", "physicalLocation": "physicalLocation"}),
    "physicalLocation": (
        {"artifactLocation"},
        {"artifactLocation": "artifactLocation", "region": "region"},
    ),
    "region": (set(), dict.fromkeys(("startLine", "startColumn", "endLine", "endColumn"), COUNT)),
    "suppression": ({"kind"}, {"kind": TEXT, "justification": TEXT}),
}


def follows(value: Any, shape: Any) -> None:
    """Assert that a value has the shape that SARIF gives it."""
    if isinstance(shape, list):
        assert isinstance(value, list)
        for part in value:
            follows(part, shape[0])
    elif isinstance(shape, str):
        required, parts = SHAPES[shape]
        assert required <= value.keys() <= parts.keys(), (shape, value)
        for name, part in value.items():
            follows(part, parts[name])
    else:
        assert type(value) is shape


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `check` in a folder of its own on files given by name and text."""
    monkeypatch.chdir(tmp_path)

    def check(*arguments: str, **files: str) -> tuple[int, str, str]:
        for name, text in files.items():
            (tmp_path / f"{name}.policy").write_text(text, encoding="utf-8")
        code = main(["check", *arguments, *(f"{name}.policy" for name in files)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return check


# ------------------------------------------------------------------ sarif
def test_sarif_has_the_required_structure(run: Run) -> None:
    code, out, _ = run("--format", "sarif", "absent.policy", "mixed.policy", mixed=MIXED, allowed=ALLOWED)
    log = json.loads(out)
    follows(log, "log")
    assert log["version"] == "2.1.0"
    (run_,) = log["runs"]
    rules = [rule["id"] for rule in run_["tool"]["driver"]["rules"]]
    assert rules == sorted(set(rules))
    for result in run_["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        for place in [*result["locations"], *result.get("relatedLocations", [])]:
            region = place["physicalLocation"]["region"]
            assert min(region.values()) >= 1
            assert (region["startLine"], region["startColumn"]) <= (region["endLine"], region["endColumn"])
    uris = [artifact["location"]["uri"] for artifact in run_["artifacts"]]
    assert uris == ["mixed.policy", "allowed.policy"]  # no file twice
    (invocation,) = run_["invocations"]
    assert code == invocation["exitCode"] == ExitCode.USAGE
    assert not invocation["executionSuccessful"]
    assert "absent.policy" in invocation["toolExecutionNotifications"][0]["message"]["text"]


def test_sarif_says_what_the_other_formats_say(run: Run) -> None:
    _, sarif, _ = run("--format", "sarif", mixed=MIXED)
    _, plain, _ = run("--format", "json", mixed=MIXED)
    results = json.loads(sarif)["runs"][0]["results"]
    findings = json.loads(plain)
    assert len(results) == len(findings) == 3
    for result, finding in zip(results, findings, strict=True):
        region = result["locations"][0]["physicalLocation"]["region"]
        assert (result["ruleId"], result["level"]) == (finding["code"], finding["severity"])
        assert (region["startLine"], region["endColumn"]) == (finding["line"], finding["end_column"])
        assert result["message"]["text"].startswith(finding["message"])
        assert len(result.get("relatedLocations", [])) == len(finding["labels"])


def test_what_a_comment_allows_is_suppressed_in_sarif(run: Run) -> None:
    code, out, _ = run("--format", "sarif", "--deny", "warnings", allowed=ALLOWED)
    (result,) = json.loads(out)["runs"][0]["results"]
    assert code == ExitCode.OK
    assert result["suppressions"] == [{"kind": "inSource", "justification": "a bait"}]


def test_file_names_become_uris(run: Run, tmp_path: Path) -> None:
    odd = tmp_path / "a b%#ü.policy"
    odd.write_text(MIXED, encoding="utf-8")
    for name in (odd.name, str(odd)):  # below the present folder, both are relative
        _, out, _ = run("--format", "sarif", name)
        assert json.loads(out)["runs"][0]["artifacts"] == [{"location": {"uri": "a%20b%25%23%C3%BC.policy"}}]


# ------------------------------------------------------------------ github
COMMAND = re.compile(
    r"::(error|warning|notice) file=([^,:]+),line=(\d+),col=(\d+),endLine=(\d+),endColumn=(\d+),title=(PC\d{3})::(.+)"
)


def test_github_commands(run: Run) -> None:
    code, out, err = run("--format", "github", mixed=MIXED, allowed=ALLOWED)
    found = [COMMAND.fullmatch(line) for line in out.splitlines()]
    assert [match and match.groups()[:7] for match in found] == [
        ("error", "mixed.policy", "2", "17", "2", "22", "PC205"),
        ("warning", "mixed.policy", "3", "5", "3", "25", "PC405"),
        ("notice", "mixed.policy", "4", "8", "4", "22", "PC404"),
    ]
    assert found[2] is not None
    assert found[2][8].startswith("read as pointwise: at most 5%25 of the responses")
    assert "%0Ahelp: " in out
    assert code == ExitCode.REJECTED
    assert err == "2 files checked: 1 error, 1 warning, 1 note; 1 finding allowed by comments\n"


def test_github_shows_denied_findings_as_errors(run: Run) -> None:
    code, out, _ = run("--format", "github", "--deny", "PC405", up=ALLOWED.partition("  #")[0])
    assert code == ExitCode.FINDINGS
    assert out.startswith("::error file=up.policy,line=2,")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(texts, texts, texts, texts)
@example("\u2028::error::x", "\r\n::error::x", "\x85::error::x", "\u2028,title=x")
def test_no_text_of_a_policy_ends_a_workflow_command(message: str, help: str, label: str, name: str) -> None:
    labels = (Label(Span(0, 1), label),)
    diagnostic = Diagnostic("PC001", "error", Span(0, 1), message, help=help, label=label, labels=labels)
    line = workflow_command(diagnostic, SourceFile("x\n", name))
    assert len(line.splitlines()) == 1
    head, _, rest = line.removeprefix("::error ").partition("::")
    properties = dict(part.split("=", 1) for part in head.split(","))
    assert set(properties) == {"file", "line", "col", "endLine", "endColumn", "title"}
    assert properties["title"] == "PC001"
    assert rest


# ------------------------------------------------------------------ which findings count
@pytest.mark.parametrize(
    ("arguments", "codes", "code"),
    [
        ([], ["PC205", "PC405", "PC404"], ExitCode.REJECTED),
        (["--ignore", "PC404"], ["PC205", "PC405"], ExitCode.REJECTED),
        (["--ignore", "pc4"], ["PC205"], ExitCode.REJECTED),
        (["--select", "PC404"], ["PC205", "PC404"], ExitCode.REJECTED),
        (["--select", "PC1,PC404"], ["PC205", "PC404"], ExitCode.REJECTED),
        (["--select", "PC4", "--ignore", "PC404"], ["PC205", "PC405"], ExitCode.REJECTED),
        (["--select", "PC404", "--ignore", "PC4"], ["PC205", "PC404"], ExitCode.REJECTED),
        (["--ignore", "PC2"], ["PC205", "PC405", "PC404"], ExitCode.REJECTED),  # errors are always shown
    ],
)
def test_select_and_ignore(run: Run, arguments: list[str], codes: list[str], code: int) -> None:
    exit_code, out, _ = run("--format", "json", *arguments, mixed=MIXED)
    assert [finding["code"] for finding in json.loads(out)] == codes
    assert exit_code == code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], ExitCode.OK),
        (["--deny", "warnings"], ExitCode.FINDINGS),
        (["--deny", "PC404"], ExitCode.FINDINGS),
        (["--deny", "PC1,warnings"], ExitCode.FINDINGS),
        (["--deny", "PC1"], ExitCode.OK),
        (["--deny", "PC1", "--deny", "PC40"], ExitCode.FINDINGS),
        (["--deny", "warnings", "--ignore", "PC405"], ExitCode.OK),  # what is not shown is not denied
    ],
)
def test_deny(run: Run, arguments: list[str], code: int) -> None:
    good = MIXED.replace("bad: toxicity < words\n", "")
    assert run(*arguments, good=good)[0] == code


@pytest.mark.parametrize(
    "arguments",
    [
        ["--select", "PC8"],
        ["--ignore", "unused"],
        ["--deny", "notes"],
        ["--deny", ""],
        ["--select", "PC4041"],
    ],
)
def test_words_that_are_no_codes_are_refused(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments, mixed=MIXED)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "code" in err


def test_errors_are_shown_whatever_is_selected() -> None:
    error = Diagnostic("PC201", "error", Span(0, 1), "x")
    assert Selection(select=("PC4",), ignore=("PC",)).shows(error)


# ------------------------------------------------------------------ watch
def test_watch_checks_again_after_a_change(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.policy"
    steps = iter(
        [
            lambda: None,  # nothing happened
            lambda: path.write_text("toxcity < 0.1", encoding="utf-8"),
            path.unlink,
            lambda: path.write_text("always toxicity < 0.1", encoding="utf-8"),
        ]
    )

    def sleep(seconds: float) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(watch.time, "sleep", sleep)
    code, out, err = run("--watch", mine="toxicity < 0.1")
    assert code == ExitCode.INTERRUPTED
    assert [line[:17] for line in out.splitlines() if "PC" in line] == [
        "note[PC404]: read",
        "error[PC101]: no ",
    ]
    assert re.findall(r"checked: (\d) error|(no policy file)", err) == [
        ("0", ""), ("1", ""), ("", "no policy file"), ("0", ""), ("0", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", [["--watch", "-"], ["--watch", "--format", "json"]])
def test_watch_takes_files_and_prints_for_people(run: Run, arguments: list[str]) -> None:
    assert run(*arguments, mine="toxicity < 0.1")[0] == ExitCode.USAGE


def test_a_finding_in_an_imported_file_is_shown_there(run: Run) -> None:
    files = {
        "other": "edition 1\n\nattribute a: scor\n",
        "my": 'edition 1\nimport "other.policy" as o\nwords < 9\n',
    }
    _, out, _ = run("--format", "github", **files)
    places = [line.partition(",col")[0] for line in out.splitlines() if "PC115" in line]
    assert places == ["::error file=other.policy,line=3"] * 2
    _, out, _ = run("--format", "sarif", **files)
    results = [result for result in json.loads(out)["runs"][0]["results"] if result["ruleId"] == "PC115"]
    (first, second) = (result["locations"] for result in results)
    assert first == second
