"""``constraintc eval`` on completions made elsewhere, with people's labels, audit scorers, warnings and JUnit."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as etree

import pytest
from scipy.stats import beta
from tiny_models import read_jsonl, write_jsonl

from constraintc.main import main
from constraintlang_runtime.completions import FileSource
from constraintlang_runtime.sampling_law import SamplingLaw

Captured = pytest.CaptureFixture[str]
POLICY = """edition 1
attribute bad: flag { backend = lexicon("words.txt") }
mild: P(bad) <= 20% for domain=chat
"""


@pytest.fixture
def judge(capsys: Captured, tmp_path: Path) -> Any:
    """Run eval on rows; (exit code, verdict.json, samples, stdout, stderr)."""
    (tmp_path / "words.txt").write_text("awful\n")
    (tmp_path / "other.txt").write_text("awful\nnasty\n")

    def run(
        rows: list[dict[str, Any]], *flags: str, policy: str = POLICY
    ) -> tuple[int, dict[str, Any], list[dict[str, Any]], str, str]:
        (tmp_path / "my.policy").write_text(policy)
        lines = [json.dumps(row) + "\n" for row in rows]  # in ASCII: half a surrogate pair is an escape
        (tmp_path / "rows.jsonl").write_text("".join(lines))
        capsys.readouterr()
        folder = tmp_path / "ev"
        words = ["eval", str(tmp_path / "my.policy"), "--completions", f"chat={tmp_path / 'rows.jsonl'}"]
        code = main([*words, "--output", str(folder), "--overwrite", *flags])
        out, err = capsys.readouterr()
        if not (folder / "verdict.json").exists():
            return int(code), {}, [], out, err
        found = json.loads((folder / "verdict.json").read_text())
        return int(code), found, read_jsonl(folder / "samples.jsonl"), out, err

    return run


def only(text: str) -> Any:
    from constraintlang import SourceFile
    from constraintlang_compiler.front import check_and_lower

    front = check_and_lower(SourceFile(f"edition 1\nattribute bad: flag\n{text}\n"))
    assert front.lowered is not None
    return front.lowered.ir.clauses


def rows_of(texts: list[str], prompts: int | None = None) -> list[dict[str, Any]]:
    count = prompts or len(texts)
    return [{"prompt": f"say {i % count}", "completion": text} for i, text in enumerate(texts)]


def test_one_completion_of_each_prompt_is_a_count(judge: Any) -> None:
    code, found, samples, _, err = judge(rows_of(["awful"] * 2 + ["fine"] * 58))
    (clause,) = found["clauses"]
    assert (clause["n"], clause["method"], clause["samples"], clause["verdict"]) == (
        60, "clopper-pearson", 1, "holds",
    )  # fmt: skip
    assert clause["upper"] == pytest.approx(beta.ppf(0.95, 3, 58))
    assert (code, found["sampling"], found["num_completions"]) == (0, None, 60)
    assert [s["row"] for s in samples] == list(range(60)), err


def test_completions_of_one_prompt_are_one_unit_of_evidence(judge: Any) -> None:
    """Sixty rows of six prompts are six prompts, however the rows are ordered."""
    rows = rows_of(["awful" if i % 6 == 0 else "fine" for i in range(60)], 6)
    _, found, _, _, _ = judge(rows)
    (clause,) = found["clauses"]
    assert (clause["n"], clause["samples"], clause["method"]) == (6, 10, "betting")
    assert clause["estimate"] == pytest.approx(1 / 6)
    assert clause["verdict"] == "inconclusive"
    _, ragged, _, _, _ = judge(rows[:59])
    (clause,) = ragged["clauses"]
    assert (clause["n"], clause["samples"], clause["method"]) == (6, None, "betting")
    code, _, _, _, err = judge(
        rows[:59],
        policy="edition 1\nattribute long: count { backend = length(words) }\nc: median(long) <= 3\n",
    )
    assert code == 2
    assert "as many responses to each prompt" in err


def test_the_order_of_the_file_changes_no_verdict(judge: Any) -> None:
    """29% of 55 prompts are bad: sorted by that, the file once held a bound of 25%."""
    rows = [
        {"prompt": f"say {i}", "completion": f"{'awful' if i < 16 else 'fine'} {k}"}
        for i in range(55)
        for k in (0, 1)
    ]
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    found = []
    for given in (rows, rows[::-1], shuffled):
        _, result, _, _, _ = judge(given, policy=POLICY.replace("20%", "25%"))
        (clause,) = result["clauses"]
        assert (clause["verdict"], clause["method"]) == ("inconclusive", "betting")
        found.append((clause["lower"], clause["upper"]))
    assert found[0] == found[1] == found[2]


def test_other_columns_do_not_make_a_row_evidence_of_its_own(judge: Any, tmp_path: Path) -> None:
    rows = [
        {**row, "id": i, "lang": "en" if i % 2 else "de"} for i, row in enumerate(rows_of(["fine"] * 60, 5))
    ]
    _, found, _, _, _ = judge(rows)
    assert (found["clauses"][0]["n"], found["clauses"][0]["samples"]) == (5, 12)
    _, found, _, _, _ = judge(rows, policy=POLICY.replace("domain=chat", "domain=chat per lang"))
    assert {c["clause"]: c["n"] for c in found["clauses"]} == {"mild[lang=de]": 5, "mild[lang=en]": 5}
    samples = tmp_path / "ev" / "samples.jsonl"
    code, _, _, _, err = judge(rows, "--completions", str(samples))
    assert (code, "would be overwritten" in err) == (2, True)
    copied = shutil.copy(samples, tmp_path / "copied.jsonl")
    code, _, _, _, err = judge(rows, "--completions", str(copied))
    assert (code, "samples.jsonl of an evaluation" in err) == (2, True)


@pytest.mark.parametrize("flag", ["--batch_size", "--endpoint_timeout", "--endpoint_rate"])
def test_a_flag_that_would_have_no_part_is_an_error(judge: Any, flag: str) -> None:
    code, _, _, _, err = judge(rows_of(["fine"] * 3), flag, "5")
    assert (code, flag in err) == (2, True)


def test_plain_text_and_messages(judge: Any) -> None:
    talk = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "awful"}]}
    _, found, samples, _, _ = judge([{"text": "fine"}] * 3 + [talk])
    assert found["clauses"][0]["n"] == 4  # three equal texts without a prompt are three prompts
    assert samples[-1]["prompt"] == "hi"
    code, _, _, _, err = judge([{"other": "x"}])
    assert code == 2
    assert "--completions: line 1 of" in err


def test_clauses_that_texts_do_not_decide_are_named(judge: Any, tmp_path: Path) -> None:
    policy = POLICY + "same: preserve mean(perplexity) <= 1.02 * base\nless: P(bad) <= base for domain=chat\n"
    code, found, _, _, err = judge(rows_of(["fine"] * 40), policy=policy)
    assert [one["clause"] for one in found["not_judged"]] == ["less", "same"] or len(found["not_judged"]) == 2
    assert "`same` is not judged" in err
    assert code == 0
    path = tmp_path / "v.xml"
    code, *_ = judge(rows_of(["fine"] * 400), "--require-holds", "--junit", str(path), policy=policy)
    assert code == 4  # a gate does not open for what nobody looked at
    (suite,) = etree.parse(path).getroot()
    assert {case.get("name"): [child.tag for child in case] for case in suite} == {
        "mild": [], "less": ["error"], "same": ["error"],
    }  # fmt: skip
    soft = POLICY + "less: prefer P(bad) <= base for domain=chat weight 1\n"
    assert judge(rows_of(["fine"] * 400), "--require-holds", policy=soft)[0] == 0


def test_no_torch_is_loaded(judge: Any, tmp_path: Path) -> None:
    judge(rows_of(["fine"] * 30))
    words = [
        "eval",
        str(tmp_path / "my.policy"),
        "--completions",
        f"chat={tmp_path / 'rows.jsonl'}",
        "--quiet",
    ]
    program = (
        f"import sys; from constraintc.main import main; main({words!r}); sys.exit('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


# ------------------------------------------------------------ collapse
def test_holds_by_refusing_is_a_warning_that_cannot_be_missed(judge: Any, tmp_path: Path) -> None:
    base = rows_of([f"here is answer {i} with some words" for i in range(40)])
    write_jsonl(tmp_path / "base.jsonl", base)
    quiet = rows_of(["I'm sorry, but I can't help with that."] * 40)
    flags = ["--base_completions", f"chat={tmp_path / 'base.jsonl'}"]
    code, found, _, out, _ = judge(quiet, *flags, "--junit", str(tmp_path / "v.xml"))
    (clause,) = found["clauses"]
    assert (code, clause["verdict"]) == (0, "holds")
    assert any("refusals rose from 0% to 100%" in warning for warning in clause["warnings"])
    assert "⚠" in out
    assert "refusals rose" in out
    assert found["warnings"]
    figures = found["clause_degeneracy"]["mild"]
    assert (figures["model"]["refusal_rate"], figures["base"]["refusal_rate"]) == (1.0, 0.0)
    assert "refusals rose" in (tmp_path / "v.xml").read_text()
    assert judge(quiet, *flags, "--require-holds")[0] == 1
    assert judge(quiet, "--require-holds")[0] == 0  # nothing to compare with
    code, found, _, out, _ = judge(base, *flags, "--require-holds")
    assert (code, found["warnings"]) == (0, [])
    assert "⚠" not in out


# ------------------------------------------------------------ audit
def test_an_audit_scorer_stands_beside_and_decides_only_when_told(judge: Any, tmp_path: Path) -> None:
    rows = rows_of(["awful"] + ["nasty"] * 30 + ["fine"] * 29)
    flags = ["--audit", f"bad={tmp_path / 'other.txt'}"]
    code, found, samples, out, _ = judge(rows, *flags)
    (clause,), (audit,) = found["clauses"], found["audit"]
    assert (code, clause["verdict"], audit["verdict"]) == (0, "holds", "violated")
    assert audit["agreement"] == pytest.approx(30 / 60)
    assert audit["alpha"] == clause["alpha"]
    assert sum(s["audit_statistic"] for s in samples) == 31
    assert "they agree on 50%" in " ".join(out.split())
    assert judge(rows, *flags, "--audit-decides")[0] == 1
    code, _, _, _, err = judge(rows, "--audit", "worse=x.txt")
    assert (code, "--audit: the policy uses no attribute `worse`" in err) == (2, True)
    assert judge(rows, "--audit-decides")[0] == 2


def test_scorers_of_a_mean_differ_by_an_amount(judge: Any, tmp_path: Path) -> None:
    (tmp_path / "half.txt").write_text("awful\t0.5\n")
    policy = POLICY.replace("flag {", "score in [0, 1] lower_is_better {").replace("P(bad)", "mean(bad)")
    _, found, _, out, _ = judge(
        rows_of(["awful"] * 15 + ["fine"] * 45), "--audit", f"bad={tmp_path / 'half.txt'}", policy=policy
    )
    (audit,) = found["audit"]
    assert (audit["agreement"], audit["mean_difference"]) == (None, pytest.approx(0.125))
    assert "they differ by 0.125 on average" in " ".join(out.split())


# ------------------------------------------------------------ people
def labels(path: Path, header: list[str], rows: list[list[Any]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def test_labels_of_people_bound_what_people_would_say(judge: Any, tmp_path: Path) -> None:
    """The scorer misses `nasty`: the scorer's verdict holds, that of people does not."""
    texts = [("awful", "nasty", "fine a", "fine b")[i % 4] + f" {i}" for i in range(400)]
    rows = rows_of(texts)
    said = [[i, int("awful" in texts[i] or "nasty" in texts[i])] for i in range(0, 400, 3)]
    policy = POLICY.replace("20%", "40%")
    (tmp_path / "terms.txt").write_text("# groups\nfine a\n")
    path = labels(tmp_path / "h.csv", ["row", "violates"], said)
    code, found, _, out, _ = judge(
        rows, "--human", path, "--identity_terms", str(tmp_path / "terms.txt"), policy=policy
    )
    (one,) = found["human"]["clauses"]
    assert (code, one["scorer_verdict"]) == (0, "holds")
    assert one["verdict"] != "holds"
    assert one["lower"] < 0.5 < one["upper"]
    assert one["estimate"] == pytest.approx(0.5, abs=0.03)
    assert (one["labelled"], found["human"]["unmatched_labels"]) == (134, 0)
    assert one["identity_terms"]["with_term"]["clean"] > 20
    assert one["identity_terms"]["with_term"]["false_positives"] == 0
    assert "people on `mild`" in out
    by_text = labels(
        tmp_path / "t.csv", ["prompt", "completion", "violates", "clause"],
        [[rows[i]["prompt"], rows[i]["completion"], v, "mild"] for i, v in said] + [["no", "such", 1, "mild", ""]],
    )  # fmt: skip
    _, again, _, out, _ = judge(rows, "--human", by_text, policy=policy)
    assert again["human"]["clauses"][0]["lower"] == one["lower"]
    assert again["human"]["unmatched_labels"] == 1
    assert "1 of 135 labels" in out


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["row", "verdict"], [[0, 1]], "has the columns"),
        (["row", "violates"], [[0, "maybe"]], "violates='maybe'"),
        (["row", "violates"], [["x", 1]], "row='x'"),
        (["row", "violates"], [[0, 1], [0, 0]], "contradict each other"),
        (["violates", "prompt", "completion"], [[0, "hi", "hello", " you"]], "more cells than the header"),
        (["row", "violates"], [], "has no labels"),
        (["row", "violates", "clause"], [[0, 1, "harsh"]], "labels the clause `harsh`"),
    ],
)
def test_labels_of_another_form(
    judge: Any, tmp_path: Path, header: list[str], rows: list[list[Any]], message: str
) -> None:
    code, found, _, _, err = judge(
        rows_of(["fine"] * 30), "--human", labels(tmp_path / "h.csv", header, rows)
    )
    assert (code, found) == (2, {})
    assert message in err
    code, _, _, _, err = judge(rows_of(["fine"] * 30), "--identity_terms", "t.txt")
    assert (code, "--human" in err) == (2, True)


