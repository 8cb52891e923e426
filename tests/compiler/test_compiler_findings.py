"""What `check --sat` finds: contradictions with a smallest set, redundancy, vacuity, evidence; and its pages."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from analysis_strategies import DECLARATIONS, policies_of
from hypothesis import HealthCheck, given, settings
from work_count import counted

from constraintlang import SourceFile
from constraintlang.checked import CheckedPolicy
from constraintlang.diagnostics import Diagnostic
from constraintlang_compiler.analysis.findings import find_all
from constraintlang_compiler.analysis.limits import Budget
from constraintlang_compiler.analysis.pages import ANALYSIS_PAGES
from constraintlang_compiler.analysis.sat import analyse
from constraintlang_compiler.bounds import clopper_pearson_upper
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.lock.drift import drift, unpinned
from constraintlang_compiler.lock.lock_file import lock_of
from constraintlang_compiler.lock.pins import Place, parts_of

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "policies").glob("[0-9]*.policy"))


def found(text: str, *, num_prompts: int | None = None) -> list[Diagnostic]:
    front = check_and_lower(SourceFile(DECLARATIONS + text, "x.policy"))
    assert front.checked is not None, front.diagnostics
    return list(analyse(front, num_prompts=num_prompts))


def codes(text: str, *, num_prompts: int | None = None) -> set[str]:
    return {d.code for d in found(text, num_prompts=num_prompts)}


def one(text: str, code: str) -> Diagnostic:
    (diagnostic,) = [d for d in found(text) if d.code == code]
    return diagnostic


def underlined(text: str, diagnostic: Diagnostic) -> list[str]:
    source = DECLARATIONS + text
    return [source[s.start : s.end] for s in (diagnostic.span, *(label.span for label in diagnostic.labels))]


# ------------------------------------------------------------ contradictions
def test_a_contradiction_names_all_its_places_and_what_is_left() -> None:
    text = "avg: mean(toxicity) < 0.1\nwords < 9\nprobe: P(toxicity >= 0.5) >= 30%"
    diagnostic = one(text, "PC302")
    assert diagnostic.severity == "warning"
    assert diagnostic.message == "these two requirements cannot both hold"
    assert underlined(text, diagnostic) == ["probe: P(toxicity >= 0.5) >= 30%", "avg: mean(toxicity) < 0.1"]
    assert diagnostic.labels[0].text == "allows at most 20% for `P(toxicity >= 0.5)`"


def test_the_set_is_a_smallest_one() -> None:
    text = (
        "noise: words < 100\nguard: always slur implies refusal\nmany: P(slur) >= 30%\n"
        "also: toxicity < 0.1 or slur\nfew: P(refusal) <= 29%"
    )
    diagnostic = one(text, "PC302")
    assert diagnostic.message == "these 3 requirements cannot all hold"
    assert {part.split(":")[0] for part in underlined(text, diagnostic)} == {"guard", "many", "few"}
    assert diagnostic.notes == ("together they allow at least 30% for `P(refusal)`",)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policies_of(4))
def test_every_reported_set_is_smallest(policy: CheckedPolicy) -> None:
    """Property: leaving out any one statement of a reported contradiction leaves none among the others."""
    by_span = {s.span: s for s in policy.statements}
    for diagnostic in find_all(policy, Budget(20.0)):
        if diagnostic.code != "PC302":
            continue
        members = [by_span[d] for d in (diagnostic.span, *(label.span for label in diagnostic.labels))]
        alone = CheckedPolicy(policy.edition, policy.attributes, tuple(members))
        assert "PC302" in {d.code for d in find_all(alone, Budget(20.0))}
        for left_out in members:
            rest = tuple(s for s in members if s is not left_out)
            smaller = CheckedPolicy(policy.edition, policy.attributes, rest)
            assert not any(d.code in ("PC301", "PC302") for d in find_all(smaller, Budget(20.0)))


@pytest.mark.parametrize(
    ("text", "loser", "message"),
    [
        ("a: prefer mean(toxicity) > 0.5\nb: toxicity < 0.1", "a", "this preference can never be met"),
        ("a: toxicity < 0.1 priority 1\nb: mean(toxicity) > 0.5", "a", "two requirements cannot both hold"),
        ("a: toxicity < 0.1\nb: mean(toxicity) > 0.5", "b", "two requirements cannot both hold"),
        ("a: prefer toxicity < 0.1\nb: prefer mean(toxicity) > 0.5", "b", "two preferences cannot both"),
    ],
)
def test_who_gives_way(text: str, loser: str, message: str) -> None:
    diagnostic = one(text, "PC302")
    assert underlined(text, diagnostic)[0].startswith(f"{loser}:")
    assert message in diagnostic.message
    if "priority" in text:
        assert diagnostic.notes[-1].startswith("`a` gives way: its priority is 1")


def test_two_contradictions_are_both_reported() -> None:
    text = "a: mean(toxicity) < 0.1\nb: mean(toxicity) > 0.2\nc: mean(empathy) < 0.1\nd: mean(empathy) > 0.2"
    assert [d.code for d in found(text) if d.code == "PC302"] == ["PC302", "PC302"]
    text = "a: mean(toxicity) < 0.1\nb: mean(toxicity) > 0.2\nc: mean(toxicity) > 0.3"
    assert [underlined(text, d)[0][0] for d in found(text) if d.code == "PC302"] == ["b", "c"]


@pytest.mark.parametrize(
    "text",
    [
        "toxicity < 0.1 for domain=chat\nmean(toxicity) > 0.5 for domain=news",
        "mean(toxicity) < 0.1 under temperature=0\nmean(toxicity) > 0.5 under temperature=1",
        "mean(toxicity) < 0.1 for domain=chat\nmean(toxicity) > 0.5 for domain=chat and lang=en",
        "preserve mean(perplexity) <= 20 for domain=a\npreserve mean(perplexity) >= 30 for domain=b",
    ],
)
def test_no_contradiction(text: str) -> None:
    assert not codes(text) & {"PC301", "PC302"}


# ------------------------------------------------------------ redundancy and vacuity
@pytest.mark.parametrize(
    ("text", "redundant", "support"),
    [
        ("a: always toxicity < 0.3\nb: mean(toxicity) < 0.5", "b", {"a"}),
        ("a: mean(toxicity) < 0.5\nb: always toxicity < 0.3", "a", {"b"}),
        ("a: toxicity < 0.1\nb: toxicity < 0.1 confidence 0.9", "b", {"a"}),
        ("a: toxicity < 0.1\nb: not toxicity >= 0.1", "b", {"a"}),
        (
            "a: always slur implies refusal\nb: always refusal implies ssn\nc: always slur implies ssn",
            "c",
            {"a", "b"},
        ),
        ("a: always toxicity < 0.3\nb: always toxicity < 0.3 for lang=en", "b", {"a"}),
        ("a: preserve perplexity <= 1.01 * base\nb: preserve perplexity <= 1.02 * base", "b", {"a"}),
    ],
)
def test_redundancy(text: str, redundant: str, support: set[str]) -> None:
    diagnostic = one(text, "PC402")
    first, *others = underlined(text, diagnostic)
    assert first.startswith(f"{redundant}:")
    assert {part[0] for part in others} == support


@pytest.mark.parametrize(
    "text",
    [
        "a: prefer always toxicity < 0.3\nb: mean(toxicity) < 0.5",  # a preference carries no requirement
        "a: always toxicity < 0.3 confidence 0.9\nb: mean(toxicity) < 0.5",  # shown with less confidence
        "a: always toxicity < 0.3 priority 1\nb: mean(toxicity) < 0.5",  # traded away first
        "a: mean(toxicity) < 0.3\nb: mean(toxicity) < 0.5 for lang=en",  # the mean of a part may be larger
        "a: always toxicity < 0.3 under temperature=0\nb: mean(toxicity) < 0.5",
    ],
)
def test_no_redundancy(text: str) -> None:
    assert "PC402" not in codes(text)


def test_vacuity() -> None:
    assert codes("mean(toxicity) <= 1") == {"PC401"}
    assert codes("P(words >= 0) >= 100%") == {"PC401"}
    assert codes("P(toxicity > 1) > 3%") == {"PC301"}
    assert one("P(toxicity > 1) > 3%", "PC301").notes == (
        "on the declared ranges `P(toxicity > 1)` lies in [0, 0]",
    )
    assert codes("words < 9 for lang=en and lang=de") == {"PC403"}
    assert codes("toxicity > 1.5 implies words < 3") == {"PC403"}
    assert codes("toxicity > 0.5 and toxicity < 0.4 implies words < 3") == {"PC403"}
    text = "toxicity >= 1 implies words < 3"
    assert codes(text) == {"PC303"}


def test_values_that_the_domain_leaves_out_make_no_stratum() -> None:
    tag = "tag lang in {en, fr, de}\n"
    assert codes(tag + "mean(toxicity) < 0.1 for lang in {en, fr} per lang") == {"PC303"}
    assert "PC402" in codes(
        tag + "mean(toxicity) < 0.1 for lang=en per lang\nmean(toxicity) < 0.2 for lang=en"
    )


def test_what_can_hold_comes_with_a_law() -> None:
    diagnostic = one("mean(toxicity) < 0.1\nP(toxicity >= 0.5) >= 19%", "PC303")
    assert diagnostic.severity == "note"
    assert diagnostic.message == "these 2 statements can hold together"
    rows = diagnostic.notes[0].split("\n")[2:]
    assert len(rows) >= 2
    assert "weight" in diagnostic.notes[0]


def test_what_is_not_understood_is_said() -> None:
    assert codes("P(words / sentences > 30) > 50%\nP(words / sentences > 20) > 50%") == {"PC304"}


# ------------------------------------------------------------ evidence
def test_too_few_prompts() -> None:
    text = "P(toxicity >= 0.5) < 0.1%"
    (diagnostic,) = [d for d in found(text, num_prompts=500) if d.code == "PC501"]
    assert diagnostic.message == "500 prompts cannot decide this threshold at 95% confidence"
    shown = 100 * clopper_pearson_upper(0, 500, 0.05)
    assert diagnostic.label == f"no failure in 500 only shows a share below {shown:.3g}%"
    assert diagnostic.help == "verify at least 2,995 prompts, or weaken the bound"
    assert "PC501" not in codes(text, num_prompts=2995)
    assert "PC501" in codes(text, num_prompts=2994)
    assert "PC501" not in codes(text)
    # two statements share the confidence
    assert "PC501" in codes(text + "\nwords < 9", num_prompts=2995)
    assert "PC501" in codes("mean(toxicity) < 0.01", num_prompts=50)
    assert "PC501" not in codes("always toxicity < 0.5", num_prompts=50)


def test_open_ranges_and_plugins() -> None:
    assert "PC502" in codes("mean(words) < 9")
    assert "PC502" not in codes("P(words > 9) < 9%\nmean(toxicity) < 0.5")
    assert "PC602" in codes("mean(empathy) > 0.5")
    assert "PC602" not in codes("prefer mean(empathy) > 0.5\npreserve P(empathy > 0.5) > 50%")


# ------------------------------------------------------------ bounds on time, golden policies, pages
def test_a_large_policy_is_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = count()
    clock = SimpleNamespace(monotonic=lambda: next(readings) / 100)
    monkeypatch.setattr("constraintlang_compiler.analysis.limits.time", clock)
    text = "\n".join(f"s{i}: toxicity < 0.{i + 1000} and words < {i + 1}" for i in range(800))
    front = check_and_lower(SourceFile("edition 1\n" + text))
    with counted(at_most=11_000_000):  # 3.7 million
        diagnostics = analyse(front, seconds=1.0)
    assert "PC304" in {d.code for d in diagnostics}


def test_no_trigger_is_looked_at_once_the_time_is_up() -> None:
    front = check_and_lower(SourceFile("edition 1\ntoxicity > 1.5 implies words < 3\nwords < 9"))
    assert front.checked is not None
    assert "PC403" in {d.code for d in find_all(front.checked, Budget())}
    late = {d.code for d in find_all(front.checked, Budget(0.0))}
    assert "PC403" not in late
    assert "PC304" in late


NOT_ANALYSED = ("07_temporal", "08_strata")
"""They speak of order; of a ratio of two conditional chances and strata without declared values."""


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_golden_policies_contradict_nothing(path: Path) -> None:
    front = check_and_lower(SourceFile(path.read_text(encoding="utf-8"), path.name))
    codes_found = {d.code for d in analyse(front)}
    assert not codes_found & {"PC301", "PC302", "PC401", "PC403"}
    assert ("PC304" in codes_found) == (path.stem in NOT_ANALYSED)


def sat_codes(text: str) -> set[str]:
    front = check_and_lower(SourceFile(text))
    assert front.checked is not None, front.diagnostics
    return {d.code for d in analyse(front, num_prompts=500)}


@pytest.mark.parametrize("code", ANALYSIS_PAGES)
def test_the_pages_tell_the_truth(code: str, tmp_path: Path) -> None:
    page = ANALYSIS_PAGES[code]
    if code in ("PC601", "PC604"):
        place = Place(tmp_path, {})
        failing, repaired = (parts_of(SourceFile(text), place) for text in (page.failing, page.repaired))
        lock = lock_of(repaired)
        assert {d.code for d in (unpinned(failing, "warning") or drift(failing, lock))} == {code}
        assert drift(repaired, lock) == []
    else:
        assert code in sat_codes(page.failing)
        assert code not in sat_codes(page.repaired)


def test_every_code_of_the_analysis_has_a_page() -> None:
    root = Path(__file__).parents[2] / "compiler" / "constraintlang_compiler"
    used = set()
    for path in [*(root / "analysis").glob("*.py"), *(root / "lock").glob("*.py")]:
        if path.name != "pages.py":
            used |= set(re.findall(r'"(PC\d{3})"', path.read_text(encoding="utf-8")))
    assert used == set(ANALYSIS_PAGES)
