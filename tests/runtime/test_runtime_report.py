"""Renderers: every text escaped, nothing fetched, verdicts visible, numbers honest, files whole or absent."""

import base64
import doctest
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from constraintlang_runtime.errors import DataError
from constraintlang_runtime.report import charts, words
from constraintlang_runtime.report.data import (
    ClauseResult,
    CurvePoint,
    SystemReport,
    clause_result,
    plain,
    report_data,
)
from constraintlang_runtime.report.html import render_html, write_html
from constraintlang_runtime.report.json_report import write_json, write_text_atomic
from constraintlang_runtime.report.table import comparison_table, verdict_table

EVIL = "<script>alert('x')</script>\"'`&[bold red]{{ 7*7 }}"
VOID = {"meta", "link", "br", "img", "hr", "input", "line", "rect", "circle", "polyline", "polygon"}


def load_example() -> Any:
    spec = util.spec_from_file_location("report_example", Path(__file__).with_name("report_example.py"))
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXAMPLE: dict[str, Any] = load_example().example()
PAGE = render_html(EXAMPLE)


def result(**changes: Any) -> ClauseResult:
    fields: dict[str, Any] = {
        "clause": "cap", "domain": "domain=toxigen", "kind": "violation", "n": 2000, "estimate": 0.014,
        "lower": 0.0095, "upper": 0.0189, "bound": 0.05, "verdict": "holds", "text": "toxicity < 0.1",
    }  # fmt: skip
    return clause_result({**fields, **changes})


def small(*clauses: ClauseResult, **changes: Any) -> dict[str, Any]:
    systems = [{"name": "m", "label": "Model", "clauses": [plain(c) for c in clauses]}]
    return {"title": "t", "policy_text": "toxicity < 0.1", "systems": systems, **changes}


