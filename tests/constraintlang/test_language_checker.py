"""What the checker says: code, the exact text underlined, and help; and what it hands to the compiler."""

from decimal import Decimal

import pytest

from constraintlang import check_source, undeclared
from constraintlang import nodes as n
from constraintlang.checked import AttributeInfo
from constraintlang.tree import names_in

FLAG = 'attribute slur: flag { backend = lexicon("l.txt") }\n'
REAL = 'attribute grade: real in [0, 20] { backend = python("acme:grade") }\n'
QUIET = {"PC104", "PC108", "PC404"}


def found(text):
    result = check_source(text)
    for diagnostic in result.diagnostics:
        assert diagnostic.help or diagnostic.severity == "note"
    return [(d.code, result.source.extract(d.span)) for d in result.diagnostics if d.code not in QUIET]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # names
        ("toxcity < 0.1", [("PC101", "toxcity")]),
        ("cap: mean(helpfulness) < 1", [("PC101", "helpfulness")]),
        ("a < 1\na < 2", [("PC101", "a"), ("PC101", "a")]),
        ("x.y < 1", [("PC101", "x.y")]),
        ("tag lang in {en, de}\ntoxicity < 1 for lang=ed", [("PC102", "ed")]),
        ("tag lang in {en}\ntoxicity < 1 for not (lnag=en or lang=en)", [("PC102", "lnag")]),
        ('domain chat { source = jsonl("x") }\ntoxicity < 1 for domain in {chat, chta}', [("PC102", "chta")]),
        ("tag level in {1, 2}\ntoxicity < 1 for level=1.0", []),
        ("tag level in {1, 2}\ntoxicity < 1 for level=1.5", [("PC102", "1.5")]),
        ("tag ok in {true, false}\ntoxicity < 1 for ok=true", []),
        ("tag ok in {true, false}\ntoxicity < 1 for ok=True", [("PC102", "True")]),
        ("toxicity < 1 for lang=ed", []),
        ("let a = b + 1\nlet b = c\nlet c = a\ntoxicity < a", [("PC105", "let a = b + 1")]),
        ("let a = a\ntoxicity < a", [("PC105", "let a = a")]),
        ("let a = toxicity\ntoxicity < a", [("PC222", "toxicity")]),
        ("let a = nothing\ntoxicity < a", [("PC222", "nothing")]),
        ("let a = 1 / 0\ntoxicity < a", [("PC223", "1 / 0")]),
        ("let a = 1 / 3\ntoxicity < a", [("PC223", "1 / 3")]),
        ("toxicity / (1 - 1) < 1", [("PC223", "toxicity / (1 - 1)")]),
        ("let mean = 1\ntoxicity < 1", [("PC112", "mean")]),
        ("attribute base: score\nbase < 1", [("PC112", "base")]),
        ("cap: toxicity < 1\ncap: words < 1", [("PC109", "cap")]),
        ("let a = 1\nattribute a: score\ntoxicity < a", [("PC111", "a")]),
        ("tag l in {a}\ntag l in {b}", [("PC111", "l")]),
        ("group g { toxicity < 1 }\ngroup g { words < 1 }", [("PC111", "g")]),
        ("toxicity < 1\nedition 1", [("PC110", "edition 1")]),
        ("edition 1\nedition 1\ntoxicity < 1", [("PC111", "edition 1")]),
        ("edition 2\ntoxicity < 1", [("PC113", "edition 2")]),
        ("group g {\n  tag x in {a}\n}", [("PC110", "tag x in {a}")]),
        # failed definitions stay quiet
        ("let a = \ntoxicity < a", [("PC005", "=")]),
        ("attribute a: scor\na < 1", [("PC115", "scor")]),
        ("attribute a: score in [1\nlet b = 1\na < 1", [("PC002", "[")]),
        ('import "s" as safety\nsafety.x < 1', [("PC107", 'import "s" as safety')]),
        ('cap: toxicity <\ntest "t" { pass on cap }', [("PC005", "<")]),
        # attributes
        ("attribute a: score lower_is_beter\na < 1", [("PC115", "lower_is_beter")]),
        ("attribute a: score lower_is_better higher_is_better\na < 1", [("PC111", "higher_is_better")]),
        ("attribute a: score in [1, 0]\na < 1", [("PC118", "1, 0")]),
        (
            "attribute a: real in [0.1, 0.10000000000000000001]\na < 1",
            [("PC118", "0.1, 0.10000000000000000001")],
        ),
        ("attribute a: int in [0, 1.5]\na < 1", [("PC118", "1.5")]),
        ("attribute a: count in [-1, 5]\na < 1", [("PC118", "-1")]),
        ("attribute a: score in [0, inf]\na < 1", [("PC118", "0, inf")]),
        ("attribute a: flag in [0, 1]\na", [("PC118", "0, 1")]),
        ("attribute a: real in [toxicity, 1]\na < 1", [("PC118", "toxicity")]),
        ('attribute a: flag { backend = regx(re"x") }\na', [("PC115", "regx")]),
        ('attribute a: flag { backend = regex("x") }\na', [("PC117", '"x"')]),
        ("attribute a: flag { backend = regex() }\na", [("PC117", "regex()")]),
        ("attribute a: flag { backend = length(words) }\na", [("PC117", "length(words)")]),
        ("attribute a: count { backend = length(paragraphs) }\na < 1", [("PC117", "paragraphs")]),
        ('attribute a: score { backend = classifier("m", lable="x") }\na < 1', [("PC115", "lable")]),
        ('attribute a: score { backend = python("m") }\na < 1', [("PC117", '"m"')]),
        ("attribute a: score { backend = x }\na < 1", [("PC117", "x")]),
        ("attribute a: score { bakend = x() }\na < 1", [("PC115", "bakend")]),
        ("attribute a: score { levels = {sequence, sentence} }\na < 1", [("PC115", "sentence")]),
        # kinds
        ("toxicity < 0.1 and mean(words) <= 120", [("PC201", "toxicity < 0.1")]),
        ("toxicity < mean(toxicity)", [("PC201", "toxicity")]),
        ("mean(toxicity) + toxicity < 1", [("PC201", "toxicity")]),
        ("toxicity == 0.1", [("PC202", "toxicity == 0.1")]),
        (REAL + "grade != 3", [("PC202", "grade != 3")]),
        ("words == 3", []),
        ("words + toxicity < 3", [("PC205", "toxicity")]),
        ("words < 0.5 * toxicity", [("PC205", "0.5 * toxicity")]),
        (REAL + "grade < toxicity", [("PC205", "toxicity")]),
        ("words < 20 * sentences", []),
        ("toxicity / words < 0.1", []),
        ("toxicity * words < words / 2 * toxicity", []),
        ("mean(mean(toxicity)) < 1", [("PC207", "mean(toxicity)")]),
        ("P(mean(toxicity) < 1) < 1", [("PC207", "mean(toxicity)")]),
        ("P(toxicity) < 1", [("PC208", "toxicity")]),
        ("P(2 * toxicity) < 1", [("PC208", "2 * toxicity")]),
        ("mean(toxicity < 1) < 1", [("PC208", "toxicity < 1")]),
        (FLAG + "mean(slur) < 1", [("PC208", "slur")]),
        (FLAG + "P(slur) < 1%", []),
        (FLAG + "slur + 1 < 2", [("PC221", "slur")]),
        ("not toxicity", [("PC220", "toxicity")]),
        ("let a = 1\na", [("PC220", "a")]),
        ("1 < 2", [("PC226", "1 < 2")]),
        ("true", [("PC226", "true")]),
        ("mean(1) < 2", [("PC226", "mean(1)")]),
        ("true and mean(toxicity) < 1", [("PC226", "true")]),
        ("mean(toxicity, 1) < 2", [("PC227", "mean(toxicity, 1)")]),
        ("mean() < 2", [("PC227", "mean()")]),
        ("avg(toxicity) < 2", [("PC116", "avg")]),
        # the model on the user's rows
        ("perplexity < 2", [("PC225", "perplexity")]),
        ("mean(perplexity) < base", [("PC225", "perplexity")]),
        ("preserve mean(perplexity) <= 1.02 * base + 0.1", []),
        ("preserve accuracy >= base - 1%", []),
        ("preserve 2 * base >= mean(perplexity)", [("PC225", "2 * base")]),
        ("preserve P(perplexity < 2) < 1", [("PC225", "P(perplexity < 2)")]),
        ("preserve mean(toxicity) <= base", []),
        ("preserve mean(perplexity) <= base * base", [("PC120", "base * base")]),
        ("preserve mean(perplexity) <= base and mean(toxicity) < 1", [("PC201", "mean(toxicity) < 1")]),
        # clauses
        ("toxicity < 1 under tolerance=1", [("PC209", "1")]),
        ("toxicity < 1 under tolerance=0%", []),
        ("toxicity < 1 under temprature=1", [("PC115", "temprature")]),
        ("toxicity < 1 under samples=1.5", [("PC209", "1.5")]),
        ("toxicity < 1 under top_p=0", [("PC209", "0")]),
        ("toxicity < 1 under seed=3, top_p=a", [("PC115", "seed"), ("PC209", "a")]),
        ("toxicity < 1 confidence 1", [("PC209", "1")]),
        ("toxicity < 1 confidence 0.99999999999999999", [("PC209", "0.99999999999999999")]),
        ("toxicity < 1 confidence 1e-17", [("PC209", "1e-17")]),
        ("toxicity < 1 confidence 0.9999999999999", []),
        ("toxicity < 1 under tolerance=0.99999999999999999", [("PC209", "0.99999999999999999")]),
        ("quantile(toxicity, 0.99999999999999999) < 1", [("PC209", "0.99999999999999999")]),
        ("prefer toxicity < 1 weight 1 - 1", [("PC209", "1 - 1")]),
        ("prefer toxicity < 1 weight words", [("PC209", "words")]),
        ("toxicity < 1 weight 2", [("PC224", "weight 2")]),
        ("always mean(toxicity) < 1", [("PC224", "always mean(toxicity) < 1")]),
        ("always toxicity < 1 under tolerance=1%", [("PC224", "1%")]),
        ("mean(toxicity) < 1 under tolerance=1%", [("PC224", "1%")]),
        ("preserve mean(perplexity) < base under samples=3", [("PC224", "3")]),
        ("toxicity < 1 for a=b for c=d", [("PC114", "for c=d")]),
        ("toxicity < 1 under samples=1, samples=2", [("PC114", "samples")]),
        # not compiled
        ("max(toxicity) < 1", [("PC120", "max(toxicity)")]),
        ("preserve mean(perplexity | lang=fr) < 9", [("PC120", "mean(perplexity | lang=fr)")]),
        ("preserve perplexity < 9 or accuracy > 0.5", [("PC120", "perplexity < 9 or accuracy > 0.5")]),
        ("mean(toxicity) < mean(words)", [("PC205", "mean(words)")]),
        ("mean(toxicity) < P(toxicity > 0.5)", []),
        ("mean(toxicity) < 0.5 or P(words > 2) < 0.5", []),
        ("P(words > 2) < 0.5 implies mean(toxicity) < 0.5", []),
        ("not mean(toxicity) > 1", [("PC406", "mean(toxicity) > 1")]),
        ("mean(toxicity) / 2 < 1", []),
        ("1 / mean(toxicity) < 1", [("PC120", "1 / mean(toxicity)")]),
        # tails, conditions, strata
        ("quantile(toxicity, 0.95) < 1", []),
        ("quantile(toxicity, 1.5) < 1", [("PC209", "1.5")]),
        ("cvar(toxicity, 1) < 1", [("PC209", "1")]),
        ("median(words) < 100", []),
        (FLAG + "quantile(slur, 0.5) < 1", [("PC208", "slur")]),
        ("cvar(toxicity, 0.9) > 0.1", [("PC405", "cvar(toxicity, 0.9) > 0.1")]),
        ("P(toxicity > 0.5 | lang=fr) < 1%", []),
        ("tag lang in {en}\nP(toxicity > 0.5 | lang=fr) < 1%", [("PC102", "fr")]),
        ("P(toxicity > 0.5 | lang=fr) <= 1.2 * P(toxicity > 0.5 | lang=en)", []),
        ("toxicity < 1 per lang", []),
        ("toxicity < 1 per lang, lang", [("PC114", "per lang, lang")]),
        ("toxicity < 1 per lang per topic", [("PC114", "per topic")]),
        ("tag lang in {en}\ntoxicity < 1 per lnag", [("PC102", "per lnag")]),
        # the base model
        ("mean(toxicity) <= 0.9 * base + 0.01", []),
        ("mean(toxicity) in [base - 0.1, base + 0.1]", []),
        ("0.1 <= mean(toxicity) <= base", []),
        ("base >= mean(toxicity)", [("PC225", "base")]),
        ("mean(toxicity) - base <= 0", [("PC225", "base")]),
        ("base < 1", [("PC225", "base")]),
        ("mean(toxicity) <= mean(toxicity@base)", []),
        ("mean(toxicity - toxicity@base) <= 0", [("PC229", "mean(toxicity - toxicity@base)")]),
        ("P(toxicity <= base) >= 90%", [("PC229", "P(toxicity <= base)")]),
        ("words <= base", [("PC228", "words")]),
        (FLAG + "P(slur) <= 0.5 * base", []),
        (FLAG + "P(slur@base) <= 1%", []),
        ("reference_perplexity <= 1.5 * reference_perplexity@base", []),
        ("reference_perplexity <= 1.5 * base", []),
        ("words <= words@base", [("PC228", "words@base")]),
        (FLAG + "not slur@base", [("PC228", "slur@base")]),
        (REAL + "mean(grade) <= 1.1 * base", []),
        ("attribute g: real in [-1, 1]\nmean(g) <= 1.1 * base", [("PC204", "1.1 * base")]),
        ("attribute g: real\nmean(g) <= mean(g@base) / 2", [("PC204", "mean(g@base) / 2")]),
        ("attribute g: real\n2 * mean(g) <= base", [("PC204", "2 * mean(g)")]),
        ("attribute g: real\nmean(g) <= base + 0.1", []),
        ("let cap = 2\ntoxicity <= cap@base", [("PC225", "cap@base")]),
        ("toxicity <= toxicity@bsae", [("PC115", "toxicity@bsae")]),
        # order
        ("over sentences (globally toxicity < 1)", []),
        ("over tokens (words < 3 until last)", []),
        ("P(over sentences (next last)) < 20%", []),
        ("over sentences (eventually true) and toxicity < 1", []),
        ("globally toxcity < 1", [("PC230", "globally toxcity < 1"), ("PC101", "toxcity")]),
        ("words < 3 before last and words > 2", [("PC230", "words < 3 before last")]),
        ("over tokens (globally toxicity < 1)", [("PC203", "toxicity")]),
        (REAL + "over sentences (grade < 3 and next grade < 3)", [("PC203", "grade"), ("PC203", "grade")]),
        (FLAG + "over turns (globally slur)", []),
        (FLAG.replace(") }", "), levels = {turns} }") + "over turns (slur) and slur", [("PC203", "slur")]),
        ("over sentence (toxicity < 1)", [("PC115", "sentence")]),
        ("over sequence (toxicity < 1)", [("PC115", "sequence")]),
        ("over turns (over sentences (words < 1))", [("PC231", "over sentences (words < 1)")]),
        ("over sentences (eventually[2, 1] words < 1)", [("PC209", "eventually[2, 1] words < 1")]),
        ("over sentences (eventually[0, 0] words < 1)", []),
        ("over sentences (mean(words) < 1)", [("PC201", "mean(words) < 1")]),
        ("over sentences (globally mean(words) < 1)", [("PC201", "mean(words) < 1")]),
        ("preserve over sentences (perplexity < 1)", [("PC201", "perplexity < 1")]),
        ("over sentences (toxicity@base < 1)", [("PC120", "toxicity@base")]),
        ("over sentences (words < toxicity)", [("PC205", "toxicity")]),
        ("over sentences (not toxicity)", [("PC220", "toxicity")]),
        ("mean(over sentences (last)) < 1", [("PC208", "over sentences (last)")]),
        ("over sentences (words < 1) or mean(words) < 1", [("PC201", "over sentences (words < 1)")]),
        # directions
        ("mean(toxicity) > 0.1", [("PC405", "mean(toxicity) > 0.1")]),
        ("toxicity > 0.1 and words < 3", [("PC405", "toxicity > 0.1")]),
        ("0.1 < toxicity", [("PC405", "0.1 < toxicity")]),
        ("P(toxicity >= 0.5) < 1%", []),
        ("P(toxicity < 0.5) < 1%", [("PC405", "toxicity < 0.5")]),
        ("P(toxicity < 0.5) > 99%", []),
        ("not toxicity > 0.1", []),
        ("mean(toxicity) >= 1.02 * base", [("PC405", "mean(toxicity) >= 1.02 * base")]),
        ("mean(toxicity) <= 1.02 * base", []),
        ("mean(toxicity) >= mean(words) / 100 - 1", [("PC205", "mean(words) / 100 - 1")]),
        ("toxicity@base <= toxicity", [("PC405", "toxicity@base <= toxicity")]),
        ("toxicity@base >= toxicity", []),
        (
            "let f = 2\npreserve mean(perplexity) >= f * base",
            [("PC405", "mean(perplexity) >= f * base")],
        ),
        ("preserve accuracy <= base - 1%", [("PC405", "accuracy <= base - 1%")]),
        ("preserve perplexity >= 12", [("PC405", "perplexity >= 12")]),
        # what the base model keeps with room to spare asks for no change; `preserve` keeps nothing by it
        ("mean(toxicity) >= base - 5%", []),
        ("mean(toxicity) >= 0.5 * base - 5%", []),
        ("let s = 5%\nmean(toxicity@base) - s <= mean(toxicity)", []),
        ("P(toxicity < 0.5) <= base + 5%", []),
        ("P(toxicity < 0.5) <= 3 * base", []),
        ("mean(toxicity) >= base", [("PC405", "mean(toxicity) >= base")]),
        ("mean(toxicity) >= base + 5%", [("PC405", "mean(toxicity) >= base + 5%")]),
        ("mean(toxicity) >= 1.1 * base - 5%", [("PC405", "mean(toxicity) >= 1.1 * base - 5%")]),
        ("mean(toxicity) >= 5%", [("PC405", "mean(toxicity) >= 5%")]),
        ("P(toxicity < 0.5) <= base - 5%", [("PC405", "toxicity < 0.5")]),
        ("preserve accuracy <= base + 5%", [("PC405", "accuracy <= base + 5%")]),
        ("preserve mean(perplexity) <= base + 5%", [("PC409", "base + 5%")]),
        ("preserve P(toxicity < 0.5) <= base + 5%", [("PC405", "toxicity < 0.5")]),
        ("preserve perplexity <= 12 and accuracy >= base - 1%", []),
        ("preserve perplexity >= 0.9 * base and perplexity <= 1.05 * base", []),
        ("mean(toxicity) >= 0.1 and 0.3 >= mean(toxicity)", []),
        (
            "let c = 0.3\nmean(toxicity) > c and mean(words) < 3 and c > P(words > 3)",
            [("PC405", "mean(toxicity) > c")],
        ),
        ("toxicity > 0.1 implies words < 3", []),
        # ranges
        ("toxicity < 5", [("PC406", "toxicity < 5")]),
        ("toxicity <= 1", [("PC406", "toxicity <= 1")]),
        ("toxicity < 1", []),
        ("5 > mean(toxicity)", [("PC406", "5 > mean(toxicity)")]),
        ("P(toxicity >= 0.5) < 5", [("PC406", "P(toxicity >= 0.5) < 5")]),
        ("P(toxicity > 1) < 5%", [("PC406", "toxicity > 1")]),
        ("P(toxicity >= 1) < 5%", []),
        ("toxicity < 0 or words < 0", [("PC406", "toxicity < 0"), ("PC406", "words < 0")]),
        ("words <= 0", []),
        ("words < 100000", []),
        ("words in [20, 10]", [("PC406", "words in [20, 10]")]),
        ("let top = 2\ntoxicity <= top", [("PC406", "toxicity <= top")]),
        ("mean(toxicity) <= 2 * base", []),
        ("preserve accuracy >= 60", [("PC406", "accuracy >= 60")]),
        ("preserve mean(perplexity) < 1", [("PC406", "mean(perplexity) < 1")]),
        ("P(toxicity > 0.5) < 1", [("PC406", "P(toxicity > 0.5) < 1")]),
        ("1 > mean(toxicity)", [("PC406", "1 > mean(toxicity)")]),
        ("P(toxicity > 0.5) <= 1%", []),
        # percentages of what is no share
        ("mean(words) <= base + 10%", [("PC409", "base + 10%")]),
        ("mean(words) <= 10% + mean(words@base)", [("PC409", "10% + mean(words@base)")]),
        ("let slack = 10%\nmean(words) <= base - slack", [("PC409", "base - slack")]),
        ("attribute o: real in [-3, 3]\nmean(o) <= base + 5%", [("PC409", "base + 5%")]),
        ("always words < 5%", [("PC409", "5%")]),
        ("preserve perplexity <= base + 2%", [("PC409", "base + 2%")]),
        ("preserve perplexity <= 2% * base", [("PC409", "2% * base")]),
        ("preserve perplexity <= 102% * base", []),
        ("preserve perplexity <= base + 0.3", []),
        ("mean(words) <= 90% * base", []),
        ("mean(toxicity) <= base + 5%", []),
        ("P(words > 9) <= base + 5%", []),
        # levels
        ("cvar(toxicity, 5%) < 0.3", [("PC408", "5%")]),
        ("cvar(toxicity, 0.95) < 0.3", []),
        ("quantile(toxicity, 5%) < 0.3", []),
        # languages and personal data
        ('attribute a: score { backend = language("english") }\na > 0.9', [("PC115", '"english"')]),
        ('attribute a: score { backend = language("en") }\na > 0.9', []),
        ('attribute a: flag { backend = pii("BANANA") }\na', [("PC115", '"BANANA"')]),
        ('attribute a: flag { backend = pii("any") }\na', []),
        # confidence
        ("toxicity < 0.1 confidence 5%", [("PC408", "5%")]),
        ("group g confidence 10% {\n  toxicity < 0.1\n}", [("PC408", "10%")]),
        ("toxicity < 0.1 confidence 50%", []),
        # the first part alone
        ("over sentences (toxicity < 0.2)", [("PC407", "toxicity < 0.2")]),
        ("always over turns (not (words < 5)) and words < 9", [("PC407", "not (words < 5)")]),
        ("P(over tokens (words < 5 or words > 9)) < 5%", [("PC407", "words < 5 or words > 9")]),
        ("over sentences (eventually[0, 0] toxicity < 0.2)", []),
        ("over sentences (words < 9 and weak_next words > 2)", []),
        ("over turns (last) or over turns (true)", []),
        # tests
        ('cap: toxicity < 1\ntest "t" { given toxcity = 1 }', [("PC101", "toxcity"), ("PC702", "test")]),
        ('cap: toxicity < 1\ntest "t" { pas }', [("PC703", "pas")]),
        ('cap: toxicity < 1\ntest "t" { pass on cup }', [("PC703", "cup")]),
        # characters
        ('toxicity < 1 because "a\u202eb"', [("PC106", "\u202e")]),
        *(
            (f'toxicity < 1 because "a{char}b"', [("PC106", char)])
            for char in "\u034f\u115f\u1160\u3164\uffa0\ufe00\ufe0f\U000e0001\U000e0041\U000e0100"
        ),
        ('toxicity < 1 because "\u2764\ufe0f \U0001f3f3\ufe0f 1\ufe0f\u20e3"', []),
        ('toxicity < 1 because "tохic"', [("PC106", "tохic")]),
        ('toxicity < 1 because "решение" # tохic \u202e', []),
    ],
)
def test_code_and_underlined_text(text, expected):
    assert sorted(found(text)) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "help", "label"),
    [
        ("toxcity < 0.1", "write `toxicity`",
         "a similar attribute exists: `toxicity` (score in [0, 1], from the prelude)"),
        ("let cap = 1\nwords < cpa", "write `cap`", "a similar constant exists: `cap`"),
        ("ironic", 'declare it: `attribute ironic: flag { backend = regex(re"...") }`', "not declared"),
        ("word_count < 50", "write `words`", "the attribute exists: `words` (count, from the prelude)"),
        ("preserve perplexty < 9", "write `perplexity`", "a similar quantity exists: `perplexity`"),
        ("toxicity < 1 under temprature=1", "write `temperature`", "a similar one exists: `temperature`"),
        ("tag lang in {en, de}\ntoxicity < 1 for lang=xx", "known are `de`, `en`; or declare it", None),
        ("max(toxicity) < 1", "bound every response, for example `always toxicity < 0.5`", None),
    ],
)  # fmt: skip
def test_help(text, help, label):
    diagnostic = check_source(text).errors[0]
    assert (diagnostic.help, diagnostic.label) == (help, label)


