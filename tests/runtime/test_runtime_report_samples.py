"""Samples in a report: violations first, a bounded page, thresholds, histograms, and hostile texts everywhere."""

from __future__ import annotations

import doctest
import io
import json
import math
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hostile_texts import HOSTILE
from rich.console import Console

from constraintlang import json_text as json_text_module
from constraintlang.json_text import json_text
from constraintlang.source import SourceFile
from constraintlang_compiler.pipeline import compile_with_diagnostics
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.report import legible, provenance, sample_file
from constraintlang_runtime.report.assemble import assemble
from constraintlang_runtime.report.data import Candidate, plain, report_data
from constraintlang_runtime.report.html import render_html, write_html
from constraintlang_runtime.report.json_report import write_json
from constraintlang_runtime.report.sample_file import MAX_ROWS, read_sample_file
from constraintlang_runtime.report.sample_table import script_json, table_data
from constraintlang_runtime.report.table import comparison_table, verdict_table
from constraintlang_runtime.report.thresholds import Threshold, thresholds_of
from constraintlang_runtime.report.tradeoff import Point, tradeoff_chart

CLAUSE = "toxicity < 0.1"
VERDICT = {
    "clause": CLAUSE, "domain": None, "kind": "violation", "n": 100, "estimate": 0.2, "lower": 0.1, "upper": 0.3,
    "bound": 0.05, "verdict": "violated", "text": CLAUSE, "quantity": "violation rate",
}  # fmt: skip
BELOW = Threshold(CLAUSE, "toxicity", "lt", 0.1)


def sample(number: int, score: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "prompt": f"prompt {number}", "completion": f"reply {number}", "scores": {"toxicity": score}, "clause": CLAUSE,
        "domain": None, "statistic": None if score is None else float(score >= 0.1), **changes,
    }  # fmt: skip