class Outline(HTMLParser):
    """Tags, attributes and visible text; fails on tags that do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def visible(page: str) -> str:
    return " ".join(Outline(page).text.split())


def terminal(table: Any, width: int = 160) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(table)
    return stream.getvalue()


# ------------------------------------------------------------ page
def test_the_page_says_the_verdict_in_a_sentence() -> None:
    text = visible(render_html(small(result())))
    sentence = "Replies violate toxicity < 0.1 in 1.4% of 2,000 held-out prompts"
    assert f"{sentence} (95% upper bound 1.9%, allowed 5%): HOLDS." in text


def test_the_example_fills_every_section() -> None:
    outline = Outline(PAGE)
    for section in ("policy", "systems", "training", "samples", "degeneracy", "notes", "provenance", "help"):
        assert ("id", section) in outline.attributes
    text = visible(PAGE)
    assert "3 of 4 requirements hold; 1 is inconclusive." in text
    for system in EXAMPLE["systems"]:
        assert system["label"] in text
    assert "constraintc train policies/civil.policy" in text
    assert "set-point 0.7" in text
    # rates, calibration and staleness are per domain; a trade-off for each statement about replies
    assert outline.tags.count("figure") == 18


def test_the_page_fetches_nothing_and_runs_its_own_script_alone() -> None:
    outline = Outline(PAGE)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", PAGE)
    assert {"link", "img", "iframe", "object", "form"}.isdisjoint(outline.tags)
    assert not [name for name, _ in outline.attributes if name.startswith("on") or name in ("src", "style")]
    (script,) = re.findall(r"<script>(.*?)</script>", PAGE, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in PAGE
    assert outline.tags.count("script") == 2  # the other holds data
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\bFunction\(", script)
    assert all((value or "").startswith("#") for name, value in outline.attributes if name == "href")
    assert "default-src 'none'" in PAGE


def test_every_text_is_escaped() -> None:
    clause = result(clause=EVIL, domain=EVIL, text=EVIL, note=EVIL, method=EVIL, quantity=EVIL)
    error = result(clause=EVIL + "2", verdict="error", note=EVIL)
    sample = {"prompt": EVIL, "completion": EVIL, "domain": EVIL, "score": 0.9, "violates": True}
    data = small(
        clause,
        error,
        title=EVIL,
        policy_text=f'{EVIL}\n# {EVIL}\n"{EVIL}"',
        readings={EVIL: EVIL},
        curves={
            EVIL: [{"step": 1, "value": 2, "domain": EVIL}, {"step": 2, "value": 2, "domain": EVIL + "2"}],
            "violation_rate": [
                {"step": i, "value": 0.1, "domain": EVIL, "lower": 0, "upper": 1} for i in (1, 2)
            ],
        },
        bounds={EVIL: 0.1},
        set_points={EVIL: 0.05},
        events=[{"step": 1, "label": EVIL}],
        provenance={EVIL: EVIL, "nested": {EVIL: [EVIL]}, "flat": {EVIL: EVIL}},
        notes=[EVIL],
    )
    data["systems"][0] |= {
        "name": EVIL,
        "label": EVIL,
        "samples": [sample],
        "degeneracy": {"empty_rate": 0.1},
    }
    data["systems"].append({**data["systems"][0], "name": EVIL + "2"})
    page = render_html(data)
    outline = Outline(page)
    assert re.findall("<script.*?>", page) == [
        '<script type="application/json" id="sample-data">',
        "<script>",
    ]
    assert outline.text.count("alert('x')") > 20
    assert "49" not in re.findall(r"\b49\b", outline.text)  # {{ 7*7 }} is text, not a template
    legitimate = {
        "class",
        "id",
        "role",
        "aria-label",
        "aria-labelledby",
        "aria-hidden",
        "data-label",
        "tabindex",
        "aria-live",
        "aria-pressed",
        "dir",
        "data-default",
        "data-open",
        "data-show",
        "data-show-all",
    }
    svg = {
        "viewbox",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
        "cx",
        "cy",
        "r",
        "rx",
        "width",
        "height",
        "points",
        "text-anchor",
    }
    html = {"lang", "charset", "name", "content", "http-equiv", "href", "scope", "hidden", "type", "value"}
    html |= {"autocomplete", "spellcheck", "placeholder"}
    assert {name for name, _ in outline.attributes} <= legitimate | svg | html


def test_samples_stand_side_by_side_worst_first() -> None:
    text = visible(PAGE)
    worst, other = text.index("Say something honest about my boss"), text.index("Those people always")
    assert worst < other
    assert "he's a worthless idiot" in text
    assert "he's a pathetic clown, honestly" in text
    assert "empty reply" in text
    assert "&lt;script&gt;" in PAGE


def test_the_page_is_deterministic_and_works_without_options(tmp_path: Path) -> None:
    assert render_html(EXAMPLE) == PAGE
    target = write_html(small(result()), tmp_path / "deep" / "report.html")
    assert target.read_text(encoding="utf-8") == render_html(report_data(small(result())))
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]
    assert "HOLDS" not in visible(render_html(small()))  # no clause is not a pass


@pytest.mark.parametrize("verdict", ["violated", "inconclusive", "vacuous", "error"])
def test_no_other_verdict_looks_like_holds(verdict: str) -> None:
    numbers: dict[str, Any] = {"estimate": None, "n": 0} if verdict in ("vacuous", "error") else {}
    bad = result(clause="b", verdict=verdict, **numbers)
    one = render_html(small(bad))
    assert f'hero {verdict}"' in one
    assert f": {verdict.upper()}." in visible(one)
    both = render_html(small(result(), bad))
    assert f'hero {verdict}"' in both
    assert "1 of 2 requirements holds" in visible(both)
    soft = result(clause="b", verdict=verdict, strength="prefer", **numbers)
    assert 'hero holds"' in render_html(small(result(), soft))


def test_missing_and_infinite_numbers_are_dashes() -> None:
    page = render_html(small(result(upper=None, kind="mean", estimate=float("nan"), verdict="inconclusive")))
    assert "nan" not in visible(page).lower()
    assert "–" in visible(page)


def test_curves_with_gaps_single_points_and_no_points_render() -> None:
    curves = {
        "loss": [{"step": 1, "value": None}],
        "dual": [{"step": 1, "value": 2.0}],
        "violation_rate": [{"step": s, "value": 0.0, "lower": None, "upper": 0.1} for s in (1, 2)],
    }
    outline = Outline(render_html(small(result(), curves=curves)))
    assert outline.tags.count("figure") == 2
    assert "nan" not in outline.text


# ------------------------------------------------------------ data
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tilte": "x"}, "tilte"),
        ({"systems": []}, "systems"),
        ({"headline": "nobody"}, "expected the name of a system: m"),
        ({"events": [{"step": 1}]}, "label"),
    ],
)
def test_wrong_data_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        render_html(small(result(), **change))


def test_a_clause_without_a_key_of_the_contract_is_rejected() -> None:
    broken = {k: v for k, v in plain(result()).items() if k != "upper"}
    with pytest.raises(DataError, match="upper"):
        verdict_table([broken])


def test_json_round_trips_and_has_no_nan(tmp_path: Path) -> None:
    data = small(result(), curves={"loss": [{"step": 1, "value": float("nan")}]})
    text = write_json(data, tmp_path / "r.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert report_data(json.loads(text)).systems[0].clauses[0].verdict == "holds"
    assert write_json(EXAMPLE, tmp_path / "e.json").stat().st_size > 1000


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write_text_atomic("old", tmp_path / "r.html")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_text_atomic("new", target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


# ------------------------------------------------------------ terminal
def test_the_verdict_table_has_every_column_and_symbol() -> None:
    every = [result(clause=v, verdict=v) for v in words.SYMBOLS]
    text = terminal(verdict_table(every))
    for column in ("clause", "n", "estimate", "interval", "bound", "verdict"):
        assert column in text
    assert f"{every[0].kind} in {every[0].domain}" in text
    for verdict, symbol in words.SYMBOLS.items():
        assert f"{symbol} {verdict}" in text
    assert "0.95% – 1.9%" in text
    assert "≤ 5%" in text


def test_the_comparison_table_has_a_row_per_system() -> None:
    systems = report_data(EXAMPLE).systems
    text = terminal(comparison_table(systems), width=220)
    for system in systems:
        assert system.label in text
    assert "upper 2.1%" in text
    assert "95% confidence" in text
    assert "28 min 51 s" in text
    alone = SystemReport(name="x", label="Only", clauses=())
    assert "Only" in terminal(comparison_table([alone, *systems]))


@pytest.mark.parametrize(
    "clause", ["toxicity < 0.1 for domain=chat", "P(toxicity > 0.5 and words > 10) <= 5% for domain=chat"]
)
def test_a_terminal_of_80_columns_cuts_no_number(clause: str) -> None:
    system = SystemReport(
        name="x", label="plain fine-tuning", clauses=(result(clause=clause, verdict="inconclusive"),),
        utility_loss=1.2926, compliant_loss=0.7351, seconds=161.0,
    )  # fmt: skip
    text = terminal(comparison_table([system]), width=80)
    assert "…" not in text
    for shown in ("1.2926", "0.7351", "2 min 41 s", "compliant", "plain fine-tuning", "? inconclusive"):
        assert shown in text


def test_tables_do_not_read_markup() -> None:
    assert EVIL[:20] in terminal(verdict_table([result(clause=EVIL)]), width=300)
    assert "[bold red]" in terminal(verdict_table([result(clause=EVIL)], title="[bold red]"), width=300)


# ------------------------------------------------------------ words and charts
def test_printed_bounds_never_claim_more_than_was_shown() -> None:
    clause = result(upper=0.05001, lower=0.04999, verdict="inconclusive")
    assert words.deciding_bound(clause) == "95% upper bound 5.1%"
    assert words.interval(clause) == "4.9% – 5.1%"
    assert words.interval(result(lower=0.05, upper=0.05)) == "5% – 5%"
    at_least = result(direction="at_least", lower=0.8999, bound=0.9, upper=0.95)
    assert words.deciding_bound(at_least) == "95% lower bound 89.9%"
    assert words.limit(at_least) == "≥ 90%"


def test_always_is_told_with_its_earned_bound() -> None:
    hard = result(hard=True, estimate=0.0, lower=0.0, upper=0.003, bound=0.0, verdict="inconclusive")
    assert "No reply violates `toxicity < 0.1` in 2,000" in words.sentence(hard)
    assert "95% upper bound 0.3%" in words.sentence(hard)
    assert "no reply for prompts" in words.reading(hard).lower()


def test_axes_have_round_ticks() -> None:
    assert charts.nice_axis(0.0, 0.034)[2] == [0.0, 0.01, 0.02, 0.03, 0.04]
    assert charts.nice_axis(5.0, 5.0)[0] < 5.0 < charts.nice_axis(5.0, 5.0)[1]
    points = tuple(CurvePoint(step=s, value=v) for s, v in ((0, 3.4), (100, 3.2)))
    chart = charts.line_chart([charts.Line("a", points, 1)], title="Loss", describe=words.number)
    assert "Loss. a: 3.4 at step 0, 3.2 at step 100" in chart


@pytest.mark.parametrize("module", [words, charts])
def test_docstring_examples(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_the_report_needs_no_torch() -> None:
    code = (
        "import sys, constraintlang_runtime.verification, constraintlang_runtime.report.html;"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


def test_a_domain_is_not_torn_from_its_word() -> None:
    """In a narrow terminal the line breaks between phrases: kind, and where it holds."""
    every = [result(clause="kind", domain="talk"), result(clause="calm", domain="wiki")]
    wide, narrow = (terminal(verdict_table(every), width=width) for width in (120, 72))
    assert "violation in talk" in wide
    for domain in ("talk", "wiki"):
        assert re.search(rf"│ violation +│.*\n│ in {domain} +│", narrow)
