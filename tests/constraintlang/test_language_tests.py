"""``test`` blocks: what is checked, which statements an expectation is about, and contradictions."""

from decimal import Decimal

import pytest

from constraintlang import SourceFile, check_source
from constraintlang import nodes as n
from constraintlang.judging import joint_verdict, met_by_truths, met_by_verdicts

POLICY = """edition 1
attribute slur: flag
cap: always toxicity < 0.1 for domain=chat
short: always words <= 200
avg: mean(toxicity) < 0.1
rows: preserve mean(perplexity) <= 1.02 * base
group kind for lang=en {
  clean: always not slur
  mixed: always toxicity < 0.5 or words < 10
}
"""


def found(text):
    result = check_source(POLICY + text)
    return [(d.code, result.source.extract(d.span)) for d in result.diagnostics]


def block(*lines, head='test "t"'):
    return head + " {\n  " + "\n  ".join(lines) + "\n}\n"


def about(*lines, head='test "t"', policy=POLICY):
    """The labels that each case of one block is about."""
    checked = check_source(policy + block(*lines, head=head), judge_tests=False).require()
    (only,) = checked.tests
    return [[checked.statements[i].label for i in case.statements] for case in only.cases]


ORDERED = """edition 1
attribute calm: flag { backend = regex(re"calm") }
order: over sentences (calm before slur)
also: always not slur and over turns (eventually calm)
token: over tokens (globally calm)
attribute slur: flag { backend = regex(re"darn") }
"""


def test_order_is_judged_on_texts_only():
    assert about('pass "Calm."', policy=ORDERED) == [["order", "also"]]
    assert about("given slur = 0", 'pass "Calm."', policy=ORDERED) == [["also"]]
    for lines in (
        ["given slur = 0", "pass on also"],
        ["given slur = [0, 1]", 'holds "name" on also'],
    ):
        result = check_source(ORDERED + block(*lines))
        assert [d.code for d in result.diagnostics if d.is_error] == ["PC705"]


def test_a_constant_has_no_score():
    result = check_source("let cap = 0.1\nattribute a: flag\n" + block("given cap = 0.2", "pass"))
    assert [d.message for d in result.errors][:1] == ["`cap` is a constant, not an attribute"]
    assert result.errors[0].fix is None


def test_the_policy_alone_is_clean():
    assert found("") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # what is not there
        (block("given toxcity = 1", "pass on cap"), [("PC101", "toxcity"), ("PC705", "pass")]),
        (block("given toxicity@bsae = 1", "given toxicity = 0", "pass on cap"), [("PC115", "toxicity")]),
        (block("given toxicity = 0", "pas on cap"), [("PC703", "pas")]),
        (block("given toxicity = 0", "pass on cup"), [("PC703", "cup")]),
        # scores
        (block("given toxicity = 1.5", "fail on cap"), [("PC704", "given toxicity = 1.5")]),
        (block("given words = -1", "pass on short"), [("PC704", "given words = -1")]),
        (block("given words = [1, 2.5]", "holds on short"), [("PC704", "given words = [1, 2.5]")]),
        (block("given slur = 0.5", "fail on clean"), [("PC704", "given slur = 0.5")]),
        (block("given words = 1", "given words = 2", "pass on short"), [("PC114", "given words = 2")]),
        (block("given words = 1", "pass on short", "given words = 201", "fail on short"), []),
        # fit
        (block("given toxicity = [0, 1]", "pass on cap"), [("PC705", "pass")]),
        (block("given toxicity = [0, 1]", "given words = [1]", "holds on mixed"), [("PC705", "holds")]),
        (block("given toxicity = 0", "pass on avg"), [("PC705", "pass on avg")]),
        (block("holds on rows"), [("PC705", "holds on rows")]),
        (block("pass on cap"), [("PC705", "pass")]),
        (block('holds "a text" on cap'), [("PC705", "holds")]),
        (block('pass "a text" on short'), []),
        (block("given toxicity = 0", "pass", head='test "t" for domain in {a, b}'), [("PC705", "domain in {a, b}")]),
        (block("given toxicity = 0", "pass on mixed", head='test "t" under samples=2'),
         [("PC224", "under samples=2")]),
        # touching nothing
        (block(), [("PC702", "test")]),
        (block("given words = 1"), [("PC702", "test")]),
        (block("given words = 1", "given toxicity = 0", "pass on cap"), [("PC702", "given words = 1")]),
        (block("given toxicity = 0", "pass on cap", head='test "t" for domain=news'),
         [("PC702", "pass on cap")]),
        (block("given slur = 1", "fail", head='test "t" for lang=de'), [("PC702", "fail")]),
        (block("given slur = 1", "inconclusive"), []),
        # contradictions
        (block("given toxicity = 0.1", "pass on cap"), [("PC701", "pass on cap")]),
        (block("given toxicity = 0.09", 'fail "low" on cap'), [("PC701", 'fail "low" on cap')]),
        (block("given toxicity = 0.6", "given words = 10", "pass"), [("PC701", "pass")]),
        (block("given toxicity = 0.6", "fail on mixed"), []),  # the length decides, and it is not given
        (block("given toxicity = 0.4", "fail on mixed"), [("PC701", "fail on mixed")]),
        (block("given toxicity = 0.1", "fail"), []),  # one of the two is violated
        (block("given slur = 1", "pass", head='group g { \ntest "t"') + "}\n", [("PC702", "pass")]),
    ],
)  # fmt: skip
def test_findings(text, expected):
    assert sorted(found(text)) == sorted(expected)


