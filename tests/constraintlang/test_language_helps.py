"""What new authors write, what the help tells them, and that what it tells is a policy."""

from __future__ import annotations

import re

import pytest
from policy_mutations import bad_policies

from constraintlang import SourceFile, check_source
from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import apply_edits, replacing
from constraintlang.syntax_errors import MISTAKES
from constraintlang_compiler.fixing import fix_source

FLAGS = "edition 1\nattribute s: flag { backend = secrets() }\nattribute t: flag { backend = secrets() }\n"
WRITE = re.compile(r"write `([^`]+)`")


def errors(text: str) -> list[Diagnostic]:
    return list(check_source(SourceFile(text)).errors)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        # compared with a truth
        ("s == false", "not s"),
        ("always s != true for lang=en", "always not s for lang=en"),
        ("s = true and t == false", "s and not t"),
        ("s is not slur", None),
        # the scope first, words in the wrong place
        ("for domain=chat toxicity < 0.1", "toxicity < 0.1 for domain=chat"),
        ("for lang in {en, de}: always not s", "always not s for lang in {en, de}"),
        (
            "under temperature=1, top_p=0.9 mean(words) < 9 confidence 0.9",
            "mean(words) < 9 confidence 0.9 under temperature=1, top_p=0.9",
        ),
        ("cap: for domain=chat, not s", "cap: not s for domain=chat"),
        ("always require toxicity < 0.1", "require always toxicity < 0.1"),
        ("over sentences (always s)", "over sentences (globally s)"),
        # prompts
        ("not s for lang != en", "not s for not lang=en"),
        ("not s for lang not in {en}", "not s for not lang in {en}"),
        ("not s for all", "not s"),
        ("not s for domain=a and for lang=b", "not s for domain=a and lang=b"),
        ("not s for domain=a or b", "not s for domain in {a, b}"),
        ("not s for domain=my-chat", 'not s for domain="my-chat"'),
        # negations, ranges, settings, names
        ("never s", "always not s"),
        ("never toxicity > 0.5", "always not toxicity > 0.5"),
        ("over sentences (never s)", "over sentences (globally not s)"),
        ("t and never s", "t and not s"),
        ("my-label: not s", "my_label: not s"),
        ("words from 10 to 20", "words in [10, 20]"),
        ("words between 10 and 20 for lang=en", "words in [10, 20] for lang=en"),
        ("words in 10..20", "words in [10, 20]"),
        ("words in (10, 20)", "words in [10, 20]"),
        ("toxicity < 0.1 temperature=1 top_p=0.9", "toxicity < 0.1 under temperature=1, top_p=0.9"),
        ("toxicity < 0.1 under temperature=1 top_p=0.9", "toxicity < 0.1 under temperature=1, top_p=0.9"),
        ("mean[toxicity] < 0.1", "mean(toxicity) < 0.1"),
        ("toxicity < %5", "toxicity < 5%"),
        ("toxicity < 5 percent", "toxicity < 5%"),
        ("words = 5", "words == 5"),
        ("5 = words", "5 == words"),
        ("c: request = harmful implies s", None),
        # arrows
        ("s => words < 50", "s implies words < 50"),
        ("toxicity < 0.1 => not s", "toxicity < 0.1 implies not s"),
        ("words => 50", "words >= 50"),
        ("s => t", None),
        ("words < 3 xor words > 4", None),
        # chances that point the wrong way
        ("P(toxicity > 0.5) > 1%", "P(toxicity > 0.5) < 1%"),
        ("P(toxicity < 0.5) < 1%", "P(toxicity > 0.5) < 1%"),
        ("P(toxicity > 0.5) >= 99%", "P(toxicity < 0.5) >= 99%"),
        ("1% < P(toxicity > 0.5)", "1% > P(toxicity > 0.5)"),
        # percentages of what is no share
        ("always words < 5%", "always words < 5"),
        ("mean(words) <= base + 10%", "mean(words) <= 1.1 * base"),
        ("mean(words) <= base - 10%", "mean(words) <= 0.9 * base"),
        ("preserve perplexity <= 2% * base", "preserve perplexity <= 1.02 * base"),
        ("cvar(toxicity, 5%) < 0.3", "cvar(toxicity, 0.95) < 0.3"),
        # fixes that would not compile
        ("let groups = {women, men}", None),
        ("not s for lang in en", "not s for lang in {en}"),
        ("always preserve perplexity <= base", "preserve perplexity <= base"),
        ("P(s) = 0", None),
        ("mean(words) = 5", None),
        # no prompt has two values of one tag
        ("not s for domain=a for lang=b", "not s for domain=a and lang=b"),
        ("not s for domain=a for domain=b", None),
    ],
)
def test_the_fix(wrong: str, right: str | None) -> None:
    fixed = fix_source(SourceFile(FLAGS + wrong), unsafe=True).source.text.removeprefix(FLAGS)
    assert fixed == (wrong if right is None else right)
    assert right is None or errors(FLAGS + right) == []


