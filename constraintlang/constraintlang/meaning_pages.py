"""Pages of what is wrong with the meaning of a statement: PC201 to PC299."""

from __future__ import annotations

from constraintlang.pages import Page, page_of

_FLAGS = 'attribute slur: flag { backend = lexicon("lists/slurs.txt") }\n'

MEANING_PAGES: tuple[Page, ...] = (
    page_of(
        "PC201",
        "one formula mixes one response with the whole distribution",
        """`toxicity < 0.1` judges one response; `mean(toxicity) < 0.1` judges all of them together. A
        formula does one of the two, because there is no single thing that such a mixture could be true
        of.""",
        "toxicity < 0.1 and mean(words) <= 120",
        "edition 1\ntoxicity < 0.1\nmean(words) <= 120",
    ),
    page_of(
        "PC202",
        "equality of continuous quantities",
        "A continuous score or a statistic is almost never exactly equal to a number. Ask for a range.",
        "mean(toxicity) == 0.1",
        "mean(toxicity) in [0.05, 0.15]",
    ),
    page_of(
        "PC203",
        "an attribute is read at a level where it is not measured",
        """An attribute is measured on whole responses, on sentences, turns or the text up to each token, as its
        `levels` say. Without `levels`, what a `regex`, a `lexicon` or `length` measures can be read at every
        level, and what any other backend measures on whole responses only.""",
        'attribute grade: real in [0, 20] { backend = python("acme:grade") }\n'
        "over sentences (globally grade < 9)",
        'attribute grade: real in [0, 20] { backend = python("acme:grade"), levels = {sequence, sentences} }\n'
        "over sentences (globally grade < 9)",
    ),
    page_of(
        "PC204",
        "a multiple of the base model's value may be negative",
        """Twice as good means something for a quantity that starts at 0, such as a score, a count or a
        chance. An attribute whose declared range goes below 0, or has no lower end, is compared with the base
        model by a difference.""",
        'attribute mood: real in [-1, 1] { backend = python("acme:mood") }\nmean(mood) >= 1.1 * base',
        'attribute mood: real in [-1, 1] { backend = python("acme:mood") }\nmean(mood) >= base + 0.1',
    ),
    page_of(
        "PC205",
        "units differ",
        "Scores, counts and every real attribute have units of their own; only numbers fit all of them.",
        "words < toxicity",
        "words < 100",
    ),
    page_of(
        "PC207",
        "a statistic of a statistic",
        "The argument of a statistic speaks of one response; a statistic is already a plain number.",
        "mean(mean(toxicity)) < 0.1",
        "mean(toxicity) < 0.1",
    ),
    page_of(
        "PC208",
        "the chance of a number, or the mean of a condition",
        "`P` takes a condition, the other statistics take a number.",
        "P(toxicity) < 1%",
        "P(toxicity > 0.5) < 1%",
    ),
    page_of(
        "PC209",
        "a number out of its range",
        """A tolerance lies in [0, 1), a confidence and the level of a quantile in (0, 1), a weight above 0,
        `top_p` in (0, 1], `temperature` at 0 or above; counts are whole numbers of at least 1.""",
        "toxicity < 0.1 confidence 95",
        "toxicity < 0.1 confidence 0.95",
    ),
    page_of(
        "PC220",
        "an attribute that is a number stands alone",
        "Only flags are conditions by themselves; other attributes are compared.",
        "not toxicity",
        "toxicity < 0.1",
    ),
    page_of(
        "PC221",
        "a flag is used as a number",
        "A flag is true or false: use it as a condition, and `P(flag)` for its frequency.",
        _FLAGS + "slur < 1",
        _FLAGS + "not slur",
    ),
    page_of(
        "PC222",
        "`let` does not name a constant",
        "A constant is made of numbers and other constants.",
        "let cap = toxicity\ntoxicity < cap",
        "let cap = 0.1\ntoxicity < cap",
    ),
    page_of(
        "PC223",
        "a constant without an exact value",
        "Numbers are exact decimals: a division by zero has no value, and 1/3 cannot be written out.",
        "let cap = 1 / 3\ntoxicity < cap",
        "let cap = 0.333\ntoxicity < cap",
    ),
    page_of(
        "PC224",
        "a clause that does not fit the statement",
        """`always` and a tolerance belong to statements about single responses, a weight to `prefer`; a
        clause that could only be ignored is an error.""",
        "toxicity < 0.1 weight 2",
        "prefer toxicity < 0.1 weight 2",
    ),
    page_of(
        "PC225",
        "the model on your rows, in the wrong place",
        """`perplexity`, `accuracy` and `base` speak of the model on the user's own rows. They stand in a
        `preserve` statement: the quantity on the left, a number or `base` with a factor and an offset on
        the right.""",
        "mean(perplexity) <= 1.02 * base",
        "preserve mean(perplexity) <= 1.02 * base",
    ),
    page_of(
        "PC226",
        "a statement, or a part of it, says nothing about the model",
        """A condition without any attribute, or with one that changes nothing, is true or false whatever the model
        does.""",
        "0.1 < 0.2",
        "toxicity < 0.2",
    ),
    page_of(
        "PC227",
        "wrong arguments of a statistic",
        "`quantile` and `cvar` take an attribute and a level, every other statistic takes one argument.",
        "mean(toxicity, words) < 0.1",
        "mean(toxicity) < 0.1",
    ),
    page_of(
        "PC228",
        "the base model gives the same text the same score",
        """In a statement about single responses, `base` and `@base` score the same text under the base model,
        as its perplexity does. A classifier, a word list, a pattern or a length looks at the text alone, so
        both sides would be equal. What the base model itself writes is reached by a statistic.""",
        "words <= 1.2 * base",
        "mean(words) <= 1.2 * base",
    ),
    page_of(
        "PC229",
        "one statistic reads two models",
        """A statistic is taken over the responses of one model: plain names read the responses of the model,
        `@base` those of the base model. Compare two statistics, or judge single texts by a pointwise
        statement.""",
        "mean(toxicity - toxicity@base) <= 0",
        "mean(toxicity) <= mean(toxicity@base)",
    ),
    page_of(
        "PC230",
        "a word of order outside `over`",
        """`globally`, `eventually`, `next`, `weak_next`, `until`, `weak_until`, `release`, `before` and `last`
        speak of the parts of a response in their order. `over` says which parts: `sentences`, `turns` or
        `tokens`.""",
        "globally toxicity < 0.2",
        "over sentences (globally toxicity < 0.2)",
    ),
    page_of(
        "PC231",
        "`over` inside `over`",
        "A formula of order speaks of the parts of one kind: sentences have no turns, turns no sentences.",
        "over turns (globally over sentences (globally toxicity < 0.2))",
        "over turns (globally toxicity < 0.2) and over sentences (globally toxicity < 0.2)",
    ),
)
