"""The formatter keeps what a file means and every comment, and says so only after it has looked."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_strategies import policies
from work_count import counted

from constraintlang import PolicyError, SourceFile, check_source, format_policy, formatting, parse, printer
from constraintlang.formatting import UnsoundFormat, format_lines, format_source
from constraintlang.parser import tokens_of
from constraintlang.wrapping import wrap
from constraintlang_compiler.front import check_and_lower

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "policies").glob("*.policy"))


def comments(text):
    return [c.text for c in parse(text)[0].comments if c.text]


def with_a_comment_behind_every_token(text, only=None):
    """A comment with a number of its own behind each token, wherever the tree stays the same with it."""
    tree = parse(text)[0]
    marks, out, position = [], [], 0
    tokens = [t for t in tokens_of(text) if t.type not in ("_NL", "COMMENT")]
    chosen = set(range(len(tokens)) if only is None else only.sample(range(len(tokens)), min(5, len(tokens))))
    for number, token in enumerate(tokens):
        if number not in chosen:
            continue
        mark = f"# mark {number}"
        out.append(text[position : token.end_pos])
        position = token.end_pos
        candidate = "".join(out) + f" {mark}\n" + text[position:]
        back, found = parse(candidate)
        if not any(d.is_error for d in found) and back == tree:
            out.append(f" {mark}\n")
            marks.append(mark)
    return "".join(out) + text[position:], marks


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_a_comment_behind_every_token_survives_in_order(path):
    plain = "\n".join(line for line in path.read_text(encoding="utf-8").split("\n") if "#" not in line)
    text, marks = with_a_comment_behind_every_token(plain)
    assert len(marks) >= 2
    formatted = format_source(SourceFile(text))
    assert comments(formatted) == marks
    assert parse(formatted)[0] == parse(plain)[0]


@settings(max_examples=12, deadline=None)
@given(policies, st.randoms())
def test_comments_behind_some_tokens_of_any_policy(policy, rng):
    text, marks = with_a_comment_behind_every_token(format_policy(policy), only=rng)
    assert comments(format_source(SourceFile(text))) == marks


def test_some_comments_stand_inside_statements():
    text, marks = with_a_comment_behind_every_token("cap: (toxicity < 0.1 and\nwords < 2) for domain=x\n")
    assert len(marks) >= 9
    assert comments(format_source(SourceFile(text))) == marks


@settings(max_examples=40, deadline=None)
@given(policies, st.integers(4, 60))
def test_broken_lines_mean_the_same(policy, width):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(printer, "MAX_WIDTH", width)
        text = format_policy(policy)
        back, found = parse(text)
        assert not found, text
        assert back == policy, text
        assert format_policy(back) == text


def test_long_statements_are_broken():
    line = (
        "polite: (toxicity < 0.1 and not slur) or refusal for domain=chat and lang in {en, de, fr} "
        "under temperature=1, top_p=0.95 confidence 0.99"
    )
    assert format_source(SourceFile(line)) == (
        "polite: toxicity < 0.1 and not slur or refusal\n"
        "    for domain=chat and lang in {en, de, fr} under temperature=1, top_p=0.95 confidence 0.99\n"
    )
    many = "tag lang in {" + ", ".join(f"language_{i}" for i in range(40)) + "}"
    lines = format_source(SourceFile(many)).split("\n")
    assert max(map(len, lines)) <= printer.MAX_WIDTH
    assert lines[0] == "tag lang in {"
    assert wrap("a < 1", 3) == ["a < 1"]  # nowhere to break


def test_texts_stay_and_show_what_they_hold():
    text = 'toxicity < 0.1 because "a \\" \\\\ \\n \u202e é"\n'
    formatted = format_source(SourceFile(text))
    assert formatted == 'toxicity < 0.1 because "a \\" \\\\ \\n \\u202e é"\n'
    assert parse(formatted)[0] == parse(text)[0]


def test_line_ends_are_those_of_the_file():
    assert format_source(SourceFile("a<1\r\n# c\r\nb<2\r\n")) == "a < 1\r\n# c\r\nb < 2\r\n"
    assert format_source(SourceFile("a<1\n# c\r\nb<2\r\n")) == "a < 1\n# c\nb < 2\n"


def test_empty_files():
    assert format_source(SourceFile("")) == ""
    assert format_source(SourceFile("\n\n")) == ""
    assert format_source(SourceFile("# only\n")) == "# only\n"


def test_syntax_errors_are_refused_other_errors_are_not():
    with pytest.raises(PolicyError):
        format_source(SourceFile("a <"))
    assert format_source(SourceFile("toxcity<1")) == "toxcity < 1\n"


def test_what_would_exceed_a_limit_is_refused():
    inner = "x" * 99_998
    with pytest.raises(PolicyError, match="would exceed a limit"):
        format_source(SourceFile(f'a < 1 because\n"{inner}"'))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda text: text.replace("<", ">"), "another policy"),
        (lambda text: text.replace("# c", ""), "other comments"),
        (lambda text: text.replace("<", "<<"), "does not parse"),
    ],
)
def test_a_broken_printer_is_caught(monkeypatch, break_it, message):
    monkeypatch.setattr(formatting, "format_policy", lambda policy: break_it(format_policy(policy)))
    with pytest.raises(UnsoundFormat, match=message):
        format_source(SourceFile("a < 1  # c\n"))


def test_a_printer_that_changes_its_mind_is_caught(monkeypatch):
    widths = iter([1, 2])
    monkeypatch.setattr(
        formatting, "format_policy", lambda policy: format_policy(policy).replace(" ", " " * next(widths))
    )
    with pytest.raises(UnsoundFormat, match="twice"):
        format_source(SourceFile("a < 1\n"))


def test_the_work_is_linear_in_the_statements():
    def calls(count):
        rng = random.Random(0)
        text = "\n".join(f"s{i}: (toxicity < 0.{rng.randint(1, 9)})  # {i}" for i in range(count))
        with counted() as work:
            assert format_source(SourceFile(text)).count("#") == count
        return work.calls

    calls(1)  # what is read once
    assert calls(800) < 2.1 * calls(400)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (1, 1, "a < 1  # x\n# c\n\nb<2\ngroup g {\n d<3\n}\ne<4"),
        (2, 4, "a<1 # x\n# c\n\nb < 2\ngroup g {\n d<3\n}\ne<4"),
        (4, 4, "a<1 # x\n# c\n\nb < 2\ngroup g {\n d<3\n}\ne<4"),
        (6, 6, "a<1 # x\n# c\n\nb<2\ngroup g {\n  d < 3\n}\ne<4"),
        (4, 6, "a<1 # x\n# c\n\nb < 2\ngroup g {\n  d < 3\n}\ne<4"),
        (8, 99, "a<1 # x\n# c\n\nb<2\ngroup g {\n d<3\n}\ne < 4"),
        (2, 3, "a<1 # x\n# c\n\nb<2\ngroup g {\n d<3\n}\ne<4"),
        (1, 8, "a < 1  # x\n# c\n\nb < 2\ngroup g {\n  d < 3\n}\ne < 4"),
    ],
)
def test_some_lines_only(first, last, expected):
    text = "a<1 # x\n# c\n\nb<2\ngroup g {\n d<3\n}\ne<4"
    assert format_lines(SourceFile(text), first, last) == expected
    windows = format_lines(SourceFile(text.replace("\n", "\r\n")), first, last)
    assert windows == expected.replace("\n", "\r\n")


@settings(max_examples=20, deadline=None)
@given(policies, st.integers(1, 8), st.integers(0, 4))
def test_any_lines_of_any_policy(policy, first, more):
    text = format_policy(policy).replace(" < ", "<").replace(", ", ",  ")
    if any(d.is_error for d in parse(text)[1]):
        return
    assert parse(format_lines(SourceFile(text), first, first + more))[0] == parse(text)[0]


def test_a_comment_behind_the_brace_of_a_block_stays_there():
    text = (
        "edition 1\n\ngroup g for lang=en {  # allow PC404: why\n  # b\n  a < 1\n\n  group h {  # c\n  }\n}\n"
        'test "t" {  # d\n}\n'
    )
    assert format_policy(parse(text)[0]) == text
    assert format_source(SourceFile(text)) == text


def test_what_an_allow_covers_is_the_same_once_it_is_formatted():
    text = "edition 1\ngroup g { # allow PC404: why\n words < 9\n sentences < 9\n}\n"
    formatted = format_source(SourceFile(text))
    for one in (text, formatted):
        assert [d.code for d in check_and_lower(SourceFile(one)).diagnostics] == []


def test_what_cannot_be_seen_is_written_as_an_escape():
    text = 'words < 9 because "a\\u034f\\ufe0f \u2764\ufe0f"\n'
    assert format_policy(parse(text)[0]) == text
    assert [d.code for d in check_source(text).diagnostics if d.code == "PC106"] == []
