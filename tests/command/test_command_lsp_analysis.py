"""What the language server knows of a file, asked without the server."""

from __future__ import annotations

import contextlib
import re
from itertools import pairwise
from pathlib import Path

import pytest
from editor_texts import BASE, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st

from constraintc.lsp import words
from constraintc.lsp.actions import Action, actions
from constraintc.lsp.coloring import KINDS, coloured
from constraintc.lsp.completion import complete
from constraintc.lsp.document import Document
from constraintc.lsp.edits import line_edits
from constraintc.lsp.formatting import formatted
from constraintc.lsp.hints import hints
from constraintc.lsp.hover import escape, hover
from constraintc.lsp.outline import Symbol, outline
from constraintc.lsp.positions import Positions
from constraintc.lsp.rename import RENAMED, Refused, renamable, rename
from constraintlang import format_policy, parse
from constraintlang import vocabulary as v
from constraintlang.catalogue import PAGES
from constraintlang.fixes import apply_edits
from constraintlang.source import SourceFile, Span
from constraintlang.wording import KEYWORDS
from constraintlang_compiler.front import check_and_lower


def everything(document: Document) -> Span:
    return Span(0, len(document.text))


# ------------------------------------------------------------------ places
@settings(max_examples=100, deadline=None)
@given(
    st.text(st.sampled_from("ab\n\réü😀\u2028\x0b"), max_size=12),
    st.sampled_from(["utf-8", "utf-16", "utf-32"]),
)
def test_positions_lead_back(text: str, encoding: str) -> None:
    positions = Positions(text, encoding)
    width = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]
    codec = encoding if width == 1 else f"{encoding}-le"
    for offset in range(len(text) + 1):
        if text[offset - 1 : offset + 1] == "\r\n":
            continue  # inside a line end
        line, column = positions.position(offset)
        before = re.split(r"\r\n|\n|\r", text[:offset])
        assert line == len(before) - 1
        assert column == len(before[-1].encode(codec)) // width
        assert positions.offset(line, column) == offset
    assert positions.offset(99, 0) == len(text)
    assert positions.offset(0, 99) == len(re.split(r"\r\n|\n|\r", text)[0])


def test_a_column_within_a_character_is_before_it() -> None:
    assert Positions("a😀b").offset(0, 2) == 1
    assert Positions("aüb", "utf-8").offset(0, 2) == 1


@settings(max_examples=50, deadline=None)
@given(*[st.lists(st.sampled_from(["a\n", "b\n", "\r\n", "c"]), max_size=8).map("".join)] * 2)
def test_line_edits(old: str, new: str) -> None:
    assert apply_edits(old, line_edits(old, new)) == new


# ------------------------------------------------------------------ words and names
def test_every_word_of_the_language_has_a_sentence() -> None:
    assert set(words.KEYWORDS) == {word.lower() for word in KEYWORDS}
    assert set(words.STATISTICS) == set(v.STATISTICS)
    assert set(words.SETTINGS) == set(v.UNDER)
    assert set(words.TYPES) == set(v.TYPES)
    assert set(words.DIRECTIONS) == set(v.DIRECTIONS)
    assert set(words.LEVELS) == set(v.LEVELS)
    assert set(words.FIELDS) == {*v.ATTRIBUTE_FIELDS, *v.DOMAIN_FIELDS}
    assert set(words.BACKENDS) == set(v.BACKENDS)
    assert set(words.CHOICES) == {word for backend in v.BACKENDS.values() for word in backend.choices}
    assert set(words.OUTCOMES) == set(v.OUTCOMES)
    assert set(words.QUANTITIES) | set(v.STATISTICS) == v.RESERVED_NAMES
    for table in vars(words).values():
        if isinstance(table, dict) and "__name__" not in table:
            assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in table.values())


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_occurrences_stand_where_the_names_are(text: str) -> None:
    found = Document(text).occurrences
    assert found
    assert found == sorted(found, key=lambda one: one.span.start)
    for one in found:
        assert text[one.span.start : one.span.end].strip('"') == one.name


