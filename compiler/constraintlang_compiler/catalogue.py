"""Pages of the diagnostic codes: those that only the compiler gives, and the way to the language's."""

from __future__ import annotations

from constraintlang import catalogue
from constraintlang.pages import Page

OWN_PAGES = {
    "PC122": Page(
        "PC122",
        "a pattern that is no regular expression",
        "Patterns are written in RE2 syntax, whose engine takes time in proportion to the text and never more. "
        "Look-around, back-references and possessive repetition need backtracking and do not exist there; a "
        "pattern may repeat at most 1000 times, counting repetitions inside each other.",
        'attribute twice: flag { backend = regex(re"(\\w+) \\1") }\nnot twice',
        'attribute twice: flag { backend = regex(re"very very|really really") }\nnot twice',
    ),
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
    "PC603": Page(
        "PC603",
        "a statement is verified, but training does not act on it",
        "Training moves the model towards bounds on expectations: violation rates, means, chances, quantiles, the "
        "cvar from above, means and chances relative to the base model. A choice between requirements, a "
        "comparison of different statistics, the cvar from below, and a quantile or cvar relative to the base "
        "model have no such form. They compile and are verified with confidence bounds; to train towards them, "
        "add a statement with a number.",
        "cvar(words, 0.9) >= 40",
        "quantile(words, 0.9) >= 40",
    ),
}


def page(code: str) -> str:
    """The page of a code as plain text.

    Raises: KeyError when there is no such code.
    """
    own = OWN_PAGES.get(code.upper())
    return catalogue.page(code) if own is None else own.text()