@pytest.mark.parametrize(
    ("backend", "right"),
    [
        (r'regex(r"\d+")', r'regex(re"\d+")'),
        (r'regex("\d+")', r'regex(re"\d+")'),
        (r'regex("\\d+\"")', r'regex(re"\d+\"")'),
        ('judge(f"rubric.md")', 'judge("rubric.md")'),
    ],
)
def test_patterns_and_texts(backend: str, right: str) -> None:
    text = f"edition 1\nattribute a: flag {{ backend = {backend} }}\nnot a"
    assert fix_source(SourceFile(text), unsafe=True).source.text == text.replace(backend, right)
    assert errors(text.replace(backend, right)) == []


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ("mean(toxicity) < 0.1 per domain", "`mean(toxicity) < 0.1 for domain=chat`"),
        ("toxicity < 0.1 for age < 13", "`age in {11, 12}`"),
        # constants, equalities, scores of a test
        ("let groups = {women, men}", "`toxicity < 0.1 for lang in {en, de}`"),
        ("P(s) = 0", "`always not`"),
        ("P(s) == 0", "`always not s`"),
        ("P(s or t) == 0", "`always not (s or t)`"),
        ("P(s or t) == 100%", "`always s or t`"),
        ("P(s) == 3%", "in [0.05, 0.15]`"),
        ("mean(words) == base", "`mean(toxicity) >= 0.95 * base and mean(toxicity) <= 1.05 * base`"),
        ('a: s\ntest "t" { given toxicity = 0.3, words = 5, pass on a }', "one `given` a line"),
        # numbers without a decimal
        ("prefer words < 4 weight 1/3", "`0.333`"),
        ('import "std/no_pii"', '`"std/no_pii.policy"`'),
        # tags as conditions
        ("c: request = harmful implies s", "`toxicity < 0.1 for request=harmful`"),
        ("request=harmful implies s", "numbers are compared with `==`"),
        ("P(s and request=harmful) >= 95%", "`P(toxicity > 0.5 | request=harmful)`"),
        ('not request = "harmful"', 'for request="harmful"`'),
        ('request != "harmful" implies s', 'for not request="harmful"`'),
        ("s or request in {harmful, harmless}", "for request=harmful`"),
        ("domain = chat implies s", "`toxicity < 0.1 for domain=chat`"),
        ("c: domain == chat implies s", "`toxicity < 0.1 for domain=chat`"),
        ("language = de", "for language=de`"),
        ("tag lang in {en, de}\nlang == 3 implies s", "`P(toxicity > 0.5 | lang=en)`"),
        ("tag lang in {en, de}\nde implies s", "`toxicity < 0.1 for lang=de`"),
        ("never s or t", "brackets"),
        ("s xor t", "`(a or b) and not (a and b)`"),
        ("ratio of P", "`P(toxicity > 0.5 | lang=fr) <= 1.2 * P(toxicity > 0.5 | lang=en)`"),
        ("P(s | lang=fr) / P(s | lang=en) < 1.2", "`P(s | lang=fr) <= 1.2 * P(s | lang=en)`"),
        ("words % 2 == 0", "no remainder"),
        ("toxicity < 1e-3%", "`0.001%`"),
        ("secrets()", "`attribute measured: flag { backend = secrets() }`, then write `not measured`"),
        ("secrets() == 0", "`attribute measured: flag { backend = secrets() }`, then write `not measured`"),
        ('not pii("any")', '`attribute measured: flag { backend = pii("EMAIL_ADDRESS") }`, then'),
        ("preserve perplexity", "`perplexity <= 1.02 * base`"),
        ("preserve mean(accuracy)", "`mean(accuracy) >= base - 1%`"),
        ("for domain=chat { words < 3 }", "`group name for domain=chat { ... }`"),
        ("not s or mean(words) < 9", "`P(not s) >= 95%`"),
        ("not s implies mean(words) < 9", "`P(not s) >= 95%`"),
        ("not (not s and mean(words) < 9)", "`P(not s) >= 95%`"),
        ("not s and (mean(words) < 9 or t)", "`P(t) >= 95%`"),
        ("preserve perplexity < 9 or not s", "by itself"),
        ("toxicity < mean(words)", "`mean(toxicity)`"),
        ("not s and mean(words) < 9", "write one statement for each"),
        ("s == 1", "`s` or `not s`"),
    ],
)
def test_the_help(wrong: str, part: str) -> None:
    (error,) = errors(FLAGS + wrong)
    assert part in (error.help or "")