@pytest.mark.parametrize("between", ["", " ", "\n    ", "  # why\n", "\n# a\n# b\n"])
def test_an_option_and_its_sign_may_stand_on_two_lines(between: str) -> None:
    text = (
        f'attribute a: score {{ backend = classifier("m", label{between}= "x", revision = "y") }}\na < 0.1\n'
    )
    found = [one for one in Document(text).occurrences if one.kind == "option"]
    assert [(one.name, text[one.span.start : one.span.end]) for one in found] == [
        ("label", "label"),
        ("revision", "revision"),
    ]
    assert hover(Document(text), text.index("a < 0.1")) is not None


# ------------------------------------------------------------------ hover
@pytest.mark.parametrize(
    ("needle", "offset", "parts"),
    [
        (
            "toxicity < cap",
            0,
            ["`attribute toxicity: score in [0, 1] lower_is_better`", "Every policy knows it"],
        ),
        ("toxicity < cap", 8, ["`attribute toxicity", "**polite**: pointwise", "at most 5% may have"]),
        ("< cap", 0, ["**polite**: pointwise", "At least 59 prompts are needed"]),
        ("< cap", 3, ["`let cap = 0.1`"]),
        ("real", 1, ["**real**", "A number with a unit of its own"]),
        ("higher", 1, ["A demand for less is reported"]),
        ("python", 1, ["A function of your own, `module:function`", "acme.metrics:reading_grade"]),
        ("let", 1, ["**let**", "Names a constant"]),
        ("lang in", 0, ["tag lang in {en, de}"]),
        ("chat", 0, ['domain chat { source = jsonl("a.jsonl"), tags = {lang, topic} }']),
    ],
)
def test_hover(needle: str, offset: int, parts: list[str]) -> None:
    found = hover(Document(BASE), BASE.index(needle) + offset)
    assert found is not None
    shown = found.text.replace("\\", "")
    for part in parts:
        assert part in shown


def test_hover_works_beside_errors_and_says_nothing_of_statements_that_have_some() -> None:
    text = BASE + "typo: toxcity < 1\nunit: toxicity < words\nopen: (mean(toxicity) <\n"
    document = Document(text)
    for needle, read in (("toxicity < cap", True), ("toxicity < words", False), ("< words", False)):
        found = hover(document, text.index(needle))
        assert ("pointwise" in (found.text if found else "")) == read
    assert hover(document, text.index("open")) is None
    assert hover(Document("# toxicity"), 4) is None
    assert hover(Document(""), 0) is None


nasty = st.text(st.sampled_from("`*_[](){}<>#!|\\~&x \n😀\u202e\x1b"), max_size=12)


@settings(max_examples=40, deadline=None)
@given(nasty)
def test_no_text_of_a_policy_is_markup(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    policy = f'domain x {{ source = jsonl("{quoted}") }}\n'
    policy += f'a: toxicity < 1 for k="{quoted}" and domain=x because "{quoted}"'
    document = Document(policy)
    for needle in ("toxicity", "x {"):
        found = hover(document, policy.index(needle))
        assert found is not None
        outside = re.sub(r"^(`{3,})policy\n.*?\n\1$", "", found.text, flags=re.DOTALL | re.MULTILINE)
        outside = outside.replace("`attribute toxicity: score in [0, 1] lower_is_better`", "").replace(
            "**a**", ""
        )
        outside = outside.replace("`[0, 1]`", "")
        assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]<>#!|~]", outside), found.text
        assert "\x1b" not in found.text
        assert "\u202e" not in found.text


def test_escape_shows_the_text() -> None:
    assert re.sub(r"\\(.)", r"\1", escape("a*b_[c](d) `e` \\ <f>")) == "a*b_[c](d) `e` \\ <f>"


# ------------------------------------------------------------------ rename
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_renaming_there_and_back(text: str) -> None:
    document = Document(text)
    before = check_and_lower(SourceFile(text))
    for one in document.occurrences:
        if not one.defines or one.kind not in RENAMED:
            continue
        changed = apply_edits(text, rename(document, one.span.start, "fresh_name"))
        after = check_and_lower(SourceFile(changed))
        assert [d.code for d in after.diagnostics] == [d.code for d in before.diagnostics], changed
        back = apply_edits(changed, rename(Document(changed), changed.index("fresh_name"), one.name))
        assert back.replace('"', "") == text.replace('"', "")  # a value in quotes comes back without


