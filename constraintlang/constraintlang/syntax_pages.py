"""Pages of what is wrong with the text itself: PC001 to PC099."""

from __future__ import annotations

from constraintlang.pages import Page, page_of

SYNTAX_PAGES: tuple[Page, ...] = (
    page_of(
        "PC001",
        "something else was expected here",
        """The text stops being a policy at the underlined place. The message says in words what may stand
        there. The rest of the item is skipped; every other item of the file is still read and checked.""",
        "cap: toxicity 0.1",
        "cap: toxicity < 0.1",
    ),
    page_of(
        "PC002",
        "a bracket is never closed",
        """Inside round and square brackets lines are joined, so a missing bracket would swallow what
        follows. The reader stops at the next line that can only be the beginning of an item, or that could be
        one and is not indented, and blames the innermost bracket.""",
        "cap: mean(toxicity < 0.1\nlength: words < 100",
        "cap: mean(toxicity) < 0.1\nlength: words < 100",
    ),
    page_of(
        "PC003",
        "a bracket closes nothing",
        "There is no open bracket of this kind to close.",
        "mean(toxicity)) < 0.1",
        "mean(toxicity) < 0.1",
    ),
    page_of(
        "PC004",
        "this is not how a comparison is written",
        """Comparisons are `<`, `<=`, `>`, `>=`, `==` and `!=`. A single `=` sets or matches a value. In a chain
        such as `0.1 < toxicity < 0.2` all signs point the same way.""",
        "toxicity =< 0.1",
        "toxicity <= 0.1",
    ),
    page_of(
        "PC005",
        "something is missing beside an operator or a keyword",
        "An operator needs a value on both sides, and a keyword needs what it speaks of.",
        "toxicity <",
        "toxicity < 0.1",
    ),
    page_of(
        "PC006",
        "an operator of another language",
        "Conditions are joined by the words `and`, `or`, `implies` and negated by `not`.",
        "toxicity < 0.1 && words < 100",
        "toxicity < 0.1 and words < 100",
    ),
    page_of(
        "PC007",
        "a character that means nothing, or a number that is written wrongly",
        """A policy file is UTF-8 text, and plain ASCII outside of quotes and comments. A number begins and ends
        with a digit, and `%` stands directly behind it.""",
        "toxicity < .1;",
        "toxicity < 0.1",
    ),
    page_of(
        "PC008",
        "a text is never closed",
        'A text begins and ends with `"` on one line. There, `\\"` is a quote and `\\n` a new line.',
        'toxicity < 0.1 because "counsel asked',
        'toxicity < 0.1 because "counsel asked"',
    ),
    page_of(
        "PC009",
        "a reserved word is used as a name",
        "Reserved words cannot be names. As the value of a tag, put the word in quotes.",
        "toxicity < 0.1 for split=test",
        'toxicity < 0.1 for split="test"',
    ),
    page_of(
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
    page_of(
        "PC011",
        "a number stands where a condition is needed",
        "A statement is true or false; a number has to be compared first.",
        "mean(toxicity)",
        "mean(toxicity) < 0.1",
    ),
    page_of(
        "PC012",
        "a condition stands where a number is needed",
        "Arithmetic and comparisons work on numbers only.",
        "(toxicity < 0.1) + 1 < 2",
        "toxicity + 1 < 2",
    ),
    page_of(
        "PC013",
        "an unknown escape in a text",
        r"Known escapes are `\"`, `\\`, `\n`, `\t`, `\r` and `\u` with four hexadecimal digits.",
        r'toxicity < 0.1 because "see C:\policy"',
        r'toxicity < 0.1 because "see C:\\policy"',
    ),
    page_of(
        "PC014",
        "a line continues the one above it, yet could stand alone",
        """A line that ends with an operator goes on. When the next line would be a statement by itself, one
        of the two readings is not what was meant; begin the line with the operator to say that it
        continues.""",
        "toxicity < 0.1 and\nwords < 100",
        "toxicity < 0.1\nand words < 100",
    ),
)
