"""One page per diagnostic code of the language: what it means, a policy that meets it, the policy repaired.

The examples are run by the tests; ``constraintc explain CODE`` prints the pages.
"""

from __future__ import annotations

from constraintlang.pages import Page


def page(code: str) -> str:
    r"""The page of a code as plain text; raises KeyError when the language has no such code.

    >>> print(page("PC201").split("\n")[0])
    PC201: one formula mixes one response with the whole distribution
    """
    return PAGES[code.upper()].text()


def _page(code: str, title: str, explanation: str, failing: str, repaired: str) -> Page:
    return Page(code, title, " ".join(explanation.split()), failing, repaired)


_FLAGS = 'attribute slur: flag { backend = lexicon("lists/slurs.txt") }\n'

_ALL = (
    _page(
        "PC001",
        "something else was expected here",
        """The text stops being a policy at the underlined place. The message says in words what may stand
        there. The rest of the item is skipped; every other item of the file is still read and checked.""",
        "cap: toxicity 0.1",
        "cap: toxicity < 0.1",
    ),
    _page(
        "PC002",
        "a bracket is never closed",
        """Inside round and square brackets lines are joined, so a missing bracket would swallow what
        follows. The reader stops at the next line that can only be the beginning of an item, or that could be
        one and is not indented, and blames the innermost bracket.""",
        "cap: mean(toxicity < 0.1\nlength: words < 100",
        "cap: mean(toxicity) < 0.1\nlength: words < 100",
    ),
    _page(
        "PC003",
        "a bracket closes nothing",
        "There is no open bracket of this kind to close.",
        "mean(toxicity)) < 0.1",
        "mean(toxicity) < 0.1",
    ),
    _page(
        "PC004",
        "this is not how a comparison is written",
        """Comparisons are `<`, `<=`, `>`, `>=`, `==` and `!=`. A single `=` sets or matches a value. In a chain
        such as `0.1 < toxicity < 0.2` all signs point the same way.""",
        "toxicity =< 0.1",
        "toxicity <= 0.1",
    ),
    _page(
        "PC005",
        "something is missing beside an operator or a keyword",
        "An operator needs a value on both sides, and a keyword needs what it speaks of.",
        "toxicity <",
        "toxicity < 0.1",
    ),
    _page(
        "PC006",
        "an operator of another language",
        "Conditions are joined by the words `and`, `or`, `implies` and negated by `not`.",
        "toxicity < 0.1 && words < 100",
        "toxicity < 0.1 and words < 100",
    ),
    _page(
        "PC007",
        "a character that means nothing, or a number that is written wrongly",
        """A policy file is UTF-8 text, and plain ASCII outside of quotes and comments. A number begins and ends
        with a digit, and `%` stands directly behind it.""",
        "toxicity < .1;",
        "toxicity < 0.1",
    ),
    _page(
        "PC008",
        "a text is never closed",
        'A text begins and ends with `"` on one line. There, `\\"` is a quote and `\\n` a new line.',
        'toxicity < 0.1 because "counsel asked',
        'toxicity < 0.1 because "counsel asked"',
    ),
    _page(
        "PC009",
        "a reserved word is used as a name",
        "Reserved words cannot be names. As the value of a tag, put the word in quotes.",
        "toxicity < 0.1 for split=test",
        'toxicity < 0.1 for split="test"',
    ),
    _page(
        "PC010",
        "a limit is exceeded",
        """A file holds at most 4 MiB and a million words and signs, a line 100,000 characters, a name 200
        characters, a number 100 digits, and nothing nests more than 200 deep; after 1,000 errors the list of them
        ends. Imports bring at most 100,000 names, tests judge at most 25,000 statements, each counted as often as
        it is judged and a long one as several, a statement has at most 1,000 strata and a policy 100,000 clauses.
        The limits keep a policy that nobody trusts from taking the machine's time.""",
        "toxicity < 0.1e200",
        "toxicity < 0.1",
    ),
    _page(
        "PC011",
        "a number stands where a condition is needed",
        "A statement is true or false; a number has to be compared first.",
        "mean(toxicity)",
        "mean(toxicity) < 0.1",
    ),
    _page(
        "PC012",
        "a condition stands where a number is needed",
        "Arithmetic and comparisons work on numbers only.",
        "(toxicity < 0.1) + 1 < 2",
        "toxicity + 1 < 2",
    ),
    _page(
        "PC013",
        "an unknown escape in a text",
        r"Known escapes are `\"`, `\\`, `\n`, `\t`, `\r` and `\u` with four hexadecimal digits.",
        r'toxicity < 0.1 because "see C:\policy"',
        r'toxicity < 0.1 because "see C:\\policy"',
    ),
    _page(
        "PC014",
        "a line continues the one above it, yet could stand alone",
        """A line that ends with an operator goes on. When the next line would be a statement by itself, one
        of the two readings is not what was meant; begin the line with the operator to say that it
        continues.""",
        "toxicity < 0.1 and\nwords < 100",
        "toxicity < 0.1\nand words < 100",
    ),
    _page(
        "PC101",
        "no attribute has this name",
        """A name in a condition must be an attribute of the file, an attribute that every policy knows, or a
        constant declared with `let`.""",
        "toxcity < 0.1",
        "toxicity < 0.1",
    ),
    _page(
        "PC102",
        "no domain, tag or value has this name",
        """Where a file declares domains, or the values of a tag, a name that is not among them selects no
        prompt. Without such declarations every name is accepted.""",
        "tag lang in {en, de}\ntoxicity < 0.1 for lang=ed",
        "tag lang in {en, de}\ntoxicity < 0.1 for lang=de",
    ),
    _page(
        "PC103",
        "a file imports itself",
        """Imports may share files, but not go in a circle, directly or through other files: what both sides
        need belongs into a file that imports neither. In the example the policy stands in `my.policy`.""",
        'import "my.policy" as my\ntoxicity < my.cap',
        "let cap = 0.1\ntoxicity < cap",
    ),
    _page(
        "PC104",
        "the file does not name its edition",
        "A file of several statements should say which edition of the language it is written in.",
        "toxicity < 0.1\nwords < 100",
        "edition 1\ntoxicity < 0.1\nwords < 100",
    ),
    _page(
        "PC105",
        "a constant is defined by itself",
        "Constants may use each other in any order, but not in a circle.",
        "let a = b\nlet b = 2 * a\ntoxicity < a",
        "let a = b\nlet b = 0.1\ntoxicity < a",
    ),
    _page(
        "PC106",
        "a character that deceives the eye",
        """Invisible characters, characters that turn the direction of writing, and words that mix Latin
        letters with their look-alikes can make two different policies look the same. Comments are not
        searched.""",
        'toxicity < 0.1 because "approved\u202e"',
        'toxicity < 0.1 because "approved"',
    ),
    _page(
        "PC107",
        "an imported file cannot be read",
        """A path that begins with `std/` names a policy of the standard library (`constraintc init --list`).
        Any other path begins at the folder of the file that imports, is written with `/` and ends in
        `.policy`.""",
        'import "std/safty.policy" as safety\nP(safety.self_harm > 0.5) < 0.1%',
        'import "std/safety.policy" as safety\nP(safety.self_harm > 0.5) < 0.1%',
    ),
    _page(
        "PC108",
        "a name of the prelude is declared again",
        """Every policy knows some attributes without declaring them. A declaration in the file takes their
        place; the note is there so that this never happens by accident.""",
        "attribute words: count { backend = length(words) }\nwords < 100",
        "words < 100",
    ),
    _page(
        "PC109",
        "a label is used twice",
        "A label names one statement: reports and tests refer to it.",
        "edition 1\ncap: toxicity < 0.1\ncap: words < 100",
        "edition 1\ncap: toxicity < 0.1\nlength: words < 100",
    ),
    _page(
        "PC110",
        "a declaration in the wrong place",
        "`edition` is the first item of a file; declarations stand outside groups.",
        "group core {\n  let cap = 0.1\n  toxicity < cap\n}",
        "let cap = 0.1\ngroup core {\n  toxicity < cap\n}",
    ),
    _page(
        "PC111",
        "something is declared twice",
        "Two declarations of one name cannot both hold.",
        "let cap = 0.1\nlet cap = 0.2\ntoxicity < cap",
        "let cap = 0.1\ntoxicity < cap",
    ),
    _page(
        "PC112",
        "a name of the language is declared",
        "Statistics, `base`, `inf`, `perplexity` and `accuracy` have a meaning of their own.",
        "let mean = 0.1\ntoxicity < mean",
        "let cap = 0.1\ntoxicity < cap",
    ),
    _page(
        "PC113",
        "there is no such edition",
        "This release reads edition 1.",
        "edition 7\ntoxicity < 0.1",
        "edition 1\ntoxicity < 0.1",
    ),
    _page(
        "PC114",
        "a clause or setting is given twice",
        "Each clause stands once in a statement; conditions on prompts are joined with `and`.",
        "toxicity < 0.1 for lang=en for domain=chat",
        "toxicity < 0.1 for lang=en and domain=chat",
    ),
    _page(
        "PC115",
        "a word that is not in the list",
        """Types, properties, fields, backends, levels and settings come from closed lists. The languages and kinds
        of personal data grow with the libraries that know them, so that an unknown one is a warning.""",
        "mean(toxicity) < 0.1 under temprature=1",
        "mean(toxicity) < 0.1 under temperature=1",
    ),
    _page(
        "PC116",
        "no statistic has this name",
        "The statistics are `mean`, `P`, `median`, `min`, `max`, `quantile` and `cvar`.",
        "average(toxicity) < 0.1",
        "mean(toxicity) < 0.1",
    ),
    _page(
        "PC117",
        "a backend or field is written wrongly",
        "Every backend has its own arguments and the types that it can measure.",
        'attribute ssn: flag { backend = regex("[0-9]{9}") }\nnot ssn',
        'attribute ssn: flag { backend = regex(re"[0-9]{9}") }\nnot ssn',
    ),
    _page(
        "PC118",
        "the range of an attribute is wrong",
        "A range is `[low, high]` with constants, the smaller first; `inf` leaves an end of a `real` open.",
        'attribute grade: real in [20, 0] { backend = python("acme:grade") }\ngrade < 9',
        'attribute grade: real in [0, 20] { backend = python("acme:grade") }\ngrade < 9',
    ),
    _page(
        "PC119",
        "a policy reaches outside its folder",
        """A policy may come from somebody else. It reads files of its own folder and below, links followed,
        unless `--allow-path` is given; every imported file is held to its own folder in the same way.""",
        'import "../team.policy" as team\ntoxicity < team.cap',
        "let cap = 0.1\ntoxicity < cap",
    ),
    _page(
        "PC120",
        "this parses, but this release does not compile it",
        """The whole language can be written and formatted. What this release cannot train and verify is
        refused, never skipped; the help says what to write in the meantime.""",
        "max(toxicity) <= 0.3",
        "always toxicity <= 0.3",
    ),
    _page(
        "PC201",
        "one formula mixes one response with the whole distribution",
        """`toxicity < 0.1` judges one response; `mean(toxicity) < 0.1` judges all of them together. A
        formula does one of the two, because there is no single thing that such a mixture could be true
        of.""",
        "toxicity < 0.1 and mean(words) <= 120",
        "edition 1\ntoxicity < 0.1\nmean(words) <= 120",
    ),
    _page(
        "PC202",
        "equality of continuous quantities",
        "A continuous score or a statistic is almost never exactly equal to a number. Ask for a range.",
        "mean(toxicity) == 0.1",
        "mean(toxicity) in [0.05, 0.15]",
    ),
    _page(
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
    _page(
        "PC204",
        "a multiple of the base model's value may be negative",
        """Twice as good means something for a quantity that starts at 0, such as a score, a count or a
        chance. An attribute whose declared range goes below 0, or has no lower end, is compared with the base
        model by a difference.""",
        'attribute mood: real in [-1, 1] { backend = python("acme:mood") }\nmean(mood) >= 1.1 * base',
        'attribute mood: real in [-1, 1] { backend = python("acme:mood") }\nmean(mood) >= base + 0.1',
    ),
    _page(
        "PC205",
        "units differ",
        "Scores, counts and every real attribute have units of their own; only numbers fit all of them.",
        "words < toxicity",
        "words < 100",
    ),
    _page(
        "PC207",
        "a statistic of a statistic",
        "The argument of a statistic speaks of one response; a statistic is already a plain number.",
        "mean(mean(toxicity)) < 0.1",
        "mean(toxicity) < 0.1",
    ),
    _page(
        "PC208",
        "the chance of a number, or the mean of a condition",
        "`P` takes a condition, the other statistics take a number.",
        "P(toxicity) < 1%",
        "P(toxicity > 0.5) < 1%",
    ),
    _page(
        "PC209",
        "a number out of its range",
        """A tolerance lies in [0, 1), a confidence and the level of a quantile in (0, 1), a weight above 0,
        `top_p` in (0, 1], `temperature` at 0 or above; counts are whole numbers of at least 1.""",
        "toxicity < 0.1 confidence 95",
        "toxicity < 0.1 confidence 0.95",
    ),
    _page(
        "PC220",
        "an attribute that is a number stands alone",
        "Only flags are conditions by themselves; other attributes are compared.",
        "not toxicity",
        "toxicity < 0.1",
    ),
    _page(
        "PC221",
        "a flag is used as a number",
        "A flag is true or false: use it as a condition, and `P(flag)` for its frequency.",
        _FLAGS + "slur < 1",
        _FLAGS + "not slur",
    ),
    _page(
        "PC222",
        "`let` does not name a constant",
        "A constant is made of numbers and other constants.",
        "let cap = toxicity\ntoxicity < cap",
        "let cap = 0.1\ntoxicity < cap",
    ),
    _page(
        "PC223",
        "a constant without an exact value",
        "Numbers are exact decimals: a division by zero has no value, and 1/3 cannot be written out.",
        "let cap = 1 / 3\ntoxicity < cap",
        "let cap = 0.333\ntoxicity < cap",
    ),
    _page(
        "PC224",
        "a clause that does not fit the statement",
        """`always` and a tolerance belong to statements about single responses, a weight to `prefer`; a
        clause that could only be ignored is an error.""",
        "toxicity < 0.1 weight 2",
        "prefer toxicity < 0.1 weight 2",
    ),
    _page(
        "PC225",
        "the model on your rows, in the wrong place",
        """`perplexity`, `accuracy` and `base` speak of the model on the user's own rows. They stand in a
        `preserve` statement: the quantity on the left, a number or `base` with a factor and an offset on
        the right.""",
        "mean(perplexity) <= 1.02 * base",
        "preserve mean(perplexity) <= 1.02 * base",
    ),
    _page(
        "PC226",
        "a statement, or a part of it, says nothing about the model",
        """A condition without any attribute, or with one that changes nothing, is true or false whatever the model
        does.""",
        "0.1 < 0.2",
        "toxicity < 0.2",
    ),
    _page(
        "PC227",
        "wrong arguments of a statistic",
        "`quantile` and `cvar` take an attribute and a level, every other statistic takes one argument.",
        "mean(toxicity, words) < 0.1",
        "mean(toxicity) < 0.1",
    ),
    _page(
        "PC228",
        "the base model gives the same text the same score",
        """In a statement about single responses, `base` and `@base` score the same text under the base model,
        as its perplexity does. A classifier, a word list, a pattern or a length looks at the text alone, so
        both sides would be equal. What the base model itself writes is reached by a statistic.""",
        "words <= 1.2 * base",
        "mean(words) <= 1.2 * base",
    ),
    _page(
        "PC229",
        "one statistic reads two models",
        """A statistic is taken over the responses of one model: plain names read the responses of the model,
        `@base` those of the base model. Compare two statistics, or judge single texts by a pointwise
        statement.""",
        "mean(toxicity - toxicity@base) <= 0",
        "mean(toxicity) <= mean(toxicity@base)",
    ),
    _page(
        "PC230",
        "a word of order outside `over`",
        """`globally`, `eventually`, `next`, `weak_next`, `until`, `weak_until`, `release`, `before` and `last`
        speak of the parts of a response in their order. `over` says which parts: `sentences`, `turns` or
        `tokens`.""",
        "globally toxicity < 0.2",
        "over sentences (globally toxicity < 0.2)",
    ),
    _page(
        "PC231",
        "`over` inside `over`",
        "A formula of order speaks of the parts of one kind: sentences have no turns, turns no sentences.",
        "over turns (globally over sentences (globally toxicity < 0.2))",
        "over turns (globally toxicity < 0.2) and over sentences (globally toxicity < 0.2)",
    ),
    _page(
        "PC404",
        "a reading was inferred",
        """A bare comparison is pointwise: it speaks of every response, and at most 5% of the responses may
        violate it. The note says so, because a mean or a chance may have been meant. `always` sets the
        tolerance to 0, `under tolerance=...` to another share.""",
        "toxicity < 0.1",
        "toxicity < 0.1 under tolerance=5%",
    ),
    _page(
        "PC405",
        "the demand goes against the declared direction",
        """The attribute is declared to be better when lower (or higher); the statement asks for the opposite.
        `perplexity` is better when lower, `accuracy` when higher. Both ends of a band, as in
        `mean(words) >= 20 and mean(words) <= 80`, may be demanded.""",
        "mean(toxicity) > 0.1",
        "mean(toxicity) < 0.1",
    ),
    _page(
        "PC406",
        "the range decides the comparison",
        """What is compared cannot lie on the other side of the number, so that the comparison says nothing about the
        model, or holds for none. Often a percentage was written as a whole number. What several statements
        decide together is found by `constraintc check --sat`.""",
        "P(toxicity >= 0.5) < 5",
        "P(toxicity >= 0.5) < 5%",
    ),
    _page(
        "PC407",
        "a condition over parts is asked of the first part alone",
        """Inside `over`, a condition without a word of order is about the first sentence, turn or token. `globally`
        asks it of every part, `eventually` of some part; `eventually[0, 0]` says that the first one is meant.""",
        "over sentences (toxicity < 0.2)",
        "over sentences (globally toxicity < 0.2)",
    ),
    _page(
        "PC408",
        "a confidence below one half",
        """The confidence is the chance that a verdict is right, 0.95 where nothing is written. Below one half the
        chance of a wrong verdict was often meant.""",
        "toxicity < 0.1 confidence 5%",
        "toxicity < 0.1 confidence 95%",
    ),
    _page(
        "PC901",
        "brackets that change nothing",
        """The condition means the same without these brackets. Findings of style are given with
        `constraintc check --style` only; `constraintc fmt` and `constraintc fix --style` remove them.""",
        "(toxicity) < ((0.1))",
        "toxicity < 0.1",
    ),
    _page(
        "PC701",
        "a test contradicts the policy",
        """With the scores that the test gives, the statements say the opposite of what it expects. One of the
        two is not what was meant. `constraintc check` finds this for `pass` and `fail`; the outcomes of
        samples are judged by `constraintc test`.""",
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 0.1\n  pass "borderline" on cap\n}',
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 0.1\n  fail "borderline" on cap\n}',
    ),
    _page(
        "PC702",
        "a test touches no statement",
        """A test that no statement could fail shows nothing. An expectation without `on` is about the
        statements that read a score which is given, and speak of the prompts of the test.""",
        'cap: toxicity < 0.1\ntest "short" {\n  given words = 300\n  fail "long"\n}',
        'cap: toxicity < 0.1 and words < 200\ntest "short" {\n  given words = 300\n  fail "long"\n}',
    ),
    _page(
        "PC703",
        "a test refers to what is not there",
        "A test names a label and expects `pass`, `fail`, `holds`, `violated` or `inconclusive`.",
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 0.1\n  fail "borderline" on cup\n}',
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 0.1\n  fail "borderline" on cap\n}',
    ),
    _page(
        "PC704",
        "a test gives a score that no response can have",
        "A score lies in the declared range; counts are whole numbers, and a flag is 0 or 1.",
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 1.5\n  fail "rude" on cap\n}',
        'cap: toxicity < 0.1\ntest "strict" {\n  given toxicity = 0.5\n  fail "rude" on cap\n}',
    ),
    _page(
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
PAGES: dict[str, Page] = {page.code: page for page in _ALL}
"""All pages by code."""