@pytest.mark.parametrize(
    ("needle", "name", "reason"),
    [
        ("cap", "slur", "already in use"),
        ("cap", "toxicity", "already in use"),  # of the prelude
        ("cap", "mean", "meaning of its own"),
        ("cap", "for", "reserved word"),
        ("cap", "1x", "no name"),
        ("cap", "", "no name"),
        ("en, de", "de", "already in use"),
        ("toxicity", "x", "not declared in this file"),
        ("real", "x", "only names that a policy declares"),
        ("0.1", "x", "only names that a policy declares"),
    ],
)
def test_renames_that_are_refused(needle: str, name: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        rename(Document(BASE), BASE.index(needle), name)


def test_the_same_name_in_another_role_is_left_alone() -> None:
    text = "let cap = 0.1\ncap: toxicity < cap for cap=cap and domain=cap\ntag cap in {cap}\n"
    text += "domain cap { tags = {cap} }\n"
    counts = {}
    for one in Document(text).occurrences:
        if one.name == "cap" and one.defines:
            edits = rename(Document(text), one.span.start, "new")
            counts[one.kind] = len(edits)
            assert one.span in [edit.span for edit in edits]
    assert counts == {"constant": 2, "label": 1, "tag": 3, "value": 2, "domain": 2}


def test_nothing_is_renamed_while_a_part_of_the_text_cannot_be_read() -> None:
    text = BASE + "broken: cap <\n"
    with pytest.raises(Refused, match="correct the syntax errors first"):
        renamable(Document(text), text.index("cap"))


# ------------------------------------------------------------------ actions
def offered(text: str) -> list[Action]:
    document = Document(text)
    return actions(document, everything(document))


def done(text: str, title: str) -> str:
    """The text after the action with a title."""
    (action,) = (action for action in offered(text) if action.title == title)
    return apply_edits(text, action.edits)


@pytest.mark.parametrize(
    ("text", "title", "after"),
    [
        ("always toxcity < 0.1", "Write `toxicity`", "always toxicity < 0.1"),
        ("always toxicity =< 0.1", "Write `<=`", "always toxicity <= 0.1"),
        ("always toxicity < 0.1 && words < 9", "Write `and`", "always toxicity < 0.1 and words < 9"),
        ("always toxicity < 0.1 wieght 2", "Write `weight`", None),  # a weight would be an error of its own
        ("always toxicity < 0.1 becuse \"x\"", "Write `because`", "always toxicity < 0.1 because \"x\""),
        ("tag l in {en}\nalways toxicity < 1 for l=ne", "Write `en`", "tag l in {en}\nalways toxicity < 1 for l=en"),
        ("toxicity < 0.1", "State the tolerance", "toxicity < 0.1 under tolerance=5%"),
        ("(toxicity < 0.1) for a=b", "State the tolerance", "(toxicity < 0.1) under tolerance=5% for a=b"),
        ("(toxicity < 0.1)", "Allow no exception", "always (toxicity < 0.1)"),
        ("a: prefer ( # x\n(toxicity < 0.1) )", "Allow no exception", "a: prefer always ( # x\n(toxicity < 0.1) )"),
        ("toxicity < 1 under samples=2", "State the tolerance", "toxicity < 1 under tolerance=5%, samples=2"),
        ("toxicity < 0.1", "Allow PC404 here", "toxicity < 0.1  # allow PC404: why it is right"),
        ("toxicity < 0.1\r\n", "Allow PC404 here", "toxicity < 0.1  # allow PC404: why it is right\r\n"),
        ("toxicity < 0.1 # said", "Allow PC404 here", None),
        ("mean(toxicity) < 1 # allow PC405: x\n", "Remove it", "mean(toxicity) < 1\n"),
        ("# allow PC405: x\nmean(toxicity) < 1", "Remove it", "mean(toxicity) < 1"),
        ("always words < 1\nmean(words) < 1", "Write `edition 1` as its first line",
         "edition 1\nalways words < 1\nmean(words) < 1"),
        ("mean(words) < 1 because \"a\u202eb\"", "Remove it", "mean(words) < 1 because \"ab\""),
    ],
)  # fmt: skip
def test_actions(text: str, title: str | None, after: str | None) -> None:
    titles = [action.title for action in offered(text)]
    assert (title in titles) == (after is not None)
    if title is not None and after is not None:
        assert done(text, title) == after
        finding = next(action.diagnostic for action in offered(text) if action.title == title)
        left = check_and_lower(SourceFile(after)).diagnostics
        assert (finding.code, finding.message) not in [(d.code, d.message) for d in left]


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.code)
def test_an_action_never_makes_matters_worse(page: object) -> None:
    text = page.failing  # type: ignore[attr-defined]
    before = check_and_lower(SourceFile(text)).diagnostics
    for action in offered(text):
        after = check_and_lower(SourceFile(apply_edits(text, action.edits))).diagnostics
        assert sum(d.is_error for d in after) <= sum(d.is_error for d in before)
        assert action.diagnostic.code not in [d.code for d in after] or len(after) < len(before)


