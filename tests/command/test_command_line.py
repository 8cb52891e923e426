"""The command: verbs, exit codes, streams and messages, each as a user meets them."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from constraintc import main as main_module
from constraintc.exit_codes import ExitCode
from constraintc.main import VERBS, build_parsers, flags_of, main, spelled
from constraintlang.source import SourceFile
from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.catalogue import OWN_PAGES
from constraintlang_compiler.front import check_and_lower

GOOD = "edition 1\ncap: always toxicity < 0.5 for domain=chat\n"
THREE_MISTAKES = "edition 1\ncap: toxcity < 0.1\nbad: mean(toxicity) == 0.1\nodd: words < 10 and\n"
KEYS = {
    *("code", "severity", "message", "help", "file", "line", "column", "end_line", "end_column"),
    *("label", "labels", "notes", "fix"),
}
OWN_VERBS = ("init", "check", "compile", "explain", "env")
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str, name: str = "my.policy") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return make


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# ------------------------------------------------------------------ main
def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == ExitCode.OK
    for verb, line in VERBS.items():
        assert re.search(rf"^ +{verb} ", out, re.MULTILINE)
        assert line.split(",")[0][:30] in out


@pytest.mark.parametrize("verb", ["score", "generate"])
def test_what_does_not_share_its_work_is_refused_under_a_launcher(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several processes would each sample everything, on one device, into one folder."""
    words = {"score": ["no.policy", "--data", "d"], "generate": ["--model", "m"]}[verb]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    code, out, err = run(capsys, verb, *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert f"`{verb}` was started as 4 processes" in err
    assert run(capsys, "explain", "PC201")[0] == ExitCode.OK


def test_no_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys)[0] == ExitCode.USAGE


@pytest.mark.parametrize("arguments", [["check"], ["check", "--nonsense", "x"], ["compile"]])
def test_usage_errors(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == ExitCode.USAGE
    assert out == ""
    assert "usage:" in err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["chek", "my.policy"], ["no verb `chek`", "`constraintc check`"]),
        (["nonsense"], ["no verb `nonsense`", "`constraintc --help`"]),
        (["explain", "PC404,PC405"], ["several codes", "one at a time"]),
        (["explain", "pc404 PC405"], ["several codes", "one at a time"]),
    ],
)
def test_what_is_no_verb_and_no_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert [part for part in parts if part not in err] == []


@pytest.mark.parametrize("verb", VERBS)
def test_flags_are_known_with_dashes_and_with_underscores(verb: str) -> None:
    parser = build_parsers(verb)[1]
    assert parser is not None
    written, flags = parser.usage, flags_of(parser)
    assert parser.usage == written
    of_parts = {flag for flag in parser._option_string_actions if re.search("[-_]", flag.strip("-"))}
    assert of_parts <= set(flags) <= set(parser._option_string_actions)
    assert len({flag.replace("_", "-") for flag in flags}) == len(set(flags))
    for flag in flags:
        name = flag.removeprefix("--")
        for other in (name.replace("_", "-"), name.replace("-", "_")):
            assert spelled([verb, f"--{other}", f"--{other}=a_b-c"], flags) == [verb, flag, f"{flag}=a_b-c"]
    assert spelled(["a_b", "--no_such-flag", "--", flags[-1].replace("-", "_")], flags)[1:] == [
        "--no_such-flag", "--", flags[-1].replace("-", "_"),
    ]  # fmt: skip


def test_a_flag_is_taken_in_either_spelling(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    path = write(GOOD)
    both = [run(capsys, "check", path, flag, "--format", "json") for flag in ("--allow-path", "--allow_path")]
    assert both[0] == both[1]
    assert both[0][0] == ExitCode.OK


@pytest.mark.parametrize("verb", OWN_VERBS)
def test_every_verb_has_help_with_an_example(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, _ = run(capsys, verb, "--help")
    assert code == ExitCode.OK
    assert "examples:" in out
    assert f"constraintc {verb}" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--version")
    assert code == ExitCode.OK
    assert re.fullmatch(r"constraintc [0-9.]+\n", out)


class _Verb:
    """A verb whose run raises, put in the place of `env`."""

    HELP = EPILOG = "x"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def add_arguments(self, parser: object) -> None:
        return None

    def run(self, args: object) -> int:
        raise self.error


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(main_module, "import_module", lambda name: _Verb(error))


def test_our_bug_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, ZeroDivisionError("boom"))
    code, out, err = run(capsys, "env")
    assert code == ExitCode.INTERNAL == 70
    assert out == ""
    assert "internal error, please report with the policy and the output of `constraintc env`" in err
    assert "ZeroDivisionError: boom" in err
    assert "Traceback" not in err
    assert "Traceback" in run(capsys, "env", "--traceback")[2]


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert run(capsys, "env")[0] == 130


def test_a_missing_training_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, ModuleNotFoundError("No module named 'torch'", name="torch"))
    code, _, err = run(capsys, "env")
    assert code == ExitCode.USAGE
    assert "constraintlang[train]" in err