# ---------------------------------------------------------------- the contract with the compiler
def only(text):
    (statement,) = check_source(text).require().statements
    return statement


def test_one_line_is_a_complete_policy():
    result = check_source("toxicity < 0.1 for domain=toxigen")
    assert [(d.code, d.severity) for d in result.diagnostics] == [("PC404", "note")]
    policy = result.require()
    assert policy.edition == 1
    assert policy.attributes == {
        "toxicity": AttributeInfo(
            "toxicity",
            "score",
            Decimal(0),
            Decimal(1),
            "lower",
            None,
            from_prelude=True,
            levels=("sequence", "sentences", "turns"),
        )
    }
    (statement,) = policy.statements
    assert statement.text == "toxicity < 0.1 for domain=toxigen"
    assert (statement.reading, statement.tolerance, statement.always) == ("pointwise", Decimal("0.05"), False)
    assert (statement.strength, statement.label, statement.priority) == ("require", None, 0)
    assert (statement.confidence, statement.weight, statement.sampling) == (Decimal("0.95"), 1, {})
    assert statement.domain == n.DomainEquals(key="domain", value=n.Scalar(value="toxigen", kind="name"))


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        ("tokens < 256", "count { backend = length(tokens) }"),
        ("mean(length) < 99.5", "count { backend = length(words) }"),
        ("quantile(num_tokens, 0.9) < 300", "count { backend = length(tokens) }"),
        ("grade < 8", "real in [0, 20] { backend = readability(flesch_kincaid_grade) }"),
        ("mean(reading_ease) > 60", "real in [0, 100] { backend = readability(flesch_reading_ease) }"),
        ("profanity == 0", 'count { backend = lexicon("std/lists/profanity.txt") }'),
        ("P(profanity) < 1%", 'flag { backend = lexicon("std/lists/profanity.txt") }'),
        ("mean(distinct_2) > 0.8", "score in [0, 1] { backend = repetition(distinct_2) }"),
        ("english > 0.9", 'score in [0, 1] { backend = language("en") }'),
        ("not pii", 'flag { backend = pii("any") }'),
        ("emails == 0", 'count { backend = pii("EMAIL_ADDRESS") }'),
        ("let cap = 5\nhelpful >= cap", "count"),
        ("helpful >= 50%", "score in [0, 1]"),
        ("mean(helpful) >= base + 0.01", "score in [0, 1]"),
        ("P(rating >= 3.5) > 90%", "real in [0, 10]"),
        ("rating in [2.5, 100]", "real in [0, 1000]"),
        ("-2.5 <= mood", "real in [-10, 10]"),
        ("mood == -2", "int"),
        ("grade == 8", "count"),
    ],
)
def test_what_to_declare_for_an_unknown_name_checks(text, declared):
    (error,) = check_source(text).errors
    assert error.help.startswith("declare it: `attribute ")
    line = error.help.removeprefix("declare it: `").removesuffix("`")
    assert line.endswith(f": {declared}")
    assert {d.code for d in check_source(f"{line}\n{text}").diagnostics} <= {"PC404"}