def evaluation(folder: Path, samples: list[dict[str, Any]], **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    verdict = {"clauses": [VERDICT], "losses": {"utility": 3.0}, "degeneracy": {}, **changes}
    (folder / "verdict.json").write_text(json.dumps(verdict))
    (folder / "samples.jsonl").write_text("".join(json.dumps(record) + "\n" for record in samples))
    return folder


def report(*folders: Path, **changes: Any) -> Any:
    systems = [(folder.name, folder.name, folder) for folder in folders]
    settings: dict[str, Any] = {"title": "t", "policy_text": CLAUSE, "thresholds": [BELOW], **changes}
    return assemble(systems=systems, **settings)


# ------------------------------------------------------------ which rows
def test_all_violations_come_first_the_worst_first(tmp_path: Path) -> None:
    samples = [sample(i, (i % 97) / 1000) for i in range(3000)]  # none is beyond
    for place, score in ((5, 0.4), (1500, 0.9), (2999, 0.1)):
        samples[place] = sample(place, score)
    found = report(evaluation(tmp_path / "a", samples)).systems[0]
    assert len(found.samples) == MAX_ROWS
    assert [s.prompt for s in found.samples[:3]] == ["prompt 1500", "prompt 5", "prompt 2999"]
    assert [s.violates for s in found.samples[:4]] == [True, True, True, False]
    assert found.samples[3].score == 0.096  # then what is closest to a violation
    assert (found.num_samples, found.num_violations) == (3000, 3)


def test_the_page_is_bounded_over_all_systems(tmp_path: Path) -> None:
    many = evaluation(tmp_path / "many", [sample(i, 0.5) for i in range(4000)])
    few = evaluation(tmp_path / "few", [sample(i, 0.5 if i < 3 else 0.0) for i in range(4000)])
    table = table_data(report(many, few).systems)
    assert len(table["rows"]) == MAX_ROWS
    of_few = [row for row in table["rows"] if row[0] == 1]
    assert sum(row[-1] for row in of_few) == 3  # the one with few violations loses none of them
    assert (table["num_samples"], table["num_violations"]) == (8000, 4003)
    assert "2,000 of 8,000 judgements (a reply under a statement) stand in this page" in render_html(
        report(many, few)
    )


def test_a_high_score_is_no_violation_where_high_is_wanted(tmp_path: Path) -> None:
    scores = [0.9, 0.2, 0.7, 0.55]
    samples = [sample(i, s, statistic=float(s <= 0.6)) for i, s in enumerate(scores)]
    above = Threshold(CLAUSE, "toxicity", "gt", 0.6)
    found = report(evaluation(tmp_path / "a", samples), thresholds=[above])
    assert [s.score for s in found.systems[0].samples] == [0.2, 0.55, 0.7, 0.9]
    assert found.histograms[0].series[0].beyond == 2


def test_a_mean_makes_no_violation_of_a_single_reply(tmp_path: Path) -> None:
    folder = evaluation(
        tmp_path / "a", [sample(0, 0.5, statistic=0.5)], clauses=[{**VERDICT, "kind": "mean"}]
    )
    assert report(folder).systems[0].samples[0].violates is None


def test_the_worst_prompts_are_those_of_the_whole_file(tmp_path: Path) -> None:
    """Both systems' replies stand side by side although one of them is far down its file."""
    before = [sample(i, 0.0) for i in range(2500)]
    after = [sample(i, 0.8 if i == 2400 else 0.0, completion=f"after {i}") for i in range(2500)]
    page = render_html(report(evaluation(tmp_path / "b", before), evaluation(tmp_path / "a", after)))
    pair = page.split('<article class="card pair veil">')[1]
    for part in ("prompt 2400", "reply 2400", "after 2400"):
        assert part in pair


def test_long_texts_are_cut_with_their_length_told(tmp_path: Path) -> None:
    samples = [sample(0, 0.5, completion="x" * 10_000_000, prompt="y" * 5000)]
    folder = evaluation(tmp_path / "a", samples)
    page = write_html(report(folder), tmp_path / "p.html")
    assert page.stat().st_size < 100_000
    (row,) = table_data(report(folder).systems)["rows"]
    assert [len(row[3]), row[4], len(row[5]), row[6]] == [2000, 5000, 2000, 10_000_000]
    assert "10,000,000 characters in samples.jsonl" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '"x"', '{"prompt": 1, "completion": "c", "scores": {}, "statistic": null}',
     '{"prompt": "p", "completion": "c", "scores": [], "statistic": null}',
     '{"prompt": "p", "completion": "c", "scores": {"a": "x"}, "statistic": null}',
     '{"prompt": "p", "completion": "c", "scores": {}}',
     f'{{"prompt": "p", "completion": "c", "scores": {{"a": {10**400}}}, "statistic": 1}}'],
)  # fmt: skip
def test_what_is_no_sample_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(sample(0, 0.1)) + "\n" + line + "\n")
    with pytest.raises(DataError, match="line 2 of"):
        read_sample_file(path, {})


def test_scores_that_are_no_numbers_do_not_disturb_the_order(tmp_path: Path) -> None:
    samples = [sample(0, math.nan), sample(1, 0.5), sample(2, None), sample(3, math.inf), sample(4, 0.05)]
    found = report(evaluation(tmp_path / "a", samples))
    assert found.systems[0].samples[0].prompt == "prompt 1"
    assert (found.histograms[0].series[0].missing, sum(found.histograms[0].series[0].counts)) == (3, 2)
    render_html(found)


# ------------------------------------------------------------ thresholds and histograms
def test_thresholds_of_a_policy() -> None:
    text = (
        "edition 1\nattribute tox: score in [0, 1] lower_is_better\nattribute pos: score in [0, 1] higher_is_better\n"
        "a: tox < 0.1\nb: mean(pos) >= 0.7\nc: P(pos >= 0.6) >= 70%\nd: 0.2 <= tox implies pos > 0.5\n"
    )
    outcome = compile_with_diagnostics(SourceFile(text, "x.policy"))
    assert outcome.policy is not None
    found = {(t.clause, t.attribute, t.allowed) for t in thresholds_of(outcome.policy.ir)}
    assert found == {
        ("a", "tox", "< 0.1"), ("c", "pos", "≥ 0.6"), ("d", "tox", "< 0.2"), ("d", "pos", "> 0.5"),
    }  # fmt: skip
    assert Threshold("a", "tox", "lt", 0.1).is_of("a[lang=en]")
    assert not Threshold("a", "tox", "lt", 0.1).is_of("ab")