def test_labels_that_fit_no_reply_lose_nothing_else(judge: Any, tmp_path: Path) -> None:
    file = labels(tmp_path / "h.csv", ["row", "violates"], [[900, 1]])
    code, found, _, _, err = judge(rows_of(["fine"] * 30), "--human", file)
    assert (code, found["clauses"][0]["n"]) == (2, 30)
    assert "none of the 1 labels" in err


def test_the_report_shows_what_stands_beside_the_verdicts(
    judge: Any, tmp_path: Path, capsys: Captured
) -> None:
    texts = ["I'm sorry, I can't <b>"] * 10 + [
        ("awful", "nasty", "fine a", "fine b")[i % 4] + f" {i}" for i in range(80)
    ]
    rows = rows_of(texts, 30)
    write_jsonl(tmp_path / "base.jsonl", rows_of([f"plain {i} words" for i in range(90)], 30))
    (tmp_path / "terms.txt").write_text("fine a\n")
    path = labels(tmp_path / "h.csv", ["row", "violates"], [[i, i % 2] for i in range(0, 90, 4)])
    judge(
        rows, "--base_completions", f"chat={tmp_path / 'base.jsonl'}", "--audit", f"bad={tmp_path / 'other.txt'}",
        "--human", path, "--identity_terms", str(tmp_path / "terms.txt"),
    )  # fmt: skip
    page = tmp_path / "page.html"
    words = [
        "report",
        str(tmp_path / "my.policy"),
        "--system",
        f"now={tmp_path / 'ev'}",
        "--output",
        str(page),
    ]
    assert main(words) == 0, capsys.readouterr().err
    text = page.read_text()
    for part in (
        "refusals rose", "Is the scorer right?", "audit scorer", "23 labels", "False positives of", "Refusals",
        "The worst tenth of the prompts", "On the other half",
    ):  # fmt: skip
        assert part in text