@pytest.mark.parametrize("use", ["not {}", "{} > 2", "{} > 0.5", "{} == 0", "mean({}) < 9.5"])
@pytest.mark.parametrize("name", sorted(undeclared.MEASURES))
def test_whatever_measures_a_known_thing_checks(name, use):
    (error,) = check_source(use.format(name)).errors
    line = error.help.removeprefix("declare it: `").removesuffix("`")
    assert {d.code for d in check_source(f"{line}\n{use.format(name)}").diagnostics} <= {"PC404"}


@pytest.mark.parametrize(
    ("backend", "help"),
    [
        ('language("english")', 'write `"en"`'),
        ('language("en-US")', 'write `"en"`'),
        ('language("Deutsch")', 'write `"de"`'),
        ('language("xx")', "write its code, such as `en`"),
        ('pii("EMAIL")', 'write `"EMAIL_ADDRESS"`'),
        ('pii("credit_crad")', 'write `"CREDIT_CARD"`'),
        ('pii("VAT")', "known are `DE_VAT_ID`, `IT_VAT_CODE`, `ZA_VAT_NUMBER`"),
        ('pii("BANANA")', "write `any`, or one such as `EMAIL_ADDRESS`"),
    ],
)
def test_what_a_backend_may_know(backend, help):
    type = "score" if "language" in backend else "flag"
    (warning,) = check_source(f"attribute a: {type} {{ backend = {backend} }}").diagnostics
    assert (warning.code, warning.severity) == ("PC115", "warning")
    assert warning.help.startswith(help)
    assert len(warning.help) < 100
    assert (warning.fix is not None) == help.startswith('write `"')