def test_a_missing_package_of_ours_is_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, ModuleNotFoundError("No module named 'lark'", name="lark"))
    assert run(capsys, "env")[0] == ExitCode.INTERNAL


def test_an_error_with_an_exit_code_keeps_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = type("RuntimeFailure", (Exception,), {"exit_code": 4})("the run cannot go on")
    failing(monkeypatch, error)
    code, _, err = run(capsys, "env")
    assert code == ExitCode.FAILED
    assert "error: the run cannot go on" in err


def test_a_closed_pipe_is_no_error_message(write: Write) -> None:
    path = write("edition 1\n" + "".join(f"toxicity < 0.{i}1\n" for i in range(1, 2000)))
    command = f"{sys.executable} -m constraintc.main check --format json {path} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "[\n"
    assert done.stderr == ""


# ------------------------------------------------------------------ check
def test_three_mistakes_are_three_json_findings(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    path = write(THREE_MISTAKES)
    code, out, _ = run(capsys, "check", "--format", "json", path)
    errors = [finding for finding in json.loads(out) if finding["severity"] == "error"]
    assert code == ExitCode.REJECTED
    assert all(set(finding) == KEYS for finding in json.loads(out))
    assert [(finding["line"], finding["file"]) for finding in errors] == [(2, path), (3, path), (4, path)]
    assert len({finding["code"] for finding in errors}) == 3


def test_human_findings_show_the_source(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    path = write(THREE_MISTAKES)
    code, out, err = run(capsys, "check", path)
    assert code == ExitCode.REJECTED
    assert f"--> {path}:2:6" in out
    assert "cap: toxcity < 0.1" in out
    assert "3 errors" in err


def test_a_good_policy_is_silent(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    code, out, err = run(capsys, "check", write(GOOD))
    assert (code, out) == (ExitCode.OK, "")
    assert err == "1 file checked: 0 errors, 0 warnings, 0 notes\n"
    assert run(capsys, "check", "--format", "json", write(GOOD))[1] == "[]\n"


def test_errors_of_the_compiler_are_found_by_check(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    code, out, _ = run(capsys, "check", write("edition 1\nlong: mean(words) >= 20\n"))
    assert code == ExitCode.REJECTED
    assert "error[PC210]" in out


def test_denied_warnings(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    path = write("always toxicity < 0.5\nalways words < 9\n")  # PC104: no edition
    assert run(capsys, "check", path)[0] == ExitCode.OK
    assert run(capsys, "check", path, "--deny", "warnings")[0] == ExitCode.FINDINGS
    assert run(capsys, "check", write(GOOD), "--deny", "warnings")[0] == ExitCode.OK


def test_unreadable_files_do_not_stop_the_others(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    code, out, err = run(capsys, "check", "absent.policy", write(THREE_MISTAKES))
    assert code == ExitCode.USAGE
    assert "no policy file `absent.policy`" in err
    assert "error[" in out


@pytest.mark.parametrize(
    "verb",
    ["compile --emit ir", "lock", "audit", "explain", "plan", "test", "report", "diff NAME", "why --text a"],
)
def test_a_name_that_no_file_can_have(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    name, words = "a" * 300, verb.split()
    code, _, err = run(capsys, words[0], name, *[name if word == "NAME" else word for word in words[1:]])
    assert code == ExitCode.USAGE
    assert name in err
    assert "internal error" not in err


def test_a_directory_is_no_policy_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "check", str(tmp_path))
    assert code == ExitCode.USAGE
    assert "is a directory" in err


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"toxcity < 1")))
    code, out, _ = run(capsys, "check", "--format", "json", "-")
    assert code == ExitCode.REJECTED
    assert json.loads(out)[0]["file"] == "<stdin>"


def test_control_characters_of_a_policy_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    _, out, err = run(capsys, "check", write("cap: toxicity \x1b[31m < 0.1\n"))
    assert "\x1b" not in out + err


# ------------------------------------------------------------------ compile
def test_compile_writes_a_directory(capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path) -> None:
    out_dir = tmp_path / "build" / "my"
    code, out, err = run(capsys, "compile", write(GOOD), "-o", str(out_dir))
    policy = CompiledPolicy.load(out_dir)
    assert code == ExitCode.OK
    assert "P(toxicity >= 0.5) <= 0%" in out
    assert policy.semantic_hash in out
    assert str(out_dir) in err


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("# to be written\n", "warning[PC412]"),
        ('edition 1\nimport "std/no_pii.policy" as pii\n', "warning[PC412]"),
        ("edition 1\nattribute a: score\n", "the artifact demands nothing"),
        (GOOD, ""),
    ],
)
def test_compile_says_when_nothing_is_demanded(
    capsys: pytest.CaptureFixture[str], write: Write, text: str, warning: str
) -> None:
    code, _, err = run(capsys, "compile", write(text), "--emit", "canonical")
    assert code == ExitCode.OK
    assert (warning in err) if warning else err == ""


def test_score_of_a_policy_without_statements(
    capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path
) -> None:
    rows = write('{"prompt": "a", "completion": "b"}\n', "rows.jsonl")
    code, _, err = run(capsys, "score", write("edition 1\n"), "--data", rows)
    assert code == ExitCode.USAGE
    assert "the policy has no statement\n  help: write a statement, for example `toxicity < 0.1`" in err


def test_compile_as_json(capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path) -> None:
    code, out, _ = run(capsys, "compile", write(GOOD), "-o", str(tmp_path / "o"), "--format", "json")
    summary = json.loads(out)
    assert code == ExitCode.OK
    assert summary["directory"] == str(tmp_path / "o")
    assert [(c["name"], c["hard"], c["domain"]) for c in summary["clauses"]] == [("cap", True, "chat")]


def test_a_compiled_directory_is_a_policy_everywhere(
    capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    run(capsys, "compile", write(GOOD), "-o", str(first))
    assert run(capsys, "compile", str(first), "-o", str(second))[0] == ExitCode.OK
    assert (first / "policy.ir.json").read_bytes() == (second / "policy.ir.json").read_bytes()
    assert "None of the responses" in run(capsys, "explain", str(first))[1]


def test_emitted_canonical_text_compiles_to_the_same_hash(
    capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    _, text, _ = run(capsys, "compile", write(GOOD), "--emit", "canonical")
    hashes = set()
    for source in (GOOD, text):
        _, out, _ = run(capsys, "compile", write(source), "--emit", "ir")
        hashes.add(json.loads(out)["semantic_hash"])
    assert len(hashes) == 1


def test_emitted_automata(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    text = "edition 1\nalways over sentences (globally toxicity < 0.2)\n"
    code, out, _ = run(capsys, "compile", write(text), "--emit", "dfa")
    assert code == ExitCode.OK
    (automaton,) = json.loads(out)["traces"].values()
    assert automaton["table"] == [[0, 1], [1, 1]]


def test_compile_with_nothing_to_do(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    code, _, err = run(capsys, "compile", write(GOOD))
    assert code == ExitCode.USAGE
    assert "-o DIR" in err


def test_a_rejected_policy_writes_nothing(
    capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path
) -> None:
    code, out, err = run(capsys, "compile", write(THREE_MISTAKES), "-o", str(tmp_path / "o"))
    assert code == ExitCode.REJECTED
    assert out == ""
    assert err.count("error[") == 3
    assert not (tmp_path / "o").exists()


def test_an_altered_artifact_is_refused(
    capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "o"
    run(capsys, "compile", write(GOOD), "-o", str(folder))
    ir = folder / "policy.ir.json"
    ir.write_text(ir.read_text(encoding="utf-8").replace('"0.5"', '"0.6"'), encoding="utf-8")
    code, _, err = run(capsys, "explain", str(folder))
    assert code == ExitCode.USAGE
    assert "was altered" in err
    assert "help: compile the policy again" in err


# ------------------------------------------------------------------ explain
def test_explain_a_policy(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    code, out, _ = run(capsys, "explain", write(GOOD))
    assert code == ExitCode.OK
    assert out.startswith("cap  [hard]\n  None of the responses to prompts with domain=chat may have")


def test_explain_as_json(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    _, out, _ = run(capsys, "explain", "--format", "json", write(GOOD))
    (clause,) = json.loads(out)
    assert set(clause) == {"name", "text", "reading", "demand", "falsified_by", "evidence", "num_samples"}


@pytest.mark.parametrize("code", ["PC201", "pc201", "PC210"])
def test_explain_a_code(capsys: pytest.CaptureFixture[str], code: str) -> None:
    exit_code, out, _ = run(capsys, "explain", code)
    assert exit_code == ExitCode.OK
    assert out.startswith(code.upper())
    assert json.loads(run(capsys, "explain", code, "--format", "json")[1])["code"] == code.upper()


def test_an_unknown_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "explain", "PC999")
    assert code == ExitCode.USAGE
    assert "no code `PC999`" in err


@pytest.mark.parametrize("code", OWN_PAGES)
def test_the_pages_of_the_compiler_tell_the_truth(code: str, tmp_path: Path) -> None:
    page = OWN_PAGES[code]
    failing, repaired = (
        check_and_lower(SourceFile(text, "my.policy", tmp_path)) for text in (page.failing, page.repaired)
    )
    assert code in {d.code for d in failing.diagnostics}
    assert code not in {d.code for d in repaired.diagnostics}
    assert repaired.lowered is not None


# ------------------------------------------------------------------ init, env
def test_init_writes_a_policy_that_checks_without_warnings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "first"
    code, out, _ = run(capsys, "init", str(folder))
    assert code == ExitCode.OK
    assert "next:" in out
    assert run(capsys, "check", str(folder / "my.policy"), "--deny", "warnings")[0] == ExitCode.OK
    assert (folder / "run.yaml").exists()


@pytest.mark.parametrize("name", ["my.policy", "run.yaml"])
def test_init_never_overwrites(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    code, _, err = run(capsys, "init", str(tmp_path))
    assert code == ExitCode.USAGE
    assert name in err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"


def test_env_names_versions(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "env", "--format", "json")
    facts = json.loads(out)
    assert code == ExitCode.OK
    assert facts["packages"]["lark"]
    assert facts["cpu_count"] >= 1
    assert "gpus" not in facts
    assert "constraintlang" in run(capsys, "env")[1]


@pytest.mark.parametrize("verb", ["score", "eval", "generate"])
def test_what_scores_is_told_in_the_same_words(verb: str) -> None:
    """A field of the settings that a command forgot would be silently at its default."""
    import argparse
    import dataclasses
    import importlib

    from constraintc.scoring import scoring_of
    from constraintlang_runtime.scorers.scoring_settings import ScoringSettings

    parser = argparse.ArgumentParser()
    importlib.import_module(f"constraintc.commands.{verb}").add_arguments(parser)
    needed = {"score": ["p", "--data", "d"], "eval": ["p"], "generate": ["--model", "m"]}[verb]
    flags = "--scorer a=b --scorer_timeout 3 --score_cache off --judge_url u --judge_model m --judge_rate 2 "
    flags += "--judge_timeout 4 --allow-path --allow-code --allow-plugins"
    found = scoring_of(parser.parse_args([*needed, *flags.split()]))
    assert found.keys() == {field.name for field in dataclasses.fields(ScoringSettings)}
    given, default = ScoringSettings(**found), ScoringSettings()
    same = [key for key in found if getattr(given, key) == getattr(default, key)]
    assert same == []


def test_settings_of_train_stand_under_headings(capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import fields

    from constraintc.commands.train import HEADINGS
    from constraintlang_runtime.settings import ConstraintSettings

    assert set(HEADINGS) <= {field.name for field in fields(ConstraintSettings)}
    _, out, _ = run(capsys, "train", "--help")
    for name, heading in HEADINGS.items():
        assert f"settings: {heading}:\n  --{name} " in out
