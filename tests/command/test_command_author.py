"""The policy author's verbs: fmt, fix, test, why, try and the list of codes; files, streams, exit codes."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import types
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from constraintc.exit_codes import ExitCode
from constraintc.main import main
from constraintlang.catalogue import PAGES
from constraintlang_compiler.analysis.pages import ANALYSIS_PAGES
from constraintlang_compiler.catalogue import OWN_PAGES, all_pages

Captured = pytest.CaptureFixture[str]
Write = Callable[..., str]

BADLY_SPACED = "cap:require   toxicity<(0.10)# c\n"
FORMATTED = "cap: toxicity < 0.1  # c\n"
POLICY = """edition 1
attribute slur: flag { backend = regex(re"darn") }
attribute shouting: score { backend = lexicon("words.tsv") }
cap: toxicity < 0.1 and not slur for domain=chat
short: always words <= 4
calm: prefer shouting < 0.5
rate: P(toxicity >= 0.5) < 60%
fluent: preserve mean(perplexity) <= 1.02 * base
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str, name: str = "my.policy") -> str:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return str(path)

    make("LOUD\t0.6\n", "words.tsv")
    return make


def run(capsys: Captured, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(arguments)
    captured = capsys.readouterr()
    assert "internal error" not in captured.err
    return code, captured.out, captured.err


def feed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", newline="")
    monkeypatch.setattr(sys, "stdin", stream)


# ------------------------------------------------------------------ fmt
def test_fmt_rewrites_in_place(capsys: Captured, write: Write) -> None:
    path = write(BADLY_SPACED)
    assert run(capsys, "fmt", path) == (ExitCode.OK, "", "1 changed, 0 unchanged\n")
    assert Path(path).read_text(encoding="utf-8") == FORMATTED
    assert run(capsys, "fmt", path) == (ExitCode.OK, "", "0 changed, 1 unchanged\n")


def test_fmt_check_and_diff_write_nothing(capsys: Captured, write: Write) -> None:
    path, good = write(BADLY_SPACED), write(FORMATTED, "good.policy")
    code, out, err = run(capsys, "fmt", "--check", path, good)
    assert (code, out, err) == (ExitCode.FINDINGS, f"{path}\n", "1 would change, 1 unchanged\n")
    code, out, _ = run(capsys, "fmt", "--diff", path)
    assert code == ExitCode.OK
    assert out.splitlines()[-2:] == ["-cap:require   toxicity<(0.10)# c", "+cap: toxicity < 0.1  # c"]
    assert run(capsys, "fmt", "--check", "--diff", path)[0] == ExitCode.FINDINGS
    assert run(capsys, "fmt", "--check", good)[0] == ExitCode.OK
    assert Path(path).read_text(encoding="utf-8") == BADLY_SPACED


def test_fmt_reads_standard_input(capsys: Captured, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, BADLY_SPACED)
    assert run(capsys, "fmt", "-")[:2] == (ExitCode.OK, FORMATTED)
    feed(monkeypatch, BADLY_SPACED)
    assert run(capsys, "fmt", "--check", "-")[:2] == (ExitCode.FINDINGS, "<stdin>\n")


def test_fmt_leaves_syntax_errors_alone(capsys: Captured, write: Write) -> None:
    bad, good = write("cap: toxicity <\n", "bad.policy"), write(BADLY_SPACED)
    code, _, err = run(capsys, "fmt", bad, good, "absent.policy")
    assert code == ExitCode.USAGE
    assert "error[PC005]" in err
    assert "no policy file `absent.policy`" in err
    assert Path(bad).read_text(encoding="utf-8") == "cap: toxicity <\n"
    assert Path(good).read_text(encoding="utf-8") == FORMATTED
    assert run(capsys, "fmt", bad)[0] == ExitCode.REJECTED
    records = json.loads(run(capsys, "fmt", "--format", "json", bad, good)[1])
    assert [record.get("error") for record in records] == ["syntax", None]
    assert records[0]["findings"][0]["code"] == "PC005"
    assert records[1] == {"file": good, "changed": False, "text": FORMATTED}


def test_a_rewritten_file_stays_the_same_file(capsys: Captured, write: Write, tmp_path: Path) -> None:
    real = Path(write("\ufeff" + BADLY_SPACED.replace("\n", "\r\n"), "real.policy"))
    real.chmod(0o640)
    link = tmp_path / "link.policy"
    link.symlink_to(real)
    assert run(capsys, "fmt", str(link))[0] == ExitCode.OK
    assert link.is_symlink()
    assert real.read_bytes() == b"\xef\xbb\xbf" + FORMATTED.encode().replace(b"\n", b"\r\n")
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.policy", "real.policy", "words.tsv"]


def test_a_file_that_cannot_be_written_is_left_alone(
    capsys: Captured, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write(BADLY_SPACED)

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    code, _, err = run(capsys, "fmt", path)
    assert code == ExitCode.USAGE
    assert f"cannot write `{path}`: Permission denied" in err
    assert Path(path).read_text(encoding="utf-8") == BADLY_SPACED
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my.policy", "words.tsv"]


# ------------------------------------------------------------------ fix
BROKEN = "kind: toxcity =< 0.1\nbrief: words < 3 and mean(words) <= 60;\n"
REPAIRED = "edition 1\nkind: toxcity <= 0.1\nbrief_1: words < 3\nbrief_2: mean(words) <= 60\n"


def test_fix_makes_safe_fixes_and_shows_what_is_left(capsys: Captured, write: Write) -> None:
    path = write(BROKEN)
    code, out, err = run(capsys, "fix", path)
    assert code == ExitCode.REJECTED
    assert f"{path}:1:15: PC004 `=<` is not a comparison: write `<=`  [safe]" in out
    assert "error[PC101]: no attribute named `toxcity`" in out
    assert err == "4 fixes made, 1 error left\n"
    assert Path(path).read_text(encoding="utf-8") == REPAIRED
    assert run(capsys, "fix", "--unsafe", path)[0] == ExitCode.OK
    assert Path(path).read_text(encoding="utf-8") == REPAIRED.replace("toxcity", "toxicity")


def test_fix_dry_run_and_diff_write_nothing(capsys: Captured, write: Write) -> None:
    path = write(BROKEN)
    _, out, err = run(capsys, "fix", "--dry-run", "--select", "PC0", path)
    assert "PC007" in out
    assert "PC201 " not in out
    assert err == "2 fixes would be made, 2 errors left\n"
    _, out, _ = run(capsys, "fix", "--diff", "--unsafe", path)
    assert "+kind: toxicity <= 0.1" in out.splitlines()
    assert Path(path).read_text(encoding="utf-8") == BROKEN


def test_fix_as_json_and_from_standard_input(
    capsys: Captured, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, BROKEN)
    code, out, err = run(capsys, "fix", "-")
    assert (code, out) == (ExitCode.REJECTED, REPAIRED)
    assert "PC004" in err
    feed(monkeypatch, BROKEN)
    (record,) = json.loads(run(capsys, "fix", "--format", "json", "-")[1])
    assert record["text"] == REPAIRED
    assert [made["code"] for made in record["fixed"]] == ["PC004", "PC007", "PC104", "PC201"]
    assert {made["applicability"] for made in record["fixed"]} == {"safe"}
    assert [left["code"] for left in record["left"] if left["severity"] == "error"] == ["PC101"]


def test_fix_style_only_when_asked(capsys: Captured, write: Write) -> None:
    path = write("edition 1\ncap: (toxicity) < 0.1\n")
    assert run(capsys, "fix", path)[2] == "0 fixes made, 0 errors left\n"
    assert run(capsys, "check", "--style", path)[1].count("PC901") == 1
    assert run(capsys, "fix", "--style", path)[2] == "1 fix made, 0 errors left\n"
    assert run(capsys, "check", "--style", path)[1].count("PC901") == 0


def test_check_says_what_can_be_fixed(capsys: Captured, write: Write) -> None:
    err = run(capsys, "check", write(BROKEN))[2]
    assert err.splitlines()[1] == "`constraintc fix` can repair 2 of them"
    err = run(capsys, "check", write("edition 1\ntoxcity < 0.1\nwords =< 2\n"))[2]
    assert err.splitlines()[1] == "`constraintc fix` can repair 1 of them, with --unsafe 2"
    err = run(capsys, "check", write("toxcity < 0.1\n"))[2]
    assert err.splitlines()[1] == "`constraintc fix --unsafe` can repair 1 of them"


# ------------------------------------------------------------------ test
TESTS = """
test "strict" {
  given toxicity = 0.1
  fail "borderline" on cap
  given toxicity = 0.09
  pass "below" on cap
  fail "oh darn" on cap
}
test "length" {
  pass "a b c d" on short
  fail "a b c d e" on short
}
"""


def test_passing_tests(capsys: Captured, write: Write) -> None:
    code, out, err = run(capsys, "test", write(POLICY + TESTS))
    assert code == ExitCode.OK
    assert out.count("  ok ") == 5
    assert err == "5 passed; 2 of 4 statements judged, 6 of 12 sides of thresholds seen\n"


def test_a_failing_test_shows_the_formula_with_its_values(capsys: Captured, write: Write) -> None:
    path = write(POLICY + 'test "wrong" {\n  given toxicity = 0.3\n  pass "kind" on cap\n}\n')
    code, out, err = run(capsys, "test", path)
    assert code == ExitCode.VIOLATED
    lines = out.splitlines()
    assert lines[0] == f"{path}:9:1  wrong"
    assert lines[1] == '  FAIL  pass "kind" on cap'
    assert lines[2] == f"        {path}:11:3: expected `pass`, but `cap` is violated"
    assert "toxicity = 0.3" in out
    assert "<- decides and fails" in out
    assert err.startswith("0 passed, 1 failed;")


def test_no_test_is_no_success(capsys: Captured, write: Write) -> None:
    path = write(POLICY)
    code, _, err = run(capsys, "test", path)
    assert code == ExitCode.FAILED
    assert "error: no test ran" in err
    assert run(capsys, "test", "--only", "nothing", write(POLICY + TESTS))[0] == ExitCode.FAILED
    skipped = write(POLICY + 'test "t" {\n  pass "a text" on cap\n}\n')
    code, out, err = run(capsys, "test", skipped)
    assert code == ExitCode.FAILED
    assert "`toxicity` is not given: add a `given`, or score the text with --live" in out


def test_what_cannot_be_judged_is_an_error(capsys: Captured, write: Write) -> None:
    path = write(POLICY + TESTS + 'test "t" {\n  given toxicity = 0\n  pass on cap\n}\n')
    code, out, err = run(capsys, "test", path)
    assert code == ExitCode.FAILED
    assert "ERROR pass on cap" in out
    assert "`slur` is not given, and there is no text to score" in out
    assert err.startswith("5 passed, 1 not judged;")


def test_errors_of_the_policy_come_first(capsys: Captured, write: Write) -> None:
    bad, good = write("cap: toxicity <\n", "bad.policy"), write(POLICY + TESTS)
    code, out, err = run(capsys, "test", bad, good)
    assert code == ExitCode.REJECTED
    assert "error[PC005]" in err
    assert out.count("  ok ") == 5
    assert run(capsys, "test", bad, "absent.policy", good)[0] == ExitCode.USAGE


def test_live_scores(capsys: Captured, write: Write) -> None:
    path = write(POLICY + 'test "loud" {\n  fail "LOUD words" on calm\n  pass "quiet words" on calm\n}\n')
    assert run(capsys, "test", path)[0] == ExitCode.FAILED
    assert run(capsys, "test", "--live", path)[0] == ExitCode.OK
    words = write("quiet\t0.9\n", "other.tsv")
    assert run(capsys, "test", "--live", "--scorer", f"shouting={words}", path)[0] == ExitCode.VIOLATED
    assert run(capsys, "test", "--scorer", f"shouting={words}", path)[0] == ExitCode.USAGE
    code, _, err = run(capsys, "test", "--live", "--scorer", f"shoutin={words}", path)
    assert code == ExitCode.USAGE
    assert "a similar name exists: `shouting`" in err


def test_a_live_test_without_a_scorer_is_an_error_of_its_own(capsys: Captured, write: Write) -> None:
    path = write(POLICY + TESTS + 'test "t" {\n  pass "a text" on cap\n}\n')
    code, out, err = run(capsys, "test", "--live", path)
    assert code == ExitCode.FAILED
    assert "no scorer for the attribute `toxicity`" in out
    assert err.startswith("5 passed, 1 not judged;")


def test_coverage_and_mutation(capsys: Captured, write: Write) -> None:
    path = write("edition 1\ncap: toxicity < 0.1\nshort: words <= 4\n" + TESTS.replace(" and not slur", "")
                 .replace('  fail "oh darn" on cap\n', ""))  # fmt: skip
    code, out, _ = run(capsys, "test", "--coverage", "--mutation", path)
    assert code == ExitCode.OK
    assert "mutation: 8 of 8 mutants fail a test" in out
    assert f"{path}:2:1  cap: 2 cases" in out
    without = write(
        Path(path)
        .read_text(encoding="utf-8")
        .replace('  given toxicity = 0.1\n  fail "borderline" on cap\n', "")
    )
    code, out, _ = run(capsys, "test", "--coverage", "--mutation", without)
    assert code == ExitCode.VIOLATED
    assert "toxicity < 0.1: never false" in out
    assert f"{without}:2:6: no test fails with `<` read as `<=`" in out
    assert f"{without}:2:17: no test fails with the threshold 0.1 read as 0.11" in out


def test_results_as_json(capsys: Captured, write: Write) -> None:
    (record,) = json.loads(run(capsys, "test", "--mutation", "--format", "json", write(POLICY + TESTS))[1])
    assert [test["name"] for test in record["tests"]] == ["strict", "length"]
    case = record["tests"][0]["cases"][0]
    assert (case["outcome"], case["text"], case["on"], case["status"], case["line"]) == (
        "fail", "borderline", "cap", "passed", 12,
    )  # fmt: skip
    assert case["statements"][0]["reason"]["parts"][0]["values"] == {"toxicity": 0.1}
    assert record["coverage"]["statements"][0]["thresholds"][0]["never"] == []
    assert record["mutation"]["mutants"] >= 8
    assert record["mutation"]["survivors"] == []
    alone = write(POLICY + 'test "one" {\n  given toxicity = 0.9\n  fail on cap\n}\n')
    (record,) = json.loads(run(capsys, "test", "--mutation", "--format", "json", alone)[1])
    assert {"change": "`<` read as `<=`", "line": 4, "column": 6, "end_line": 4, "end_column": 20} in (
        record["mutation"]["survivors"]
    )


def test_reports_list_the_files_that_could_not_be_tested(capsys: Captured, write: Write) -> None:
    files = write("cap: toxcity < 0.1\n", "bad.policy"), "absent.policy", write(POLICY + TESTS)
    code, out, err = run(capsys, "test", "--format", "json", *files)
    assert code == ExitCode.USAGE
    bad, absent, good = json.loads(out)
    assert (bad["file"], bad["error"], bad["findings"][0]["code"]) == (files[0], "rejected", "PC101")
    assert (absent["file"], absent["error"]) == ("absent.policy", "unreadable")
    assert "absent.policy" in absent["message"]
    assert "error" not in good
    code, out, again = run(capsys, "test", "--format", "junit", *files)
    assert (code, again) == (ExitCode.USAGE, err)
    suites = list(ET.fromstring(out.encode()))
    assert [suite.attrib["name"] for suite in suites] == list(files)
    assert [(suite.attrib["tests"], suite.attrib["errors"]) for suite in suites][:2] == [("1", "1")] * 2
    errors = [suite.find("testcase/error") for suite in suites]
    assert errors[0] is not None
    assert errors[0].attrib["message"] == "PC101 no attribute named `toxcity`"
    assert f"{files[0]}:1:6: PC101" in (errors[0].text or "")
    assert errors[1] is not None
    assert "absent.policy" in errors[1].attrib["message"]
    assert errors[2] is None


def test_a_line_break_in_a_text_stays_on_its_line(capsys: Captured, write: Write) -> None:
    path = write('edition 1\ncap: words < 9\ntest "two\\nlines" {\n  pass "a\\nb" on cap\n}\n')
    assert run(capsys, "test", path)[1] == f'{path}:3:1  two\\nlines\n  ok    pass "a\\nb" on cap\n'


def test_results_as_junit(capsys: Captured, write: Write) -> None:
    text = (
        POLICY
        + TESTS
        + 'test "\\u0001<&>" {\n  given toxicity = 0.3\n  pass "kind" on cap\n  pass "x" on calm\n}\n'
    )
    code, out, _ = run(capsys, "test", "--format", "junit", write(text))
    assert code == ExitCode.VIOLATED
    (suite,) = ET.fromstring(out.encode())
    assert suite.attrib | {"name": ""} == {
        "name": "", "tests": "7", "failures": "1", "errors": "0", "skipped": "1",
    }  # fmt: skip
    failed = suite.findall("testcase")[5]
    assert failed.attrib["name"] == '\N{REPLACEMENT CHARACTER}<&>: pass "kind" on cap'
    assert "toxicity = 0.3" in (failed[0].text or "")
    assert [child.tag for case in suite for child in case] == ["failure", "skipped"]


# ------------------------------------------------------------------ why
def test_why_of_one_response(capsys: Captured, write: Write) -> None:
    path = write(POLICY)
    code, out, err = run(capsys, "why", path, "--scores", "toxicity=0.3", "--text", "a LOUD darn thing")
    assert (code, err) == (ExitCode.VIOLATED, "")
    assert out.startswith("cap: violated, margin -0.5\n")
    assert "    toxicity < 0.1             false       -0.2  toxicity = 0.3\n" in out
    assert "    not slur                   false       -0.5  slur = 1  <- decides and fails\n" in out
    assert "short: satisfied, margin 0\n" in out
    assert "rate: not judged, it speaks of all responses together\n" in out
    assert run(capsys, "why", path, "--only", "short", "--text", "a b")[0] == ExitCode.OK


def test_why_and_try_judge_order_on_texts(
    capsys: Captured, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        'edition 1\nattribute slur: flag { backend = regex(re"darn") }\n'
        'attribute sorry: flag { backend = regex(re"(?i)sorry") }\n'
        "order: words < 9 and over sentences (sorry before slur)\n"
        "warm: over sentences (eventually toxicity < 0.5)\n"
    )
    code, out, _ = run(capsys, "why", path, "--only", "order", "--text", "Oh darn. Sorry.")
    assert code == ExitCode.VIOLATED
    assert "    over sentences (sorry before slur)              false          ?  <- fails\n" in out
    assert run(capsys, "why", path, "--only", "order", "--text", "Sorry. Oh darn.")[0] == ExitCode.OK
    code, out, _ = run(capsys, "why", path, "--only", "order", "--scores", "words=3")
    assert code == ExitCode.FAILED
    assert "order: not judged, it speaks of the order" in out
    code, out, _ = run(capsys, "why", path, "--only", "warm", "--text", "Hello.")
    assert code == ExitCode.FAILED
    assert "add --scorer toxicity=PATH[#LABEL]" in out
    monkeypatch.setattr("sys.stdin", io.StringIO("Oh darn. Sorry.\nSorry. Oh darn.\n"))
    code, out, _ = run(capsys, "try", path, "--only", "order", "--format", "json")
    verdicts = [json.loads(line)["statements"][0]["verdict"] for line in out.splitlines()[:2]]
    assert (code, verdicts) == (ExitCode.VIOLATED, ["violated", "satisfied"])


def test_a_violated_preference_is_no_failure(capsys: Captured, write: Write) -> None:
    code, out, _ = run(capsys, "why", write(POLICY), "--only", "calm", "--text", "LOUD")
    assert code == ExitCode.OK
    assert "calm: violated" in out


def test_why_says_what_is_missing(capsys: Captured, write: Write) -> None:
    code, out, _ = run(capsys, "why", write(POLICY), "--scores", "words=3")
    assert code == ExitCode.FAILED
    assert "cap: unknown, margin ?" in out
    assert "`toxicity` is not given; `slur` is not given" in out
    code, out, _ = run(capsys, "why", write(POLICY), "--only", "cap", "--text", "hello")
    assert code == ExitCode.FAILED
    assert "add --scorer toxicity=PATH[#LABEL]" in out


def test_why_of_another_domain(capsys: Captured, write: Write) -> None:
    code, out, _ = run(capsys, "why", write(POLICY), "--tag", "domain=news", "--text", "hello")
    assert code == ExitCode.OK
    assert "cap" not in out


def test_why_of_a_prompt_whose_tag_is_a_truth(capsys: Captured, write: Write) -> None:
    path = write("edition 1\ncap: words < 2 for verified=true\n")
    code, out, _ = run(capsys, "why", path, "--tag", "verified=true", "--text", "a b c")
    assert (code, out.startswith("cap: violated")) == (ExitCode.VIOLATED, True)
    assert "cap" not in run(capsys, "why", path, "--tag", "verified=True", "--text", "a b c")[1]


def test_why_as_json(capsys: Captured, write: Write) -> None:
    arguments = ("why", write(POLICY), "--only", "cap", "--scores", "toxicity=0.05", "--scores", "slur=false")
    (crisp,) = json.loads(run(capsys, *arguments, "--format", "json")[1])
    (smooth,) = json.loads(run(capsys, *arguments, "--logic", "smooth", "--format", "json")[1])
    assert crisp["verdict"] == "satisfied"
    assert crisp["reason"]["margin"] == 0.05
    assert 0 < smooth["reason"]["margin"] <= 0.05
    assert [part["decides"] for part in crisp["reason"]["parts"]] == [True, False]


SAMPLES: list[dict[str, Any]] = [
    {"text": "fine", "scores": {"toxicity": 0.02}, "domain": "chat"},
    {"completion": "a b c d e", "scores": {"toxicity": 0.9}, "domain": "chat"},
    {"text": "LOUD", "scores": {"toxicity": None}, "domain": "news"},
]


def samples(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_why_of_a_sample(capsys: Captured, write: Write) -> None:
    file = write(samples(SAMPLES), "s.jsonl")
    code, out, _ = run(capsys, "why", write(POLICY), "--samples", file)
    assert (
        code == 1
    )  # the score that `rate` does not know is in the way of nothing: two would not decide it either
    assert "  1 of 2 responses are not satisfied\n    1 because of: toxicity < 0.1\n" in out
    assert '  "a b c d e"\n    words <= 4  false' in out
    assert "violation rate 0.5, between" in out
    (cap, short, *_) = json.loads(
        run(capsys, "why", write(POLICY), "--samples", file, "--format", "json")[1]
    )["statements"]
    assert (cap["verdict"], cap["responses"], cap["failing_responses"]) == ("inconclusive", 2, 1)
    assert (short["verdict"], short["responses"], short["failing_responses"]) == ("violated", 3, 1)
    assert short["worst"][0]["text"] == "a b c d e"
    assert short["clauses"][0]["method"] == "clopper-pearson"


def test_why_of_samples_of_several_per_prompt(capsys: Captured, write: Write) -> None:
    rows = [{"prompt": "p", "text": "x", "scores": {"toxicity": t}} for t in (0.9, 0.9, 0.1)]
    rows.append({"prompt": "q", "text": "x", "scores": {"toxicity": 0.1}})
    arguments = ("why", write(POLICY), "--only", "rate", "--samples", write(samples(rows), "s.jsonl"))
    (rate,) = json.loads(run(capsys, *arguments, "--format", "json")[1])["statements"]
    # Each prompt weighs the same: (2/3 + 0) / 2.
    assert rate["clauses"][0]["estimate"] == pytest.approx(1 / 3)
    assert rate["reason"]["values"]["P(toxicity >= 0.5)"] == pytest.approx(1 / 3)
    assert rate["clauses"][0]["n"] == 2


def test_samples_of_eval_count_for_their_clause(capsys: Captured, write: Write) -> None:
    rows = [
        {"prompt": "p", "completion": "x", "scores": {"toxicity": 0.9}, "clause": "rate", "statistic": 1.0},
        {"prompt": "p", "completion": "a b c d e", "scores": {"toxicity": 0.9}, "clause": "short"},
    ]
    file = write(samples(rows), "s.jsonl")
    found = json.loads(run(capsys, "why", write(POLICY), "--samples", file, "--format", "json")[1])[
        "statements"
    ]
    assert [entry["responses"] for entry in found] == [0, 1, 0, 1, 0]
    assert [entry["verdict"] for entry in found] == [
        "vacuous",
        "violated",
        "vacuous",
        "inconclusive",
        "not judged",
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["has no rows"]),
        ("{", ["line 1", "not JSON"]),
        ("\n[1]", ["line 2", "list", "expected an object"]),
        ('{"text": 3}', ["line 1", "`text` is 3"]),
        ('{"text": "a", "scores": [1]}', ["`scores`"]),
        ('{"text": "a", "scores": {"toxicity": "x"}}', ["toxicity", "expected a number or null"]),
        ('{"text": "a", "scores": {"toxicity": 1.5}}', ["lies in [0, 1]", "1.5"]),
        ('{"scores": {"toxicity": 0.5}}', ["neither a score", "nor a text"]),
    ],
)
def test_wrong_samples(capsys: Captured, write: Write, text: str, parts: list[str]) -> None:
    code, out, err = run(capsys, "why", write(POLICY), "--samples", write(text, "s.jsonl"))
    assert (code, out) == (ExitCode.USAGE, "")
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--scores", "toxcity=1"], ["no attribute `toxcity`", "`toxicity`"]),
        (["--scores", "toxicity=2"], ["lies in [0, 1]"]),
        (["--scores", "toxicity=nan"], ["lies in [0, 1]"]),
        (["--scores", "toxicity=x"], ["expected a number"]),
        (["--scores", "toxicity"], ["expected NAME=VALUE"]),
        (["--scores", "words=1", "--scores", "words=2"], ["given twice"]),
        (["--only", "shrot"], ["no statement is labelled `shrot`", "`short`"]),
        (["--tag", "domain"], ["expected KEY=VALUE"]),
        (["--samples", "absent.jsonl"], ["cannot read `absent.jsonl`"]),
        (["--scorer", "toxicty=x"], ["uses no attribute `toxicty`"]),
    ],
)
def test_wrong_options(capsys: Captured, write: Write, arguments: list[str], parts: list[str]) -> None:
    code, out, err = run(capsys, "why", write(POLICY), *arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    for part in parts:
        assert part in err


# ------------------------------------------------------------------ try
def test_try_reads_lines(capsys: Captured, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "hello\r\na b c d e\n\n")
    code, out, err = run(capsys, "try", write(POLICY), "--scores", "toxicity=0.02", "--only", "short")
    assert (code, err) == (ExitCode.VIOLATED, "")
    assert out.split("\n\n")[:3] == [
        "satisfied    +0.75  short  words = 1",
        "violated     -0.25  short  words = 5  fails: words <= 4",
        "satisfied       +1  short  words = 0",
    ]
    assert out.split("\n\n")[3] == (
        "on 3 texts together:\n  violated   short  33.3% violate it, at most 0% may\n"
    )


def test_try_judges_statistics_at_the_end(
    capsys: Captured, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, "a\nb\n")
    code, out, _ = run(capsys, "try", write(POLICY), "--only", "rate", "--scores", "toxicity=0.6")
    assert code == ExitCode.VIOLATED
    assert out.endswith("on 2 texts together:\n  violated   rate  P(toxicity >= 0.5) = 1\n")


def test_try_as_json_and_with_unknown_scores(
    capsys: Captured, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, "a darn\n")
    code, out, _ = run(capsys, "try", write(POLICY), "--format", "json")
    line, summary = map(json.loads, out.splitlines())
    assert code == ExitCode.FAILED  # `rate` has no score
    assert [s["verdict"] for s in line["statements"]] == [
        "violated",
        "satisfied",
        "satisfied",
        "not judged",
        "not judged",
    ]
    assert summary["texts"] == 1


def test_try_without_lines(capsys: Captured, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "")
    assert run(capsys, "try", write(POLICY))[:2] == (ExitCode.OK, "")


def test_try_of_bytes_that_are_no_text(
    capsys: Captured, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello\n\xff\n"), encoding="utf-8"))
    code, _, err = run(capsys, "try", write(POLICY), "--only", "short")
    assert code == ExitCode.USAGE
    assert "no UTF-8 text" in err


def test_try_prompts_a_person(capsys: Captured, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["hello\n", ""])
    person = types.SimpleNamespace(isatty=lambda: True, readline=lambda: next(lines))
    monkeypatch.setattr(sys, "stdin", person)
    _, out, err = run(capsys, "try", write(POLICY), "--only", "short")
    assert err == "one text a line, Ctrl-D to end\n> > "
    assert out.startswith("satisfied")


# ------------------------------------------------------------------ explain
def test_every_code_is_listed(capsys: Captured) -> None:
    code, out, _ = run(capsys, "explain", "--list")
    assert code == ExitCode.OK
    assert [line.split()[0] for line in out.splitlines()] == sorted(all_pages())
    assert len(all_pages()) == len(PAGES) + len(OWN_PAGES) + len(ANALYSIS_PAGES)  # no code has two meanings
    assert run(capsys, "explain")[0] == ExitCode.USAGE


def test_a_page_says_whether_there_is_a_fix(capsys: Captured) -> None:
    assert "a safe fix" in run(capsys, "explain", "PC004")[1]
    assert "--unsafe" in run(capsys, "explain", "PC101")[1]
    assert "fill in yourself" in run(capsys, "explain", "PC202")[1]
    assert "constraintc fix" not in run(capsys, "explain", "PC222")[1]
    assert json.loads(run(capsys, "explain", "PC104", "--format", "json")[1])["fix"] == "safe"


def test_control_characters_do_not_reach_the_terminal(capsys: Captured, write: Write) -> None:
    path = write(POLICY + 'test "\\u001b[31m" {\n  fail "\\u001b[31m" on short\n}\n')
    for verb in (["test"], ["why", "--text", "\x1b[31m a b c d e"], ["test", "--format", "junit"]):
        _, out, err = run(capsys, verb[0], path, *verb[1:])
        assert "\x1b" not in out + err


def test_fmt_of_some_lines(capsys: Captured, write: Write) -> None:
    path = write("a<1\nb<2\n")
    assert run(capsys, "fmt", "--lines", "2:2", path)[0] == ExitCode.OK
    assert Path(path).read_text(encoding="utf-8") == "a<1\nb < 2\n"
    for wrong in ("2", "0:3", "3:2", "a:b"):
        assert run(capsys, "fmt", "--lines", wrong, path)[0] == ExitCode.USAGE


@pytest.mark.parametrize("verb", ["fmt", "fix", "test"])
def test_a_file_that_is_no_utf8_does_not_keep_the_others_from_it(
    capsys: Captured, write: Write, tmp_path: Path, verb: str
) -> None:
    broken, other = tmp_path / "broken.policy", write("toxicity =< 0.1\nwords < 9\n")
    broken.write_bytes(b"words < 9 \xff")
    code, out, err = run(capsys, verb, str(broken), other)
    assert code == ExitCode.REJECTED
    assert "error[PC007]: the byte 0xff is no UTF-8 text" in err
    assert broken.read_bytes() == b"words < 9 \xff"
    assert other in out + err
    assert ("toxicity <= 0.1" in Path(other).read_text(encoding="utf-8")) == (verb == "fix")