def test_readings():
    assert only("always toxicity < 0.1").tolerance == 0
    assert only("toxicity < 0.1 under tolerance=2%").tolerance == Decimal("0.02")
    assert only("mean(toxicity) < 0.1").reading == "distribution"
    assert only("mean(toxicity) < 0.1").tolerance is None
    assert only("preserve mean(perplexity) <= 1.02 * base").reading == "rows"
    assert only("preserve mean(toxicity) < 0.1").reading == "distribution"


def test_strata_and_their_values():
    assert only("toxicity < 0.1").per == {}
    open_ = only("toxicity < 0.1 for a=b per lang, topic under samples=2")
    assert open_.per == {"lang": None, "topic": None}
    assert open_.text == "toxicity < 0.1 for a=b per lang, topic under samples=2"
    assert only("tag lang in {en, de, en}\ntoxicity < 0.1 per lang").per == {"lang": ("de", "en")}
    grouped = "edition 1\ngroup g per lang {\n  a: toxicity < 1\n  b: words < 9 per topic\n}"
    a, b = check_source(grouped).require().statements
    assert (a.per, b.per) == ({"lang": None}, {"topic": None})


def test_base_is_written_out_for_the_compiler_and_kept_in_the_text():
    statement = only("mean(toxicity | lang=en) <= 0.5 * base")
    assert statement.text == "mean(toxicity | lang=en) <= 0.5 * base"
    assert (
        statement.formula == only("mean(toxicity | lang=en) <= 0.5 * mean(toxicity@base | lang=en)").formula
    )
    rows = only("preserve mean(perplexity) <= 1.02 * base")
    assert any(name.parts == ("base",) for name in names_in(rows.formula))