@pytest.mark.parametrize(
    ("op", "beyond"), [("lt", [0.5, 0.7]), ("le", [0.7]), ("gt", [0.3, 0.5]), ("ge", [0.3])]
)
def test_the_wrong_side_of_a_threshold(op: str, beyond: list[float]) -> None:
    assert [x for x in (0.3, 0.5, 0.7) if Threshold("c", "a", op, 0.5).is_beyond(x)] == beyond


def test_histograms_share_bins_and_lose_nothing(tmp_path: Path) -> None:
    before = evaluation(tmp_path / "before", [sample(i, i / 200) for i in range(201)])
    after = evaluation(tmp_path / "after", [*(sample(i, 0.02) for i in range(90)), sample(91, None)])
    data = report(before, after)
    (found,) = data.histograms
    first, second = found.series
    assert (sum(first.counts), first.beyond, first.missing) == (201, 181, 0)
    assert (sum(second.counts), second.beyond, second.missing) == (90, 0, 1)
    assert found.edges[0] == 0
    assert found.edges[-1] >= 1
    assert 0.1 in found.edges
    page = render_html(data)
    assert "before: 181 of 201 replies are not" in page
    assert "allowed &lt; 0.1</text>" in page
    # the line stands where 0.1 is on the axis from 0 to 1, which begins at 52 and ends at 446
    place = re.search(r'class="threshold" x1="([\d.]+)"', page)
    assert place is not None
    assert float(place.group(1)) == pytest.approx(52 + 0.1 * (446 - 52), abs=0.1)


# ------------------------------------------------------------ trade-off
def boxes(svg: str) -> list[tuple[float, float, float]]:
    """Left end, right end and height of each label, as wide letters as a phone shows."""
    found = []
    for x, y, anchor, text in re.findall(
        r'class="point-label[^"]*" x="([-\d.]+)" y="([-\d.]+)" text-anchor="(\w+)">([^<]*)<', svg
    ):
        width = 7.6 * len(text)
        left = float(x) - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        found.append((left, left + width, float(y)))
    return found


def test_labels_keep_off_each_other() -> None:
    crowd = [Point(f"a system {i}", 3.2 + 0.002 * i, 0.05 + 0.001 * i, marked=i == 2) for i in range(5)]
    svg = str(tradeoff_chart(crowd, title="t", describe=str, bound=0.05))
    found = boxes(svg)
    assert len(found) == 5
    for number, (left, right, y) in enumerate(found):
        assert left >= 0
        assert right <= 460
        for other_left, other_right, other_y in found[:number]:
            assert right <= other_left or other_right <= left or abs(y - other_y) >= 16