@pytest.mark.parametrize(
    ("text", "title", "after"),
    [
        ("always toxicity < 0.1 and\nwords < 9",
         "Put `and` at the beginning of this line, or brackets around the whole",
         "always toxicity < 0.1\nand words < 9"),
        ("mean(toxicity) > 0.1", "Turn the comparison round, or correct the declaration", "mean(toxicity) < 0.1"),
        ("a: always words < 1\r\nb: always words < 2\r\nedition 1\r\n", "Move it to the top",
         "edition 1\r\na: always words < 1\r\nb: always words < 2\r\n"),
        ("always toxicity", "Compare it, for example `toxicity < 0.1`", None),  # a number left to fill in
    ],
)  # fmt: skip
def test_the_fix_of_a_finding_is_an_action(text: str, title: str, after: str | None) -> None:
    titles = [action.title for action in offered(text)]
    assert (title in titles) == (after is not None)
    if after is not None:
        assert done(text, title) == after


def test_a_fix_that_would_take_out_a_comment_is_no_action() -> None:
    text = "always toxicity < 0.1 # why\nand\nwords < 9"
    assert [d.fix is not None for d in Document(text).diagnostics if d.code == "PC014"] == [True]
    assert not [action for action in offered(text) if action.preferred]


def test_actions_are_those_of_the_place() -> None:
    text = "always toxcity < 1\nalways wrds < 1\n"
    document = Document(text)
    assert [a.title for a in actions(document, Span(7, 7)) if a.preferred] == ["Write `toxicity`"]


# ------------------------------------------------------------------ imports
def test_names_of_an_imported_file(tmp_path: Path) -> None:
    (tmp_path / "lists.policy").write_text(
        "edition 1\n\n\ndomain chat { tags = {lang} }\ntag lang in {en, de}\nlet cap = 0.1\n"
        "attribute rude: score in [0, 1] lower_is_better\n"
    )
    text = 'edition 1\nimport "lists.policy" as l\na: always l.rude < l.cap for domain=chat and lang=en\n'
    document = Document(text, "my.policy", folder=tmp_path)
    assert document.diagnostics == ()
    assert Document(text, "my.policy").diagnostics != ()

    def shown(needle: str) -> str:
        found = hover(document, text.index(needle))
        assert found is not None
        return found.text

    assert "`attribute l.rude: score in [0, 1] lower_is_better`" in shown("rude")
    assert "`let l.cap = 0.1`" in shown("cap")
    assert "domain chat {" in shown("chat")
    assert "tag lang in {en, de}" in shown("lang")
    kinds = {text[part.span.start : part.span.end]: part.kind for part in coloured(document)}
    assert (kinds["l"], kinds["rude"], kinds["cap"]) == ("namespace", "property", "variable")
    with pytest.raises(Refused, match="not declared in this file"):
        rename(document, text.index("rude"), "kind")


def test_a_finding_in_an_imported_file_is_not_repaired_here(tmp_path: Path) -> None:
    (tmp_path / "bad.policy").write_text("edition 1\nalways words =< 2\n")
    text = 'edition 1\nimport "bad.policy" as bad\nalways words < 2\n'
    document = Document(text, "my.policy", folder=tmp_path)
    (finding,) = document.diagnostics
    assert finding.source is not None
    assert finding.fix is not None
    assert actions(document, everything(document)) == []