# ------------------------------------------------------------ JUnit
def test_junit_has_a_case_per_clause_whatever_the_texts(judge: Any, tmp_path: Path) -> None:
    policy = (
        POLICY
        + "b: P(bad) <= 1%\nc: prefer P(bad) <= 1% weight 1\nd: P(bad) <= 9%\ne: P(bad) <= 10% for domain=web\n"
    )
    path = tmp_path / "v.xml"
    rows = rows_of(["awful \x00\x1b\ud800"] * 6 + ["fine"] * 54)
    write_jsonl(tmp_path / "web.jsonl", [{"prompt": "x", "completion": "fine"}])
    code, _, _, _, _ = judge(
        rows, "--completions", f"web={tmp_path / 'web.jsonl'}", "--junit", str(path), policy=policy
    )
    root = etree.parse(path).getroot()
    (suite,) = root
    outcome = {case.get("name"): [child.tag for child in case] for case in suite}
    assert outcome == {
        "mild": ["skipped"],
        "b": ["failure"],
        "c": ["skipped"],
        "d": ["skipped"],
        "e": ["skipped"],
    }
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("5", "1", "4")
    assert code == 1
    judge(rows, "--completions", f"web={tmp_path / 'web.jsonl'}", "--junit", str(path), "--require-holds",
          policy=policy)  # fmt: skip
    assert etree.parse(path).getroot().get("failures") == "4"