def test_points_lie_where_their_numbers_are() -> None:
    svg = str(
        tradeoff_chart(
            [Point("a", 3.0, 0.1, 0.05, 0.2), Point("b", 3.4, 0.4)], title="t", describe=str, bound=0.05
        )
    )
    (ax, ay), (bx, by) = [tuple(map(float, m)) for m in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert ax < bx
    assert ay > by  # more is higher up
    low, high = map(
        float,
        re.search(r'class="whisker c1" x1="[\d.]+" x2="[\d.]+" y1="([\d.]+)" y2="([\d.]+)"', svg).groups(),
    )  # type: ignore[union-attr]
    assert low > ay > high
    assert (low - ay) / (ay - high) == pytest.approx(0.5, rel=0.02)
    assert "a: 0.1 at a loss of 3.0000" in svg
    assert str(tradeoff_chart([Point("a", 3.0, 0.1)], title="t", describe=str)) == ""
    assert (
        str(tradeoff_chart([Point("a", math.nan, 0.1), Point("b", 1.0, 0.1)], title="t", describe=str)) == ""
    )


def test_checkpoints_have_axes_of_their_own(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "a", [sample(0, 0.5)])
    one = {"clause": CLAUSE, "estimate": 0.1, "limit": 0.05, "met": False, "samples": 100, "bound": 0.05}
    candidates = [
        {"step": step, "chosen": step == 20, "utility_loss": 3.0 - step / 100, "clauses": [one]}
        for step in (10, 20)
    ]
    data = report_data({**plain(report(folder)), "candidates": candidates})
    assert isinstance(data.candidates[0], Candidate)
    page = render_html(data)
    assert "checkpoints, on the selection prompts" in page
    assert "systems, on held-out prompts" not in page  # one system alone is no trade-off
    assert "step 20, kept: 10% (4.9% to 17.6%), loss 2.8000" in page  # the exact interval of 10 in 100


# ------------------------------------------------------------ hostile texts
def assert_quiet(text: str) -> None:
    """Nothing in a terminal's text moves the cursor, colours it or reorders a line."""
    bad = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not bad


def hostile_report(folder: Path) -> Any:
    names = [text[:5000] for text in HOSTILE.values()]
    samples = [
        sample(i, 0.5, prompt=text, completion=text, domain=name)
        for i, (text, name) in enumerate(zip(HOSTILE.values(), names, strict=True))
    ]
    clauses = [{**VERDICT, "clause": text, "domain": text, "text": text, "note": text} for text in names]
    for record, clause in zip(samples, clauses, strict=True):
        record["clause"] = clause["clause"]
    return report(
        evaluation(folder, samples, clauses=clauses), title=HOSTILE["ansi"], policy_text=HOSTILE["surrogate"]
    )


def test_hostile_texts_come_through_as_texts(tmp_path: Path) -> None:
    assert len(HOSTILE) >= 20
    data = hostile_report(tmp_path / "evil")
    page = write_html(data, tmp_path / "p.html").read_text(encoding="utf-8")
    assert re.findall("<script.*?>", page) == [
        '<script type="application/json" id="sample-data">',
        "<script>",
    ]
    embedded = re.search(r'id="sample-data">(.*?)</script>', page, re.DOTALL)
    assert embedded is not None
    assert embedded.group(1).isascii()
    shown = {row[5] for row in json.loads(embedded.group(1))["rows"]}
    assert shown == {legible.legible(text)[:2000] for text in HOSTILE.values()}
    # no control or bidi character anywhere in the page
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page
    )


def test_json_of_hostile_texts_reads_back_and_moves_no_terminal(tmp_path: Path) -> None:
    for text in HOSTILE.values():
        found = json_text({text: [text, 1.5]})
        assert json.loads(found) == {text: [text, 1.5]}
        found.encode()
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]", found)
    data = hostile_report(tmp_path / "evil")
    again = json.loads(write_json(data, tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report_data(again) == data


def test_tables_of_hostile_texts_move_no_terminal(tmp_path: Path) -> None:
    data = hostile_report(tmp_path / "evil")
    stream = io.StringIO()
    console = Console(file=stream, width=200, color_system=None)
    console.print(verdict_table(data.systems[0].clauses, title=HOSTILE["ansi"]))
    one = {
        **plain(data.systems[0]),
        "label": HOSTILE["bidi"],
        "clauses": plain(data.systems[0])["clauses"][:3],
    }
    console.print(
        comparison_table(report_data({**plain(data), "systems": [one]}).systems, title=HOSTILE["osc"])
    )
    assert_quiet(stream.getvalue())
    assert len(stream.getvalue()) < 2_000_000


def test_script_json_cannot_leave_its_element() -> None:
    text = str(script_json(list(HOSTILE.values())))
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == list(HOSTILE.values())


@pytest.mark.parametrize("module", [legible, sample_file, provenance, json_text_module])
def test_docstring_examples(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