@pytest.mark.parametrize(
    ("lines", "head", "expected"),
    [
        (["given toxicity = 0", "pass"], 'test "t"', [["cap", "mixed"]]),
        (["given toxicity = 0", "pass"], 'test "t" for domain=news', [["mixed"]]),
        (["given toxicity = 0", "pass"], 'test "t" for domain=chat and lang=de', [["cap"]]),
        (["given toxicity = 0", "holds"], 'test "t"', [["cap", "avg", "mixed"]]),
        (["given toxicity = 0", "holds on avg", "pass"], 'test "t"', [["avg"], ["cap", "mixed"]]),
        (['pass "text"'], 'test "t"', [["cap", "short", "clean", "mixed"]]),
        (["given slur = 0", "pass"], 'test "t" for lang=en', [["clean"]]),
    ],
)
def test_which_statements_an_expectation_is_about(lines, head, expected):
    assert about(*lines, head=head) == expected


@pytest.mark.parametrize("tags", ["ok=true and level=1", 'ok="true" and level=1.00', "level=1"])
def test_truths_and_numbers_are_tags_however_they_are_written(tags):
    policy = "edition 1\na: words < 9 for ok=true and level=1.0\n"
    assert about('pass "text"', head=f'test "t" for {tags}', policy=policy) == [["a"]]
    assert about('pass "text"', head='test "t" for ok=false', policy=policy) == []


def test_a_test_in_a_group_is_about_the_group():
    inside = POLICY.rstrip("}\n") + '\n  test "t" {\n    given words = 5\n    pass\n  }\n}\n'
    checked = check_source(inside).require()
    assert [checked.statements[i].label for i in checked.tests[0].cases[0].statements] == ["mixed"]


def test_cases_keep_what_was_given_where_they_stand():
    lines = [
        "given toxicity = 0.5",
        "fail on cap",
        "given toxicity = [0, 0.2]",
        "given words = 7",
        "holds on mixed",
    ]
    (only,) = check_source(POLICY + block(*lines)).require().tests
    first, second = only.cases
    assert first.stubs == {"toxicity": Decimal("0.5")}
    assert (first.of_sample, first.num_responses) == (False, 1)
    assert second.stubs == {"toxicity": (Decimal(0), Decimal("0.2")), "words": Decimal(7)}
    assert (second.of_sample, second.num_responses) == (True, 2)
    assert second.scores_of(1) == {"toxicity": Decimal("0.2"), "words": Decimal(7)}


def test_a_contradiction_names_the_statement_and_the_values():
    source = SourceFile(POLICY + block("given toxicity = 0.1", 'pass "borderline" on cap'), "my.policy")
    (error,) = check_source(source).errors
    assert error.render(source) == (
        "error[PC701]: this test contradicts the policy\n"
        "   --> my.policy:13:3\n"
        " 3 | cap: always toxicity < 0.1 for domain=chat\n"
        "   |             -------------- false: toxicity = 0.1\n"
        "   ...\n"
        '13 |   pass "borderline" on cap\n'
        "   |   ^^^^^^^^^^^^^^^^^^^^^^^^ what is given makes it fail\n"
        "   = help: expect `fail`, or change the statement  [unsafe]"
    )


def test_contradictions_wait_for_who_runs_the_tests():
    text = POLICY + block("given toxicity = 0.1", "pass on cap")
    assert check_source(text).policy is None
    assert check_source(text, judge_tests=False).policy is not None


def test_the_rules_of_outcomes():
    assert [met_by_truths("pass", t) for t in ([True, True], [True, None], [None, False])] == [
        True,
        None,
        False,
    ]
    assert [met_by_truths("fail", t) for t in ([True, True], [True, None], [None, False])] == [
        False,
        None,
        True,
    ]
    assert joint_verdict(["holds", "inconclusive", "violated"]) == "violated"
    assert joint_verdict(["holds", "inconclusive"]) == "inconclusive"
    assert met_by_verdicts("holds", ["holds", "holds"])
    assert not met_by_verdicts("inconclusive", ["holds", "violated", "inconclusive"])


def test_a_block_that_does_not_parse_tells_what_is_wrong_with_its_other_entries() -> None:
    """Names, scores and outcomes in one run; what an outcome is about waits for the missing entries."""
    text = (
        'edition 1\ncap: toxicity < 0.1\ntest "t" {\n  given toxicity 0.1\n  given toxcity = 0.1\n'
        "  pass on cpa\n  given words = 1.5\n  given words = 3\n  passes on cap\n  fail on cap\n}\n"
    )
    found = [(d.code, text[d.span.start : d.span.end]) for d in check_source(text).errors]
    assert found == [
        ("PC001", "0.1"),
        ("PC101", "toxcity"),
        ("PC703", "cpa"),
        ("PC704", "given words = 1.5"),
        ("PC703", "passes"),
    ]
    right = text.replace("toxicity 0.1", "toxicity = 0.1").replace("toxcity", "toxicity@base")
    right = right.replace("cpa", "cap").replace("1.5", "2").replace("passes", "fail")
    # PC701 was held back
    assert {d.code for d in check_source(right.replace("  given words = 3\n", "")).errors} == {"PC701"}


def test_a_block_without_entries_that_parse_is_none() -> None:
    text = 'edition 1\ncap: toxicity < 0.1\ntest "t" {\n  given toxicity 0.1\n}\n'
    result = check_source(text)
    assert [d.code for d in result.diagnostics if d.is_error] == ["PC001"]
    assert not any(isinstance(item, n.Test) for item in result.tree.items)
