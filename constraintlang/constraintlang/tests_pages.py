"""Pages of what is wrong with the tests of a policy: PC701 to PC799."""

from __future__ import annotations

from constraintlang.pages import Page, page_of

TESTS_PAGES: tuple[Page, ...] = (
    page_of(
        "PC701",
        "a test contradicts the policy",
        """With the scores that the test gives, the statements say the opposite of what it expects. One of the
        two is not what was meant. `constraintc check` finds this for `pass` and `fail`; the outcomes of
        samples are judged by `constraintc test`.""",
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 0.1\n  pass "borderline" on cap\n}',
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 0.1\n  fail "borderline" on cap\n}',
    ),
    page_of(
        "PC702",
        "a test touches no statement",
        """A test that no statement could fail shows nothing. An expectation without `on` is about the
        statements that read a score which is given, and speak of the prompts of the test.""",
        'cap: toxicity < 0.1\ntest "short" {\n  given words = 300\n  fail "long"\n}',
        'cap: toxicity < 0.1 and words < 200\ntest "short" {\n  given words = 300\n  fail "long"\n}',
    ),
    page_of(
        "PC703",
        "a test refers to what is not there",
        "A test names a label and expects `pass`, `fail`, `holds`, `violated` or `inconclusive`.",
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 0.1\n  fail "borderline" on cup\n}',
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 0.1\n  fail "borderline" on cap\n}',
    ),
    page_of(
        "PC704",
        "a test gives a score that no response can have",
        "A score lies in the declared range; counts are whole numbers, and a flag is 0 or 1.",
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 1.5\n  fail "rude" on cap\n}',
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 0.5\n  fail "rude" on cap\n}',
    ),
    page_of(
        "PC705",
        "an outcome does not fit what is given, or the statement",
        """`pass` and `fail` judge one response: they take one number for each score, and a statement about
        single responses. `holds`, `violated` and `inconclusive` judge a sample: lists of one length. A
        statement about your rows is judged by `constraintc eval` only.""",
        'avg: mean(toxicity) < 0.1\ntest "one" {\n  given toxicity = 0.5\n  fail "rude" on avg\n}',
        'avg: mean(toxicity) < 0.1\ntest "many" {\n  given toxicity = [0.5, 0.6, 0.7, 0.8, 0.9]\n'
        "  violated on avg\n}",
    ),
)