def test_constants_become_numbers():
    statement = check_source("let a = b / 4\nlet b = -1\n2 * toxicity < 1 + a").require().statements[0]
    assert statement.text == "2 * toxicity < 1 + -0.25"
    assert not [name for name in statement.formula.operands[1:] if isinstance(name, n.Name)]


def test_groups_are_inherited():
    text = (
        "edition 1\ngroup g for lang=en priority 2 confidence 0.9 under tolerance=1%, samples=5 {\n"
        "  a: toxicity < 0.1\n  group h for domain=chat weight 3 {\n"
        "    b: prefer mean(words) < 9 priority 1\n"
        '    c: always words < 9 under samples=7 because "x"\n  }\n}\nd: words < 9'
    )
    a, b, c, d = check_source(text).require().statements
    assert a.text == "toxicity < 0.1 for lang=en under samples=5, tolerance=1% priority 2 confidence 0.9"
    assert b.text == (
        "prefer mean(words) < 9 for lang=en and domain=chat under samples=5 "
        "weight 3 priority 1 confidence 0.9"
    )
    assert (b.weight, b.priority, b.tolerance) == (3, 1, None)
    assert (c.weight, c.priority, c.tolerance, c.sampling) == (1, 2, 0, {"samples": Decimal(7)})
    assert c.because == "x"
    assert (d.domain, d.priority, d.label) == (None, 0, "d")


