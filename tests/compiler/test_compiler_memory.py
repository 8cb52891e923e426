"""A check with a memory of earlier checks finds what a check without one finds, whatever was edited."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from constraintlang import check_source, checker, statement_memory
from constraintlang.declarations import Declarations
from constraintlang.memory import KEPT_TURNS, Memory
from constraintlang.parser import tokens_of
from constraintlang.source import SourceFile, Span
from constraintlang.statements import check_statement
from constraintlang_compiler.front import check_and_lower, findings

GOLDEN = Path(__file__).parents[1] / "golden" / "policies"
TEXTS = [path.read_text(encoding="utf-8") for path in sorted(GOLDEN.glob("*.policy"))]
GROUPED = """edition 1
let cap = 2 * half
let half = 0.05
attribute grade: real in [0, 10 * cap] { backend = python("acme:grade") }
domain chat { source = jsonl("a.jsonl"), tags = {lang} }
tag lang in {en, de}
group outer for domain=chat under tolerance=2% {
  low: toxicity < cap  # allow PC404: known
  group inner for lang in {en} {
    # allow PC405: known
    prefer toxicity > half weight cap
    mean(words) >= 20
  }
}
easy: grade < 9 and
toxicity < 0.5
wide: mean(grade) >= 2
tail: cvar(words, 0.9) >= 40
let slack = 0.5
near: mean(words) <= base + slack
test "x" {
  given toxicity = 0.1
  pass "y" on low
}
"""
PIECES = (
    "", "\n", " ", "x", "#", '"', "(", ")", "{", "}", "[", "=", "0", "9", "and", "or ", "not ", "for ", "cap", "half",
    "lang", "de", "toxicity", "words", "mean(", "@base", " # allow PC404: x", "\r", "é", "\u2028", "let cap = 1\n",
    "low: words < 3\n", "edition 1\n", "tag lang in {en}\n", "attribute slur: flag\n", "group g { ",
    "under tolerance=1% ", "mean(words) >= 20\n", "let half = cap\n",
)  # fmt: skip
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES)), min_size=1, max_size=6
)


def whole(value: Any) -> Any:
    """A value with its spans, which the equality of nodes leaves out."""
    if isinstance(value, Span):
        return value.start, value.end
    if isinstance(value, tuple | list):
        return tuple(whole(part) for part in value)
    if isinstance(value, Struct):
        return type(value).__name__, {name: whole(getattr(value, name)) for name in value.__struct_fields__}
    if is_dataclass(value):
        return type(value).__name__, {f.name: whole(getattr(value, f.name)) for f in fields(value)}
    return value


def same_with_and_without(text: str, memory: Memory) -> None:
    source = SourceFile(text)
    found, plain = findings(source, memory), check_source(source)
    assert whole(found.result.tree) == whole(plain.tree)
    assert whole(found.result.diagnostics) == whole(plain.diagnostics)
    assert whole(found.result.statements) == whole(plain.statements)
    assert whole(found.diagnostics) == whole(check_and_lower(source).diagnostics)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([*TEXTS, GROUPED, GROUPED, GROUPED]), EDITS)
@example(GROUPED, [(0.0, 0, "\n"), (0.02, 0, "let cap = 1\n"), (0.5, 3, "")])
def test_edits(text: str, edits: list[tuple[float, int, str]]) -> None:
    memory = Memory()
    same_with_and_without(text, memory)
    for place, removed, piece in edits:
        at = int(place * len(text))
        text = text[:at] + piece + text[at + removed :]
        same_with_and_without(text, memory)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, *GROUPED.split(" ")])).map("".join))
@example("\n\n")
@example("x\n \n\nx")
def test_lines_can_be_read_alone(text: str) -> None:
    """But for empty lines, which belong to the newline before them, or are newlines of their own."""

    def shape(tokens: list[Any]) -> list[Any]:
        found: list[Any] = []
        for t in tokens:
            if t.type != "_NL":
                found.append((t.type, str(t), t.start_pos, t.end_pos))
            elif not found or found[-1][0] != "_NL":
                found.append((t.type, t.start_pos))
        return found

    assert shape(tokens_of(text, Memory())) == shape(tokens_of(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("let half = 0.05", "let half = 0.06"),  # a constant that only another constant uses
        ("tag lang in {en, de}", "tag lang in {de}"),  # a value that a group names
        ("lower_is_better", "higher_is_better"),
        ("real in [0, 10 * cap]", "real in [0, inf]"),  # what lowering makes of a mean
        ("under tolerance=2%", "under tolerance=3%"),
        ("domain=chat under", "domain=talk under"),
        ("edition 1\n", ""),
        ("prefer toxicity", "   prefer toxicity"),
        ("let slack = 0.5", "let slack = 50%"),  # PC409 is about how a number is written
    ],
)
def test_what_statements_depend_on(old: str, new: str) -> None:
    text = GROUPED.replace("edition 1\n", "edition 1\nattribute toxicity: score lower_is_better\n")
    memory = Memory()
    findings(SourceFile(text), memory)
    same_with_and_without(text.replace(old, new), memory)
    assert old in text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "domain talk { tags = {topic} }\n"),  # the first declaration makes the others unknown
        ("", "tag topic in {a}\n"),
        ("domain talk { tags = {lang} }\ndomain chat { tags = {lang} }\n", "domain talk { tags = {lang} }\n"),
        ("", "attribute words: count in [0, x]\n"),  # a declaration that fails hides the prelude's
        ("", "attribute words\n"),
    ],
)
@pytest.mark.parametrize("scope", ["domain=chat", 'domain="ch\\u0061t"', "lang=en"])
def test_what_scopes_depend_on(before: str, after: str, scope: str) -> None:
    text = f"edition 1\n{{}}always words < 9 for {scope}\n"
    memory = Memory()
    same_with_and_without(text.format(before), memory)
    same_with_and_without(text.format(after), memory)


def test_only_what_changed_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from constraintlang import checker, parser
    from constraintlang_compiler import front

    counts = {"parsed": 0, "checked": 0, "lowered": 0}

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **named)

        return call

    monkeypatch.setattr(parser._ItemParser, "parse", counted("parsed", parser._ItemParser.parse))
    monkeypatch.setattr(checker, "check_statement", counted("checked", checker.check_statement))
    monkeypatch.setattr(front, "lower_alone", counted("lowered", front.lower_alone))
    lines = ["edition 1", "let cap = 0.5", *(f"s{i}: toxicity < 0.{i}" for i in range(10, 40)), "cap > words"]
    text = "\n".join(lines[:-1])
    memory = Memory()
    findings(SourceFile(text), memory)
    assert counts == {"parsed": 32, "checked": 30, "lowered": 30}
    for edited in (text.replace("0.25", "0.251"), text.replace("let cap = 0.5", "let  cap = 0.6")):
        counts.update(parsed=0, checked=0, lowered=0)
        findings(SourceFile(edited), memory)
        assert counts["parsed"] == 1
        assert counts["checked"] == counts["lowered"] <= 1


def test_every_field_of_declarations_is_thought_of() -> None:
    names = {f.name for f in fields(Declarations)}
    assert names == {*statement_memory.BY_WORD, *statement_memory.OF_ERRORS, "edition", "source"}


def test_a_declaration_costs_the_statements_that_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def check(item: Any, *rest: Any) -> Any:
        checked.append(item.label)
        return check_statement(item, *rest)

    monkeypatch.setattr(checker, "check_statement", check)
    lines = [
        "edition 1\nlet cap = 0.5\ndomain chat { tags = {topic} }\ntag lang in {en, de}\nattribute own: flag",
        "a: always toxicity < cap",
        "b: always words < 9 for domain=chat",
        "c: always words < 9 for lang=en",
        "d: always own or words < 9 for topic=x",
        'e: always words < 9 for domain="ch\\u0061t"',
        "f: always sentences < 9",
    ]
    text, memory = "\n".join(lines), Memory()
    findings(SourceFile(text), memory)
    for old, new, again in [
        ("let cap", "let zz = 1\nlet cap", ""),
        ("let cap", "let zz\nlet cap", ""),
        ("cap = 0.5", "cap = 0.6", "a"),
        ("tag lang in {en, de}", "tag lang in {en}", "c"),
        ("domain chat {", "domain talk { tags = {topic} }\ndomain chat {", ""),
        ("attribute own: flag", "attribute own: flg", "d"),
        ("tags = {topic}", "tags = {topics}", "d"),
    ]:
        checked.clear()
        same_with_and_without(text.replace(old, new), memory)
        remembered = checked[: len(checked) - 2 * 6]  # the two checks without a memory look at all six
        assert "".join(sorted(set(remembered))).replace("e", "") == again, (old, new)


def test_a_memory_does_not_grow() -> None:
    memory = Memory()
    for number in range(10, 10 + 4 * KEPT_TURNS):
        findings(SourceFile(f"always toxicity < 0.{number}"), memory)
    for entries in memory._found.values():
        assert len(entries) <= KEPT_TURNS + 1


def test_a_forgotten_dependency_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from constraintlang.statement_memory import StatementMemory

    monkeypatch.setattr(StatementMemory, "named", lambda self, words: ())
    with pytest.raises(AssertionError):
        test_what_statements_depend_on("let half = 0.05", "let half = 0.06")


def test_what_imported_files_say_is_seen(tmp_path: Path) -> None:
    other = tmp_path / "other.policy"
    text = """edition 1