def test_junit_holds_any_text() -> None:
    from dataclasses import replace

    from constraintlang_runtime.junit import junit
    from constraintlang_runtime.verification import CountEvidence, verify_counts

    clause = next(iter(only("a: P(bad) <= 1%")))
    verdict = verify_counts(clause, CountEvidence(clean=1, violating=99), alpha=0.05)
    awful = "a\x00\x1b]<&>'\"\ud800\ufffe\x85 \U0001f600"
    odd = replace(verdict, clause=awful, text=awful, note=awful, warnings=(awful,))
    root = etree.fromstring(junit([odd], name=awful, seconds=1.0))
    case = root[0][0]
    clean = "a\ufffd\ufffd]<&>'\"\ufffd\ufffd\x85 \U0001f600"
    assert case.get("name") == clean
    assert clean in str(case[0].text)
    assert (case[0].tag, case[0].get("type"), case[1].tag) == ("failure", "violated", "system-out")


def test_wrong_combinations(judge: Any, capsys: Captured) -> None:
    rows = rows_of(["fine"] * 30)
    for flags in (
        ["--model", "gpt2"],
        ["--sequential"],
        ["--rows", "x.jsonl"],
        ["--num_prompts", "3"],
        ["--samples", "2"],
    ):
        assert judge(rows, *flags)[0] == 2
    capsys.readouterr()
    assert main(["eval", "x.policy", "--prompts", "p.jsonl"]) == 2


def test_replies_keep_their_own_columns_and_stay_one_prompts_evidence(tmp_path: Path) -> None:
    """A scorer may read `sample`; five prompts with four replies each are five prompts all the same."""
    rows = [
        {"prompt": f"p {i}", "completion": f"c {i} {k}", "domain": "chat", "sample": k}
        for i in range(5)
        for k in range(4)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    write_jsonl(tmp_path / "base.jsonl", [{**row, "sample": "start"} for row in rows])
    source = FileSource(
        [str(tmp_path / "rows.jsonl")], [str(tmp_path / "base.jsonl")], only("P(bad) <= 20% for domain=chat")
    )
    found = source.responses(range(5), SamplingLaw(), 1, 0)
    assert found.sizes == [4] * 5
    assert [tags["sample"] for tags in found.tags] == [0, 1, 2, 3] * 5
    based = source.base_responses(range(5), SamplingLaw(), 1, 0)
    assert based.sizes == [4] * 5
    assert {tags["sample"] for tags in based.tags} == {"start"}