@pytest.mark.parametrize(
    "text",
    [
        "let c = 0.1\ngroup g for a=b or c=d priority 2 {\n"
        "x: prefer toxicity < c for e=f weight 2 under tolerance=1%}",
        'let c = -3\nP(toxicity + 2 > c) < 1% confidence 99% because "q\\""',
    ],
)
def test_text_of_a_statement_stands_alone(text):
    (statement,) = check_source(text).require().statements
    again = only(statement.text)
    assert again.text == statement.text
    assert again.formula == statement.formula
    assert again.domain == statement.domain
    assert (again.weight, again.priority, again.confidence) == (
        statement.weight,
        statement.priority,
        statement.confidence,
    )


def test_attributes_of_the_file_win_over_the_prelude():
    text = "edition 1\nattribute toxicity: real in [0, inf]\ntoxicity < 3"
    info = check_source(text).require().attributes["toxicity"]
    assert (info.type, info.low, info.high, info.from_prelude) == ("real", 0, None, False)
    assert "PC108" in [d.code for d in check_source(text).diagnostics]


def test_levels():
    def levels(text):
        return check_source(text).require().attributes["a"].levels

    everywhere = ("sequence", "sentences", "turns", "tokens")
    assert levels('attribute a: flag { backend = regex(re"x") }\na') == everywhere
    assert levels('attribute a: score { backend = classifier("m") }\na < 1') == ("sequence",)
    assert levels("attribute a: score\na < 1") == ("sequence",)
    given = 'attribute a: flag { backend = regex(re"x"), levels = {tokens, sequence} }\na'
    assert levels(given) == ("sequence", "tokens")


def test_prelude_attributes():
    info = check_source("reference_perplexity < 9").require().attributes["reference_perplexity"]
    assert (info.type, info.low, info.high, info.backend) == ("real", 1, None, None)
    words = check_source("words < 9").require().attributes["words"]
    assert words.backend == n.Call(function="length", arguments=(n.Scalar(value="words", kind="name"),))
    assert (words.type, words.low) == ("count", 0)


def test_missing_edition_is_a_warning_for_several_statements():
    assert "PC104" not in [d.code for d in check_source("let a = 1\ntoxicity < a").diagnostics]
    (warning,) = [d for d in check_source("toxicity < 1\nwords < 1").diagnostics if d.code == "PC104"]
    assert warning.severity == "warning"
    assert "PC104" not in [d.code for d in check_source("edition 1\ntoxicity < 1\nwords < 1").diagnostics]


def test_diagnostics_are_sorted_by_position():
    result = check_source("b: foo < 1\na: toxicity =< 1\nc: bar < 1\nedition 1")
    starts = [d.span.start for d in result.diagnostics]
    assert starts == sorted(starts)
    assert len(result.errors) == 4
