"""One mistake does not hide those below it: open texts and brackets, lines that break off, entries of a test."""

from __future__ import annotations

import pytest
from work_count import counted

from constraintlang import SourceFile, parse
from constraintlang.fixes import apply_edits

BELOW = "\nwords =< 3\nmean(toxicity) <\n"
FOUND_BELOW = [("PC004", "=<"), ("PC005", "<")]


def underlined(text: str) -> list[tuple[str, str]]:
    source = SourceFile(text)
    return [(d.code, source.extract(d.span)) for d in parse(source)[1]]


@pytest.mark.parametrize(
    ("line", "text", "closed"),
    [
        ('attribute s: flag { backend = lexicon("slurs.txt) }', '"slurs.txt) }', 'lexicon("slurs.txt") }'),
        ('attribute s: flag {\n  backend = lexicon("slurs.txt)\n}', '"slurs.txt)', 'lexicon("slurs.txt")\n}'),
        ('attribute s: flag { backend = regex(re"a) }', '"a) }', 'regex(re"a") }'),
        ('attribute s: score { backend = nli("m, revision="1") }', '"m, revision="', '("m", revision="1")'),
        ('domain d { source = jsonl("d.jsonl) }', '"d.jsonl) }', 'jsonl("d.jsonl") }'),
        ('tag lang in {"en, de}', '"en, de}', '{"en, de"}'),
        ('P(toxicity > 0.1 | lang="en) < 1%', '"en) < 1%', 'lang="en") < 1%'),
        ('group g { words < 3 because "why }', '"why }', 'because "why" }'),
        ('(words < 3 because "why', '"why', 'because "why"'),
    ],
)
def test_an_open_text_is_told_as_one_and_hides_nothing(line: str, text: str, closed: str) -> None:
    policy = f"edition 1\n{line}{BELOW}"
    assert underlined(policy) == [("PC008", text), *FOUND_BELOW]
    fix = parse(policy)[1][0].fix
    assert fix is not None
    assert closed in apply_edits(policy, fix.edits)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mean(toxicity < 0.1", [("PC002", "(")]),
        ("toxicity in [0.1, 0.2", [("PC002", "[")]),
        ('attribute s: flag {\n  backend = lexicon("slurs.txt")', [("PC002", "{")]),
        ('attribute s: flag {\nbackend = lexicon("slurs.txt")', [("PC002", "{")]),
        ("tag lang in {en, de", [("PC002", "{")]),
        ("P(\n  toxicity > 0.1 and\n  words < 3", [("PC002", "(")]),
        ("toxicity <", [("PC005", "<")]),
        ("toxicity < 0.1 for", [("PC005", "for")]),
        ("toxicity < 0.1 for domain=chat under", [("PC005", "under")]),
        ("let x", [("PC001", "x")]),
        ("groop g {\n  words =< 5\n}", [("PC001", "groop"), ("PC004", "=<")]),
        ("for domain=chat {\n  words =< 5\n}", [("PC001", "for"), ("PC004", "=<")]),
    ],
)
def test_a_bad_line_hides_no_line_below_it(line: str, expected: list[tuple[str, str]]) -> None:
    assert underlined(f"edition 1\n{line}{BELOW}") == [*expected, *FOUND_BELOW]
    inside = f"group g {{\n{line}{BELOW}}}\n"
    if not line.startswith(("attribute", "tag")):
        assert underlined(inside) == [*expected, *FOUND_BELOW]


@pytest.mark.parametrize(
    "text",
    [
        "P(\ntoxicity > 0.5\nand words < 3\n) < 1%",
        "mean(\ntoxicity\n) < 0.1",
        "0.1 <\ntoxicity < 0.2",
        "toxicity <\n0.1 for\ndomain=chat",
        'attribute s: flag {\nbackend = regex(\nre"a"\n)\nlevels = {\nsequence,\ntokens\n}\n}',
    ],
)
def test_lines_that_belong_together_are_not_cut(text: str) -> None:
    assert [d for d in parse(text)[1] if d.is_error] == []


def test_an_operand_may_stand_on_the_next_line_although_it_is_wrong() -> None:
    assert underlined("toxicity < 0.1 and\nwords =< 3") == [("PC004", "=<")]
    assert underlined("mean(toxicity) <\n  2 * words =< 3") == [("PC004", "=<")]


def test_every_bad_entry_of_a_block_is_told() -> None:
    text = (
        'cap: toxicity < 0.1\ntest "t" {\n  given toxicity == 0.1\n  pass "x" on cap\n  given toxicity 0.2,\n'
        '  fail "y" on\n  holds on cap on cap\n  given words = [1\n    2]\n}'
    )
    assert underlined(text) == [
        ("PC004", "=="),
        ("PC001", "0.2"),
        ("PC001", "on"),
        ("PC001", "on"),
        ("PC001", "1\n    2"),
    ]
    text = "attribute a: score {\n  backend: x\n  levels {tokens}\n  other = 3\n  more\n}\n" + BELOW
    assert underlined(text) == [("PC001", ":"), ("PC001", "{"), ("PC001", "more"), *FOUND_BELOW]
    bad_head = "test t {\n  given words 3\n}"
    assert underlined(bad_head) == [("PC001", "t"), ("PC001", "3")]


def test_the_work_stays_linear() -> None:
    def calls(count: int) -> int:
        lines = [f"mean(toxicity < 0.{i}" for i in range(count)]
        entries = "\n".join(f"  given words {i}" for i in range(count))
        with counted() as work:
            parse("\n".join([*lines, f'test "t" for a=b {{\n{entries}\n}}']))
        return work.calls

    calls(1)
    assert calls(200) < 2.3 * calls(100)
