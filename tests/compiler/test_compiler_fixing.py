"""Fixes: what each writes, that safe ones keep the meaning and every comment, and that a wrong one is caught."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_strategies import DECLARATIONS, dist_formulas, seq_formulas

from constraintlang import SourceFile, check_source, parse
from constraintlang.catalogue import PAGES
from constraintlang.fixes import Edit, Fix, apply_edits, compatible, inserting, removing, replacing
from constraintlang.printer import format_formula
from constraintlang.source import Span
from constraintlang.style import check_style
from constraintlang.syntax_errors import MISTAKES
from constraintlang_compiler import fixing
from constraintlang_compiler.fixing import UnsoundFix, fix_source
from constraintlang_compiler.pipeline import compile_source


def fixed(text: str, **options: bool) -> str:
    return fix_source(SourceFile(text), **options).source.text  # type: ignore[arg-type]


def semantic_hash(text: str) -> str:
    return compile_source(SourceFile(text)).semantic_hash


# ------------------------------------------------------------------ edits
def test_edits_are_made_in_any_order() -> None:
    edits = [Edit(Span(4, 5), "X"), Edit(Span(0, 1), ""), Edit(Span(5, 5), "Y"), Edit(Span(6, 6), "Z")]
    assert apply_edits("abcdef", edits) == "bcdXYfZ"
    with pytest.raises(ValueError, match="overlap"):
        apply_edits("abc", [Edit(Span(0, 2), ""), Edit(Span(1, 3), "")])


def test_what_touches_waits_and_what_is_protected_stays() -> None:
    first, second = replacing(Span(0, 3), "x"), replacing(Span(2, 4), "y")
    assert compatible([first, second, removing(Span(4, 5))]) == [0, 2]
    assert compatible([inserting(1, "a"), inserting(1, "b")]) == [0]
    assert compatible([first, second], [Span(0, 1)]) == [1]
    both = Fix((Edit(Span(8, 9), ""), Edit(Span(0, 1), "")))
    assert compatible([first, both]) == [0]


# ------------------------------------------------------------------ each fix
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("toxicity =< 0.1", "toxicity <= 0.1"),
        ("words === 1", "words == 1"),
        ("toxicity < = 0.1", "toxicity <= 0.1"),
        ("toxicity < 0.1 for domain == chat", "toxicity < 0.1 for domain = chat"),
        ("cap: 2 * words = 1", "cap: 2 * words == 1"),
        ("toxicity < 0.1&&words < 2", "toxicity < 0.1 and words < 2"),
        ("(words < 3)∧!(words < 2)", "(words < 3) and not (words < 2)"),
        ("toxicity ≤ 0.1", "toxicity <= 0.1"),
        ("toxicity < .1", "toxicity < 0.1"),
        ("P(words > 2) < 5 %", "P(words > 2) < 5%"),
        ("toxicity < 0.1;", "toxicity < 0.1"),
        ("toxicity < 0.1 for split=test", 'toxicity < 0.1 for split="test"'),
        ("toxicity < 0.1 AND words < 2", "toxicity < 0.1 and words < 2"),
        ("toxicity < 0.1 for lang={en, de}", "toxicity < 0.1 for lang in {en, de}"),
        ("toxicity < 0.1 for lang in en", "toxicity < 0.1 for lang in {en}"),
        ("let en = 3\ntoxicity < 0.1 for lang in en", None),
        ("toxicity < 0.1 for lang in x.en", None),
        ("group g { words < 3 } group h { words < 4 }",
         "edition 1\ngroup g { words < 3 } \ngroup h { words < 4 }"),
        ('words < 2 because "C:\\policy"', 'words < 2 because "C:\\\\policy"'),
        ("words < 2\ntoxicity < 1", "edition 1\nwords < 2\ntoxicity < 1"),
        ("# top\nwords < 2\nedition 1 # e", "edition 1\n# top\nwords < 2\n # e"),
        ("words < 2\nedition 1\n", "edition 1\nwords < 2\n"),
        ("edition 1\nedition 1\nwords < 2", "edition 1\nwords < 2"),
        ("words < 2 and\nwords < 3", "words < 2\nand words < 3"),
        ("toxicity < 0.1 and mean(words) <= 9", "edition 1\ntoxicity < 0.1\nmean(words) <= 9"),
        ("edition 1\nc_1: words < 1\n  c: (always (words < 3) and mean(words) < 9 and words < 4)", None),
        (
            "edition 1\nc_1: words < 1\ngroup g {\n  c: always (words < 3) and mean(words) < 9 and words < 4"
            " for lang=en under tolerance=1%, samples=2 # x\n}",
            "edition 1\nc_1: words < 1\ngroup g {\n  c_2: always words < 3 and words < 4 for lang=en"
            " under tolerance=1%, samples=2\n  c_3: mean(words) < 9 for lang=en under samples=2 # x\n}",
        ),
    ],
)  # fmt: skip
def test_safe_fixes(before: str, after: str | None) -> None:
    assert fixed(before) == (before if after is None else after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("words => 3", "words >= 3"),
        ("cap = 0.1", "cap == 0.1"),
        ("toxcity < 0.1", "toxicity < 0.1"),
        ("toxcity@base < 0.1", "toxicity@base < 0.1"),
        ("tag lang in {en, de}\nwords < 1 for lnag=ed", "tag lang in {en, de}\nwords < 1 for lang=de"),
        ("meen(words) < 3", "mean(words) < 3"),
        ("attribute a: scor\na < 1", "attribute a: score\na < 1"),
        ("words < 2 wieght 2", "words < 2 weight 2"),
        ('words < 2 because "x', 'words < 2 because "x"'),
        ("words < 2)", "words < 2"),
        ("(words < 2]", "(words < 2)"),
        ("words < 2 under temprature=1", "words < 2 under temperature=1"),
        ("tag lang in {en de}", "tag lang in {en, de}"),
        ("edition 1\nc: words < 2\nc: words < 3", "edition 1\nc: words < 2\nc_2: words < 3"),
        ("words < 2 for a=b for c=d", "words < 2 for a=b and c=d"),
        ("mean(words < 3) < 0.1", "P(words < 3) < 0.1"),
        ("c: always  mean(words) < 3", "c: mean(words) < 3"),
        ("mean(toxicity) > 0.1", "mean(toxicity) < 0.1"),
        ("(toxicity) # <\n>= (0.1)", None),
        ("((toxicity) # <\n>= (0.1))", "((toxicity) # <\n<= (0.1))"),
        ('attribute a: score { backend = language("english") }\na < 1',
         'attribute a: score { backend = language("en") }\na < 1'),
        ("toxicity < 0.1 confidence 0.05", "toxicity < 0.1 confidence 95%"),
        ("preserve perplexity >= base", "preserve perplexity <= base"),
        ("preserve accuracy <= base + 5%", "preserve accuracy >= base - 5%"),
        ("preserve mean(perplexity) >= 0.98 * base", "preserve mean(perplexity) <= 1.02 * base"),
        ("preserve accuracy <= 3 * base", "preserve accuracy >= base"),
        ("over turns (words < 2) and words < 9", "over turns (globally words < 2) and words < 9"),
        ("over turns (words < 2 or words > 3)", "over turns (globally (words < 2 or words > 3))"),
        ("P(over turns (words < 2)) < 1%", None),  # `eventually` may be meant
        ('words < 2 because "a\u202eb"', 'words < 2 because "ab"'),
        ("edition 1\nc: prefer words < 3 and mean(words) < 9 weight 2",
         "edition 1\nc_1: prefer words < 3 weight 2\nc_2: prefer mean(words) < 9 weight 2"),
    ],
)  # fmt: skip
def test_unsafe_fixes(before: str, after: str | None) -> None:
    # PC405 is repaired only where there is no error in the way; a name that is unknown on the way stays.
    assert fixed(before) == before
    assert fixed(before, unsafe=True) == (before if after is None else after)


@pytest.mark.parametrize(
    "text",
    [
        "toxicity == 0.1",  # placeholders are never made
        "not toxicity",
        "words < 2 for a=b or c=d for e=f",  # `and` would bind tighter than the `or`
        "toxicity =< 0.1 and",
        "a ** 2 < 1",
    ],
)
def test_left_to_the_author(text: str) -> None:
    assert fixed(text, unsafe=True).replace("<=", "=<") == text


def test_placeholders_say_what_to_fill_in() -> None:
    (error,) = check_source("toxicity == 0.1").errors
    assert error.fix == replacing(Span(0, 15), "toxicity in [low, high]", "placeholder")
    assert "in [0.4, 0.6]`  [placeholder]" in error.render(SourceFile("toxicity == 0.1"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("(toxicity) < ((0.1))", "toxicity < 0.1"),
        ("require not(words < 2)and((words < +3))", "require not words < 2 and words < +3"),
        ("((words < 2 or words > 5) and words < 9)", "(words < 2 or words > 5) and words < 9"),
        ("P((words < 2)) < (1%) for (a=b) and (c=d or e=f)", "P(words < 2) < 1% for a=b and (c=d or e=f)"),
        ("(words < 2\nand words < 3)", "(words < 2\nand words < 3)"),  # the line break needs them
        ("words - (words - 1) < 2", "words - (words - 1) < 2"),
    ],
)
def test_style(before: str, after: str) -> None:
    assert fixed(before) == before
    assert fixed(before, style=True) == after


def test_only_what_is_selected() -> None:
    text = "toxicity =< 0.1\nwords < 2;"
    assert fix_source(SourceFile(text), select=["PC004"]).source.text == "toxicity <= 0.1\nwords < 2;"
    assert fix_source(SourceFile(text), select=["PC0"]).source.text == "toxicity <= 0.1\nwords < 2"


def test_what_was_made_and_what_is_left() -> None:
    found = fix_source(SourceFile("edition 1\ntoxicity =< 0.1\nwords < 2\nmean(toxicity) == 1"))
    assert [(m.finding.code, m.line, m.column) for m in found.made] == [("PC004", 2, 10)]
    assert [d.code for d in found.diagnostics if d.severity == "error"] == ["PC202"]


def test_lines_end_as_in_the_file() -> None:
    assert fixed("words < 2\r\nwords < 3 and mean(words) < 9\r\n") == (
        "edition 1\r\nwords < 2\r\nwords < 3\r\nmean(words) < 9\r\n"
    )


def test_a_comment_is_never_lost() -> None:
    text = "edition 1\nc: words < 3 # why\n  and mean(words) < 9"
    assert fixed(text, unsafe=True, style=True) == text
    assert [d.code for d in check_source(text).errors] == ["PC201"]


def test_a_label_that_a_test_names_is_not_split_unasked() -> None:
    text = 'edition 1\nc: words < 3 and mean(words) < 9\ntest "t" {\n  given words = 2\n  pass on c\n}\n'
    assert fixed(text) == text


# ------------------------------------------------------------------ every finding that offers a fix
CORPUS = [text for mistake in MISTAKES for text in mistake.examples] + [p.failing for p in PAGES.values()]


@pytest.mark.parametrize("text", CORPUS)
def test_a_fix_removes_its_finding(text: str) -> None:
    def findings(text: str) -> list:  # type: ignore[type-arg]
        result = check_source(text)
        return [*result.diagnostics, *check_style(result.source, result.tree)]

    for finding in findings(text):
        if finding.fix is None or finding.fix.applicability == "placeholder":
            continue
        assert finding.help
        after = apply_edits(text, finding.fix.edits)
        left = Counter((d.code, d.message) for d in findings(after))
        before = Counter((d.code, d.message) for d in findings(text))
        key = (finding.code, finding.message)
        assert left[key] < before[key] or (finding.code in ("PC004", "PC006") and left[key] < text.count("<"))


def test_the_corpus_has_all_kinds_of_fixes() -> None:
    kinds = Counter(d.fix.applicability for text in CORPUS for d in check_source(text).diagnostics if d.fix)
    assert min(kinds["safe"], kinds["unsafe"]) > 15
    assert kinds["placeholder"] >= 2


# ------------------------------------------------------------------ property 40
GOOD = (
    "edition 1\ncap: toxicity <= 0.1 and words != 3 for domain=chat and lang in {en}\n"
    'rate: P(words >= 5 or words < 2) <= 5% for split="test"\ngroup g for a=b {\n  x: words == 3\n}\n'
)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("<= 0.1", "=< 0.1"), ("!=", "<>"), ("!=", "!=="), (" and words", " && words"), ("domain=", "domain=="),
        ("lang in {en}", "lang in en"), ("lang in {en}", "lang = {en}"), (" or ", " || "), ("5%", "5 %"),
        ('"test"', "test"), ("0.1", ".1"), ("x: words == 3", "x: 1 * words = 3"), ("== 3", "=== 3"),
        ("edition 1\n", ""), ("words != 3 for", "words != 3; for"), ("words == 3\n}", "words == 3;\n}"),
        (" for a=b", " FOR a=b"), ("<= 5%", "≤ 5%"), ("edition 1\n", "edition 1\nedition 1\n"),
    ],
)  # fmt: skip
def test_a_planted_mistake_is_undone(right: str, wrong: str) -> None:
    assert right in GOOD
    text = GOOD.replace(right, wrong, 1)
    if wrong == "words != 3; for":
        assert fixed(text) == text  # in the middle of a line nobody knows what it should have been
    else:
        assert semantic_hash(fixed(text)) == semantic_hash(GOOD.replace("x: words", "x: 1 * words"))


def written(formula: object, rng: object) -> str:
    """A formula with needless brackets here and there."""
    text = format_formula(formula)  # type: ignore[arg-type]
    return f"({text})" if rng.random() < 0.5 else text  # type: ignore[attr-defined]


@settings(max_examples=25, deadline=None)
@given(st.lists(seq_formulas | dist_formulas, min_size=1, max_size=3), st.randoms(), st.booleans())
def test_safe_fixes_keep_the_semantic_hash(formulas: list, rng: object, with_edition: bool) -> None:  # type: ignore[type-arg]
    head = DECLARATIONS if with_edition else DECLARATIONS.removeprefix("edition 1\n")
    text = head + "".join(
        f"s{i}: {written(f, rng)} and\n  {written(formulas[0], rng)}  # {i}\n"
        if i == 0
        else f"s{i}: {written(f, rng)}\n"
        for i, f in enumerate(formulas)
    )
    found = fix_source(SourceFile(text), style=True)
    if found.made:
        assert found.source.text != text
        assert {m.finding.fix.applicability for m in found.made if m.finding.fix} == {"safe"}
    result = check_source(text)
    if not result.errors:
        assert semantic_hash(found.source.text) == semantic_hash(text)
        assert [c.text for c in parse(found.source)[0].comments] == [c.text for c in result.tree.comments]


def test_a_fix_that_lies_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "words < 3 and (words < 4)"
    lies = (replacing(Span(8, 9), "2", "safe"), inserting(len(text), " # new", "safe"))

    def lying(fix: Fix) -> object:
        return lambda source, tree: [replace(d, fix=fix) for d in check_style(source, tree)]

    for lie in lies:
        monkeypatch.setattr(fixing, "check_style", lying(lie))
        with pytest.raises(UnsoundFix):
            fix_source(SourceFile(text), style=True)
    monkeypatch.setattr(fixing, "check_style", lying(removing(Span(9, 9), "safe")))
    assert fix_source(SourceFile(text), style=True).source.text == text  # does nothing, without end
