"""What to say where the text stops being a policy: situations, each with texts that must produce it."""

from __future__ import annotations

from constraintlang import list_mistakes as lists
from constraintlang import operator_mistakes as operators
from constraintlang import prompt_mistakes as prompts
from constraintlang import reserved_mistakes as reserved
from constraintlang import word_mistakes as words
from constraintlang import wording
from constraintlang.diagnostics import Diagnostic
from constraintlang.sentences import sentence
from constraintlang.situations import Mistake, Situation


def explain(situation: Situation) -> Diagnostic:
    """The message for a place where an item does not fit the grammar."""
    for mistake in MISTAKES:
        found = mistake.recognise(situation)
        if found is not None:
            return Diagnostic(
                mistake.code, "error", found.span, found.message, help=found.help, fix=found.fix
            )
    return _expected_something_else(situation)


def _expected_something_else(s: Situation) -> Diagnostic:
    wanted = wording.expected_phrase(s.expected)
    if s.at_end:
        message, span = f"the line ends here, but {wanted} should follow", s.span(-1, -1)
    else:
        message, span = f"expected {wanted}, found {wording.found_phrase(s.type(), s.text())}", s.span()
    return Diagnostic("PC001", "error", span, message, help=sentence(s.place))


MISTAKES: tuple[Mistake, ...] = (
    Mistake("PC008", operators.open_string, ('a < 1 because "never', 'import "x')),
    Mistake("PC007", operators.foreign_comment, (
        "// the rules", "/* the rules */", "a < 1 // the cap", "-- the rules of it", "a < 1 -- never more",
    )),
    Mistake("PC007", operators.markup, (
        "<<<<<<< HEAD", "=======", ">>>>>>> theirs", "```policy", "```", "a &lt; 1", "a &ge; 1", "a < 1 &amp; b < 1",
    )),
    Mistake("PC004", reserved.compared_truth, (
        "a == false", "a != true", "a = true", "a is false", "true == a", "x.a == false and b < 1",
    )),
    Mistake("PC001", prompts.tag_as_condition, (
        "c: lang = de implies a", 'not lang="de"', "P(a < 1 and lang=de) < 1", 'lang == "de" implies a < 1',
        "a < 1 or lang in {de}", "domain = x implies a < 1", 'c: domain == "x" implies a < 1', "a and domain in {x}",
    )),
    Mistake("PC004", operators.misspelt_comparison, (
        "a =< 1", "a => 1", "a = 1", "a <> 1", "a === 1", "a !== 1", "a < = 1", "a < 1 for domain == x",
        "a >> 1", "a =! 1", "a < 1 confidence=0.9", "a < 1 priority: 1", "a < 1 because='x'",
    )),
    Mistake("PC001", words.hyphenated_name, (
        "attribute self-harm: score", "let a-b = 1", "tag my-tag in {a}", "group safe-core { a < 1 }", "my-cap: a < 1",
        "a < 1 for domain=my-chat", "a < 1 for my-tag=x", 'test "t" { pass on my-cap }',
    )),
    Mistake("PC001", words.label_form, (
        '"cap": a < 1', "no slurs: a < 1", "a: < 1", "a: in [0, 1]", "a < 1 and: b < 1", "a < 1:", "always: a < 1",
    )),
    Mistake("PC006", operators.foreign_operator, (
        "a < 1 && b < 1", "a < 1 || b < 1", "!flag", "a ≤ 1", "a < 1 ∧ b < 1", "a < 1 & b < 1", "a ** 2 < 1",
        "a × 2 < 1", "a → b", "a < 1 | b < 1", "a > 1 -> b", "P(a < 1 || b < 1) < 1",
    )),
    Mistake("PC007", operators.number_form, (
        "a < .5", "a < 1.", "a < 1.2.3", "a < 5 %", "a < 0,1", "a < 1,000", "a < 1_000", "a < 1 under tolerance=%5",
        "a < 1e-5%", "a < 5%%",
    )),
    Mistake("PC001", prompts.repeated_for, ("a < 1 for domain=x and for lang=y", "a < 1 for for domain=x")),
    Mistake("PC005", operators.nothing_follows, (
        "a <", "a < 1 and", "mean(a) + ", "a < 1 for", "a < 1 weight", "let x =", "always", "cap:", "not",
        "a <\nlet x = 1", "a < for domain=x", "a < 1 and or b < 1", "(a < ) and b < 1", "a < 1 for domain=",
        "a < 1 under", "require", "a in", "let", "a@", "P(a|) < 1",
    )),
    Mistake("PC001", prompts.all_prompts, ("a < 1 for all", "a < 1 for any weight 2", "a < 1 for *", "a < 1 for true")),
    Mistake("PC005", operators.missing_operand, (
        "< 0.1", "and a < 1", "a < < 1", "a < 1 and <= 2", "* a < 1", "a < * 2", "or a < 1",
    )),
    Mistake("PC007", operators.unknown_character, (
        "a < 1;", "a $ 1", "a < 'x'", "тoxicity < 1", "a < 1 ? b", "`a` < 1", "a < 1 \u2028", "a < “x”",
    )),
    Mistake("PC001", reserved.clause_first, (
        "for domain=x a < 1", "for lang in {x, y}: a < 1", "per lang a < 1", "cap: for domain=x a < 1", "for domain=x",
        "for domain=x { }",
    )),
    Mistake("PC001", words.pattern_as_condition, (
        'not re"a+"', 'c: always not re"a+" for lang=en', 're"a+"', 'a < 1 and re"a+"', 'P(not re"a+") < 1',
        'attribute a: flag { backend = not re"a+" }', 'attribute a: flag { backend = not regex(re"a+") }',
        'attribute a: flag { backend = regex(not re"a+") }', 'over sentences (globally not re"a")',
    )),
    Mistake("PC009", reserved.misplaced_word, (
        "always require a < 1", "over sentences (always a)", "a < 1 and always b", "a < 1 and prefer b < 1",
        "a < 1 per domain", "a < 1 per lang, domain",
    )),
    Mistake("PC009", reserved.reserved_word, (
        "a < 1 for domain=test", "let and = 1", "tag lang in {en, or}", "group test { }", "a < 1 for group=x",
        "attribute for: score", "a < 1 for and b < 1 for domain = x",
    )),
    Mistake("PC001", words.wrong_case, ("a < 1 AND b < 1", "LET x = 1", "a < 1 For domain=x", "NOT flag")),
    Mistake("PC001", lists.range_in_words, (
        "a between 1 and 2", "a from 1 to 2", "a in 3", "a in {1, 2}", "a in 1 to 2", "a in (1, 2)",
    )),
    Mistake("PC001", words.never, (
        "never a", "no a", "never a < 1 and b", "over sentences (never a)", "a and never b",
    )),
    Mistake("PC001", words.backend_as_condition, ('not pii("any")', 'always not regex(re"a")')),
    Mistake("PC001", words.foreign_word, (
        "if a < 1", "a is less than 1", "a < 1 unless b < 1", "a < 1 where domain=x", "version 1",
        "a < 5 percent", "from x import y", "if domain == chat", "a < 1 then b", "must not a", "a xor b", "5% of a < 1",
    )),
    Mistake("PC001", prompts.setting_form, (
        "a < 1 tolerance 5%", "a < 1 temperature=0", "a < 1 samples=5 top_p=1", "a < 1 under samples=5 top_p=1",
    )),
    Mistake("PC001", words.statistic_form, ("E[a] < 1", "mean a < 1", "avg a < 1", "mean[a] < 1")),
    Mistake("PC001", words.misspelt_keyword, (
        "a < 1 wieght 2", "attribut a: score", "editon 1", 'a < 1 becuse "x"', "reqire a < 1",
        "a < 1 adn b < 1",
    )),
    Mistake("PC001", reserved.clauses_first, ("a < 1\nfor domain=x b < 1", "a < 1 weight 2 (b < 1)")),
    Mistake("PC001", words.prose, ("responses are polite", "The model stays polite")),
    Mistake("PC001", prompts.compared_tag, (
        "a < 1 for lang != en", "a < 1 for age < 13", "P(a < 1 | domain != x) < 1",
    )),
    Mistake("PC001", prompts.turned_in, ("a < 1 for lang not in {en}", "a not in [1, 2]")),
    Mistake("PC001", prompts.value_without_tag, (
        "a < 1 for toxigen", "a < 1 for domain=x or y", "P(a > 1 | fr) < 1", "a < 1 for not x",
    )),
    Mistake("PC001", lists.wrong_enclosure, (
        "a < 1 for domain={x, y}", "a < 1 for lang in en", "tag lang in [en]",
        "eventually[3] a",
    )),
    Mistake("PC001", lists.comma_in_a_declaration, (
        "attribute a: score in [0, 1], lower_is_better", "attribute a: flag, { levels = {sequence} }",
    )),
    Mistake("PC001", lists.comma_between_conditions, (
        "a < 1 for domain=x, lang=en", "a < b, b < 2", "a < 1, b < 2", "a in [0, 1], b",
    )),
    Mistake("PC001", lists.comma_at_the_end, ("tag lang in {en, de,}", "f(a,) < 1", "a in [1,]")),
    Mistake("PC001", lists.empty_brackets, (
        "tag lang in {}", "domain x { }", "()", "attribute a: flag {\n}", "a < ()",
    )),
    Mistake("PC001", lists.missing_operator, ("a 0.1", "a < 1 b < 1", "mean(a) 0.1", "a < 1 (b < 1)", "2 a < 1")),
    Mistake("PC001", lists.prefixed_text, (
        'attribute a: flag { backend = regex(r"x") }', 'attribute a: score { backend = judge(f"x") }',
    )),
    Mistake("PC001", lists.missing_comma, ("tag lang in {en de}", "a < 1 for x in {1 2}")),
)  # fmt: skip
"""INVARIANT: the first row that recognises a situation answers; the order is from special to general."""

GENERAL_EXAMPLES = (
    "group { a < 1 }", "attribute a score", "a < 1 priority x", "edition one", "a[0] < 1", "@", "a @ 1 < 2",
    "let 3 = 4", "test clean { }", "a < 1 for domain", "a < 1 per 3", "attribute a: score { backend }",
    "import x", "over (a < 1)", "a < 1 because x", "{ a }", "a..b < 1", "a in [1]", "a in [1, 2, 3]",
    "label: label: a < 1", 'test "x" { given }', "for domain=x", "a,b", "a < 1 under temperature", '"text"', "a ~ 1",
    "edition 1.5", "a < 1 confidence x",
)  # fmt: skip
"""Texts that meet the general message."""
