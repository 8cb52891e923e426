"""Pages of the diagnostic codes: those that only the compiler gives, and the way to the language's."""

from __future__ import annotations

from constraintlang import catalogue
from constraintlang.pages import Page

OWN_PAGES = {
    "PC210": Page(
        "PC210",
        "a mean is bounded from the side on which its range is open",
        "Training and verification turn every mean into the expectation of a number that is never negative: "
        "`mean(x) <= c` into that of `x - low`, `mean(x) >= c` into that of `high - x`, with the ends of the "
        "declared range. Without a declared end on that side no number of samples would show that the bound "
        "holds, because one rare huge value could change the mean. Declare the end, or bound a chance.",
        "mean(words) >= 20",
        "P(words < 20) <= 5%",
    ),
    "PC604": Page(
        "PC604",
        "a word list is missing",
        "A `lexicon` names a file of words, relative to the folder of the policy that declares the attribute; a name "
        "that begins with `std/` is a list of the standard library. The policy can be compiled without the file, but "
        "then the attribute has to be bound with --scorer wherever the policy is used.",
        'attribute slurs: count { backend = lexicon("lists/slurs.txt") }\nslurs == 0',
        'attribute insults: count { backend = lexicon("std/lists/insults.txt") }\ninsults == 0',
    ),
}


def page(code: str) -> str:
    """The page of a code as plain text.

    Raises: KeyError when there is no such code.
    """
    own = OWN_PAGES.get(code.upper())
    return catalogue.page(code) if own is None else own.text()
