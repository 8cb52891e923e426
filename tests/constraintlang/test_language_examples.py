"""Whole policies, and how a diagnostic looks."""

from pathlib import Path

import pytest

from constraintlang import PolicyError, SourceFile, check_source, format_policy, parse
from constraintlang.diagnostics import Diagnostic, Label, render_all
from constraintlang.source import Span

POLICIES = sorted((Path(__file__).parents[1] / "golden" / "policies").glob("*.policy"))


def test_there_are_examples():
    assert len(POLICIES) >= 12


@pytest.mark.parametrize("path", POLICIES, ids=lambda p: p.stem)
def test_examples(path):
    text = path.read_text(encoding="utf-8")
    result = check_source(SourceFile(text, path.name))
    assert format_policy(parse(text)[0]).split() == text.split()
    assert parse(format_policy(result.tree))[0] == result.tree
    if path.stem.startswith("uncompiled"):
        # Refused, each statement with a span and a help; nothing is silently skipped.
        lines = {result.source.position(d.span.start)[0] for d in result.errors if d.code == "PC120"}
        assert lines == {
            n for n, line in enumerate(text.split("\n"), 1) if ": " in line and "domain toxigen {" not in line
        }
        assert all(d.help for d in result.errors)
    else:
        assert [d for d in result.diagnostics if d.severity != "note"] == []
        assert result.require().statements


def test_rendering_of_a_mixed_formula():
    source = SourceFile(
        "edition 1\ncap:  toxicity < 0.1 and mean(words) <= 120 for domain=chat", "chat.policy"
    )
    (error,) = check_source(source).errors
    assert error.render(source) == (
        "error[PC201]: this formula mixes one response with the whole distribution\n"
        "  --> chat.policy:2:7\n"
        "2 | cap:  toxicity < 0.1 and mean(words) <= 120 for domain=chat\n"
        "  |       ^^^^^^^^^^^^^^     ------------------ distribution: taken over all responses\n"
        "  |       one response at a time\n"
        "  = note: a bare comparison is pointwise: it judges one response at a time\n"
        "  = help: write one statement for each  [safe]\n"
        "  |   cap_1: toxicity < 0.1 for domain=chat\n"
        "  |   cap_2: mean(words) <= 120 for domain=chat"
    )


def test_labels_on_other_lines():
    source = SourceFile("edition 1\ncap: toxicity < 1\n\n\ncap: words < 1", "x.policy")
    (error,) = check_source(source).errors
    assert error.render(source) == (
        "error[PC109]: the label `cap` is already in use\n"
        "  --> x.policy:5:1\n"
        "2 | cap: toxicity < 1\n"
        "  | --- first used here\n"
        "  ...\n"
        "5 | cap: words < 1\n"
        "  | ^^^\n"
        "  = help: give one of the two another name  [unsafe]"
    )


def test_json_has_exactly_these_keys():
    source = SourceFile("edition 1\ntoxcity < 0.1", "a.policy")
    (error,) = check_source(source).errors
    assert error.to_json(source) == {
        "code": "PC101",
        "severity": "error",
        "message": "no attribute named `toxcity`",
        "help": "write `toxicity`",
        "file": "a.policy",
        "line": 2,
        "column": 1,
        "end_line": 2,
        "end_column": 8,
        "label": "a similar attribute exists: `toxicity` (score in [0, 1], from the prelude)",
        "labels": [],
        "notes": [],
        "fix": {
            "applicability": "unsafe",
            "edits": [{"line": 2, "column": 1, "end_line": 2, "end_column": 8, "text": "toxicity"}],
        },
    }
    assert Diagnostic("PC108", "note", Span(0, 1), "x").to_json(source)["help"] is None


def test_json_holds_what_people_are_shown():
    source = SourceFile("toxicity < 0.1 and mean(words) <= 120")
    (error,) = check_source(source).errors
    shown, plain = error.render(source), error.to_json(source)
    (second,) = plain["labels"]
    assert (second["line"], second["column"], second["end_line"], second["end_column"]) == (1, 20, 1, 38)
    for text in [plain["label"], second["text"], *plain["notes"], plain["help"], plain["message"]]:
        assert text in shown


def test_two_places_on_one_line():
    source = SourceFile("bad: toxicity < words", "a.policy")
    assert check_source(source).errors[0].render(source) == (
        "error[PC205]: the two sides have different units\n"
        "  --> a.policy:1:17\n"
        "1 | bad: toxicity < words\n"
        "  |      --------   ^^^^^ in counts\n"
        "  |      in score points\n"
        "  = help: compare quantities of one kind, or compare each with a number"
    )


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("let a = b\nlet b = c\nlet c = a\ntoxicity < a", ["let b = c", "let c = a"]),
        ("tag lang in {en, de}\ntoxicity < 1 for lang=ed", ["tag lang in {en, de}"]),
        ("attribute grade: real lower_is_better\ngrade > 1", ["attribute grade: real lower_is_better"]),
        ("mean(toxicity) > 0.1", []),  # declared in the prelude, which is no part of the file
    ],
)
def test_findings_show_the_declarations_that_they_follow_from(text, places):
    source = SourceFile(text)
    finding = next(d for d in check_source(source).diagnostics if d.code in ("PC105", "PC102", "PC405"))
    assert [source.extract(label.span) for label in finding.labels] == places


def test_colour_only_on_request():
    source = SourceFile("toxcity < 0.1")
    (error,) = check_source(source).errors
    plain, coloured = error.render(source), error.render(source, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[1;31m^^^^^^^\x1b[0m" in coloured
    import re

    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_a_policy_cannot_speak_to_the_terminal():
    source = SourceFile('toxicity < 1 because "\x1b[31m\u202e" x', "a\x1b.policy")
    shown = render_all(check_source(source).diagnostics, source)
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_long_lines_are_cut_around_the_place():
    source = SourceFile("words < " + "1 + " * 3000 + "toxcity + 1")
    error = check_source(SourceFile("words < " + "1 + " * 150 + "toxcity")).errors[0]
    shown = error.render(SourceFile("words < " + "1 + " * 150 + "toxcity")).split("\n")
    assert max(map(len, shown)) < 260
    assert shown[2][shown[3].index("^") :].startswith("toxcity")
    assert len(source.text) > 1000


def test_empty_and_end_of_file_spans():
    source = SourceFile("")
    diagnostic = Diagnostic("PC001", "error", Span(0, 0), "x", labels=(Label(Span(0, 0), "y"),))
    assert diagnostic.render(source).startswith("error[PC001]: x\n --> <policy>:1:1".replace(" -->", "  -->"))
    assert [d.span for d in check_source("").diagnostics] == [Span(0, 0)]
    assert check_source("\n# only a comment\n").policy is not None


def test_policy_error_reads_well():
    with pytest.raises(PolicyError) as caught:
        check_source(SourceFile("toxcity < 0.1\nwords <", "a.policy")).require()
    assert str(caught.value).startswith(
        "a.policy: the policy has 2 errors\n\nerror[PC101]: no attribute named"
    )
    assert {d.code for d in caught.value.diagnostics} >= {"PC101", "PC005"}


def test_the_version_is_there():
    import constraintlang

    assert constraintlang.LANGUAGE_EDITION == 1
    assert constraintlang.__version__.count(".") >= 1
    with pytest.raises(AttributeError, match="nothing"):
        _ = constraintlang.nothing
