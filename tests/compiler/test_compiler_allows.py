"""Comments that allow a finding: what they cover, what they cannot do, and the ones that do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from work_count import counted

from constraintlang.source import SourceFile
from constraintlang_compiler.allows import apply_allows
from constraintlang_compiler.analysis.sat import with_analysis
from constraintlang_compiler.fixing import fix_source, with_style
from constraintlang_compiler.front import Front, check_and_lower

UPWARD = "mean(toxicity) > 0.1"  # PC405
POINTWISE = "toxicity < 0.1"  # PC404


def check(*lines: str) -> Front:
    return check_and_lower(SourceFile("\n".join(lines)))


def found(front: Front) -> list[str]:
    return [d.code for d in front.diagnostics]


@pytest.mark.parametrize(
    "lines",
    [
        [f"{UPWARD}  # allow PC405: a bait"],
        ["# allow PC405: a bait", UPWARD],
        ["# allow PC405: a bait", "", "# more", UPWARD],
        [f"{UPWARD} and", "  mean(words) < 9 # allow PC405: a bait"],
        ["mean(words) < 9", "and", "# allow PC405: a bait", UPWARD],
        ["group g {", f"  {UPWARD} # allow PC405: a bait", "}"],
        ["# allow PC405: a bait", "group g {", "  group h {", f"    {UPWARD}", "  }", "}"],
        ["group g { # allow PC405: a bait", f"  {UPWARD}", "}"],
        ["group g {", f"  {UPWARD}", "} # allow PC405: a bait"],
        ["##  allow   PC405 ,PC404 :a bait", f"{UPWARD}"],
        ["mean(words) < 9", "mean(words) < 8", UPWARD + " # allow PC405: a bait"],
    ],
    ids=str,
)
def test_what_an_allow_covers(lines: list[str]) -> None:
    without = check(*(line.replace("allow", "*****") for line in lines))
    front = check(*lines)
    expected = [code for code in found(without) if code != "PC405"]
    if "PC404" in lines[0]:
        expected = ["PC410", *expected]
    assert "PC405" in found(without)
    assert found(front) == expected
    assert [(a.diagnostic.code, a.reason) for a in front.allowed] == [("PC405", "a bait")]
    assert front.allowed[0].diagnostic in without.diagnostics


@pytest.mark.parametrize(
    "lines",
    [
        [f"{UPWARD}", "# allow PC405: too late"],
        ["mean(words) < 9 # allow PC405: another statement", UPWARD],
        [f"{UPWARD}", "mean(words) < 9 # allow PC405: another statement"],
        [f"{UPWARD} # allow PC404: another code"],
        ["group g {", "  mean(words) < 9", "  # allow PC405: the group ends first", "}", UPWARD],
        ["# allow PC405: only the next item", "let a = 1", UPWARD],
    ],
    ids=str,
)
def test_an_allow_that_covers_nothing_is_reported_and_hides_nothing(lines: list[str]) -> None:
    front = check("edition 1", *lines)
    assert sorted(found(front)) == ["PC405", "PC410"]
    assert front.allowed == ()


@pytest.mark.parametrize(
    ("comment", "underlined"),
    [
        ("# allow PC405", "# allow PC405"),
        ("# allow PC405:", "# allow PC405:"),
        ("# allow: PC405: reason", "# allow: PC405: reason"),
        ("# Allow PC405: reason", "# Allow PC405: reason"),
        ("# allow PC4: reason", "# allow PC4: reason"),
        ("# allow PC499: reason", "PC499"),
    ],
)
def test_a_misspelt_allow_is_reported_and_hides_nothing(comment: str, underlined: str) -> None:
    text = f"{UPWARD}  {comment}"
    front = check(text)
    (warning,) = (d for d in front.diagnostics if d.code == "PC411")
    assert text[warning.span.start : warning.span.end] == underlined
    assert "PC405" in found(front)


@pytest.mark.parametrize("comment", ["# allowed: PC405", "# we allow 405 words", "# disallow PC405: x"])
def test_other_comments_are_left_alone(comment: str) -> None:
    assert found(check(f"{UPWARD}  {comment}")) == ["PC405"]


def test_errors_cannot_be_allowed() -> None:
    front = check("toxcity < 0.1  # allow PC101: I like it")
    assert found(front) == ["PC101", "PC411"]
    assert front.checked is None


def test_nothing_is_called_unused_while_there_are_errors() -> None:
    assert found(check("toxicity < words # allow PC404: reason", "toxcity < 1")) == [
        "PC104",
        "PC205",
        "PC101",
    ]


def test_many_allows_of_many_findings_take_linear_time() -> None:
    front = check(*(f"{UPWARD}  # allow PC405: {i}" for i in range(1_000)))
    with counted(at_most=200_000):
        kept, allowed = apply_allows(front.allows, [a.diagnostic for a in front.allowed])
    assert kept == ()
    assert [a.reason for a in allowed] == [str(i) for i in range(1_000)]


def test_the_first_of_two_allows_around_each_other_gives_the_reason() -> None:
    front = check("# allow PC405: all", "group g {", f"  {UPWARD} # allow PC405: this", f"  {UPWARD}", "}")
    assert [a.reason for a in front.allowed] == ["all", "all"]
    assert "PC410" not in found(front)


def test_each_code_of_a_comment_counts_alone() -> None:
    text = f"prefer {UPWARD}  # allow PC405, PC404: a bait"
    (unused,) = check(text).diagnostics
    assert (unused.code, text[unused.span.start : unused.span.end]) == ("PC410", "PC404")


def test_findings_that_were_not_asked_for_are_not_called_unused() -> None:
    front = check(f"{POINTWISE} # allow PC404: known")
    assert front.diagnostics == ()
    allows = [front.allows[0]]
    assert [d.code for d in apply_allows(allows, ())[0]] == ["PC410"]
    assert apply_allows(allows, (), judged=lambda code: code == "PC302")[0] == ()


def test_findings_of_style_are_allowed_like_others() -> None:
    text = "always (toxicity < 0.1)"
    assert found(with_style(SourceFile(text), check(text))) == ["PC901"]
    allowed = f"{text}  # allow PC901: for the eye"
    front = with_style(SourceFile(allowed), check(allowed))
    assert (found(front), [one.reason for one in front.allowed]) == ([], ["for the eye"])
    unused = "always toxicity < 0.1  # allow PC901: for the eye"
    assert found(check(unused)) == []
    assert found(with_style(SourceFile(unused), check(unused))) == ["PC410"]
    wrong = f"{unused}\nalways toxcity < 0.1"
    assert found(with_style(SourceFile(wrong), check(wrong))) == ["PC104", "PC101"]


def test_findings_of_the_analysis_are_allowed_like_others() -> None:
    text = "P(toxicity > 0.5 and toxicity < 0.2) <= 1%"
    assert found(with_analysis(check(text))) == ["PC401"]
    allowed = f"{text}  # allow PC401: a placeholder"
    front = with_analysis(check(allowed))
    assert (found(front), [one.reason for one in front.allowed]) == ([], ["a placeholder"])
    unused = "mean(toxicity) <= 0.1  # allow PC401: a placeholder"
    assert found(check(unused)) == []
    assert "PC410" in found(with_analysis(check(unused)))


def test_what_is_allowed_is_not_repaired() -> None:
    text = "always (toxicity < 0.1)  # allow PC901: for the eye"
    assert fix_source(SourceFile(text), style=True).source.text == text
    assert fix_source(SourceFile("always (toxicity < 0.1)"), style=True).source.text != text


def test_comments_reach_the_findings_of_their_own_file_only(tmp_path: Path) -> None:
    bad = "a: words < 2 and\nwords > 1\nlet cap = 0.1"
    imported = tmp_path / "other.policy"
    importing = 'edition 1\nimport "other.policy" as other  {}\nalways toxicity < other.cap'

    def codes(comment: str) -> list[str]:
        return found(check_and_lower(SourceFile(importing.format(comment), "my.policy", tmp_path)))

    imported.write_text(f"edition 1\n{bad}\n")
    assert codes("") == ["PC014"]
    assert codes("# allow PC014: known") == ["PC410", "PC014"]
    imported.write_text(f"edition 1\n# allow PC014: known\n{bad}\n")
    assert codes("") == []