def test_no_fix_makes_a_value_of_a_constant() -> None:
    text = "edition 1\nlet cap = 3\nalways words < 5 for lang in cap\n"
    (error,) = errors(text)
    assert (error.code, error.fix) == ("PC001", None)
    assert fix_source(SourceFile(text), unsafe=True).source.text == text


def test_the_help_of_a_condition_under_its_label() -> None:
    (found,) = [d for d in check_source("edition 1\no:\ntoxicity < 0.1").diagnostics if d.code == "PC014"]
    assert found.help == "write the condition on the line of its label"


@pytest.mark.parametrize(
    ("wrong", "use"),
    [
        (r'not re"\d+ a"', "not found"),
        (r'c: always not re"\d+ a" for lang=en', "not found"),
        (r'toxicity < 0.1 and not re"\d+ a"', "not found"),
        (r'P(not re"\d+ a") < 1%', "not found"),
        (r'over sentences (globally not re"\d+ a")', "not found"),
        (r're"\d+ a"', "found"),
        (r'always re"\d+ a"', "found"),
        (r'P(re"\d+ a") < 1%', "found"),
        (r'attribute a: flag { backend = not re"\d+ a" }', "not found"),
        (r'attribute a: flag { backend = not regex(re"\d+ a") }', "not found"),
        (r'attribute a: flag { backend = regex(not re"\d+ a") }', "not found"),
    ],
)
def test_a_pattern_as_a_condition_is_told_what_to_declare(wrong: str, use: str) -> None:
    (error,) = errors(f"edition 1\n{wrong}")
    declaration, then, written = (error.help or "").split("`")[1:4]
    assert then == ", then write "
    assert r'regex(re"\d+ a")' in declaration
    assert written == use
    assert errors(f"edition 1\n{declaration}\nalways {written}") == []
    assert error.fix is None


def test_misspelt_declarations_are_no_labels() -> None:
    text = "edition 1\natribute q: score in [0, 1]\nq < 0.1"
    assert fix_source(SourceFile(text), unsafe=True).source.text == text.replace("atribute", "attribute")


# ------------------------------------------------------------------ every broken policy of the tests
NAMES = [
    "edition 1\n" + "".join(f"attribute {name}: {kind}\n" for name in ("a", "b", "flag", "x.a"))
    for kind in ("int", 'flag { backend = regex(re"x") }')
]
"""What the examples speak of, as numbers and as flags: each of them is right with one of the two."""
CORPUS = [[head + text for head in NAMES] for mistake in MISTAKES for text in mistake.examples]
CORPUS += [[text] for text in bad_policies() if len(text) < 2_000 and "toxicity" in text]


@pytest.mark.parametrize("texts", CORPUS, ids=lambda texts: texts[0].removeprefix(NAMES[0])[:30])
def test_no_fix_and_no_help_adds_an_error(texts: list[str]) -> None:
    for place, error in enumerate(errors(texts[0])):
        after = []
        for text in texts:
            before = errors(text)
            found = before[place] if place < len(before) else None
            if found is None or (found.code, found.message) != (error.code, error.message):
                continue
            written = WRITE.fullmatch(found.help or "")
            if found.fix is not None and found.fix.applicability != "placeholder":
                after.append(len(errors(apply_edits(text, found.fix.edits))) - len(before))
            elif written is not None:
                after.append(
                    len(errors(apply_edits(text, replacing(found.span, written[1]).edits))) - len(before)
                )
        assert not after or min(after) <= 0


@pytest.mark.parametrize("texts", CORPUS, ids=lambda texts: texts[0].removeprefix(NAMES[0])[:30])
def test_unsafe_fixes_leave_no_more_errors(texts: list[str]) -> None:
    """A safe fix is made although more comes to light behind it; a guess is not."""
    for text in texts:
        safe, unsafe = (fix_source(SourceFile(text), unsafe=guess).source.text for guess in (False, True))
        assert len(errors(unsafe)) <= max(len(errors(text)), len(errors(safe)))


def test_a_guess_that_adds_an_error_is_not_made_and_the_others_are() -> None:
    text = (
        "edition 1\nattribute a: int\nattribute b: int\na and never b\ntoxcity < 0.1\nwords => 3\nwords < 2)"
    )
    fixed = text.replace("toxcity", "toxicity").replace("=>", ">=").replace(")", "")
    assert fix_source(SourceFile(text), unsafe=True).source.text == fixed


@pytest.mark.parametrize(
    "text",
    [
        "words < 3 under samples=1" + " samples=1" * 300,
        "for lang in {" + ", ".join(["en"] * 300) + "} words < 3",
        f"mean(words) / mean({' + '.join(['words'] * 150)}) < 3",
    ],
)
def test_a_help_is_no_longer_than_a_few_lines(text: str) -> None:
    assert max(len(error.help or "") for error in errors(text)) < 500