import "other.policy" as other
import "std/safety.policy" as std
low: mean(other.grade) >= other.cap
near: other.grade < 2 for lang=de
"""
    source, memory = SourceFile(text, "my.policy", tmp_path), Memory()
    declared = "attribute grade: real in [{}] {}\nlet cap = {}\ntag lang in {{{}}}\n"

    def check(*values: str) -> list[str]:
        other.write_text("edition 1\n" + declared.format(*values))
        found, plain = findings(source, memory), check_source(source)
        assert whole(found.result.statements) == whole(plain.statements)
        assert whole(found.diagnostics) == whole(check_and_lower(source).diagnostics)
        return [d.code for d in found.diagnostics if d.code != "PC412"]

    assert check("0, 9", "", "3", "en, de") == ["PC404"]
    assert check("0, 9", "", "4", "en, de") == ["PC404"]
    assert check("0, 9", "lower_is_better", "4", "en, de") == ["PC405", "PC404"]
    assert check("0, inf", "", "4", "en, de") == ["PC210", "PC404"]
    assert check("0, 9", "", "4", "en") == ["PC102"]
    assert check("0, 9", "", "1 / 0", "en, de") == ["PC404", "PC223"]
    assert check("0, 9", "", "3", "en, de") == ["PC404"]
    other.unlink()
    assert [d.code for d in findings(source, memory).diagnostics] == ["PC107"]