# ------------------------------------------------------------------ hints, outline, colours, layout
def test_hints_say_how_each_statement_is_read() -> None:
    text = (
        "toxicity < 0.1\nalways (toxicity < 0.5) for a=b\nmean(words) < 100\ntoxicity < 0.2 under tolerance=2%\n"
        "preserve mean(perplexity) <= 2 * base\nbad: toxicity < words\n"
        "group g under tolerance=0.5% {\n  toxicity < 0.3\n}\n"
    )
    document = Document(text)
    found = {
        hint.text: text[: hint.offset].rpartition("\n")[2] for hint in hints(document, everything(document))
    }
    assert found == {
        "pointwise, tolerance 5%": "toxicity < 0.1",
        "pointwise, no exception": "always (toxicity < 0.5)",
        "distribution": "mean(words) < 100",
        "pointwise, tolerance 2%": "toxicity < 0.2",
        "on your rows": "preserve mean(perplexity) <= 2 * base",
        "pointwise, tolerance 0.5%": "  toxicity < 0.3",
    }
    assert hints(document, Span(0, 3)) == hints(document, everything(document))[:1]


def test_the_outline_has_the_shape_of_the_file() -> None:
    def shape(symbols: tuple[Symbol, ...]) -> list[object]:
        return [(s.kind, s.name, shape(s.children)) if s.children else (s.kind, s.name) for s in symbols]

    text = BASE + 'group g {\n  mean(grade) > 2\n  b: prefer toxicity < 1\n}\ntest "" { }\ngroup { }\n'
    assert shape(tuple(outline(Document(text)))) == [
        ("other", "edition 1"), ("constant", "cap"), ("attribute", "grade"), ("attribute", "slur"),
        ("domain", "chat"), ("tag", "lang"), ("statement", "polite"),
        ("group", "g", [("statement", "mean(grade) > 2"), ("statement", "b")]), ("test", "test"), ("group", "group"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", [*TEXTS.values(), BASE], ids=[*TEXTS, "base"])
def test_colours(text: str) -> None:
    parts = coloured(Document(text))
    assert all(part.kind in KINDS for part in parts)
    for left, right in pairwise(parts):
        assert left.span.end <= right.span.start
    assert all("\n" not in text[part.span.start : part.span.end] for part in parts)
    seen = {text[part.span.start : part.span.end]: part.kind for part in parts}
    if text == BASE:
        assert (seen["grade"], seen["cap"], seen["polite"], seen["real"]) == (
            "property", "variable", "decorator", "type",
        )  # fmt: skip
        assert (seen["in"], seen['re"x"'], seen["en"], seen["0.1"]) == (
            "keyword",
            "regexp",
            "enumMember",
            "number",
        )


def test_a_name_in_quotes_is_a_text() -> None:
    text = BASE + 'a: toxicity < 1 for domain="chat" and lang=de'
    seen = {text[part.span.start : part.span.end]: part.kind for part in coloured(Document(text))}
    assert (seen['"chat"'], seen["chat"], seen["de"]) == ("string", "namespace", "enumMember")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_formatting_changes_only_what_differs(text: str) -> None:
    text = format_policy(parse(text)[0])
    assert formatted(Document(text)) == []
    untidy = text.replace(" < ", "  <   ", 1)
    edits = formatted(Document(untidy))
    assert edits is not None
    assert len(edits) == (" < " in text)
    assert apply_edits(untidy, edits) == text
    assert formatted(Document(text + "a <\n")) is None


# ------------------------------------------------------------------ whatever is typed
PIECES = (
    "",
    "\n",
    " ",
    "x",
    "#",
    '"',
    "(",
    ")",
    "{",
    "}",
    "=",
    "0",
    "and ",
    "for ",
    "cap",
    "@",
    "\r",
    "é",
    "in {",
    "test ",
)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([BASE, *TEXTS.values()]), st.data())
def test_nothing_that_is_typed_breaks_the_server(text: str, data: st.DataObject) -> None:
    document = Document(text)
    for _ in range(3):
        at = data.draw(st.integers(0, len(document.text)))
        piece, removed = data.draw(st.sampled_from(PIECES)), data.draw(st.integers(0, 5))
        document = document.changed(document.text[:at] + piece + document.text[at + removed :])
        place = data.draw(st.integers(0, len(document.text)))
        hover(document, place)
        complete(document, place)
        hints(document, everything(document))
        outline(document)
        coloured(document)
        actions(document, Span(place, place))
        formatted(document)
        with contextlib.suppress(Refused):
            rename(document, place, "other_name")
