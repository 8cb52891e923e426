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
    "PC305": Page(
        "PC305",
        "a condition needs too large an automaton",
        "What `over` says becomes a finite automaton, which reads the parts of a response one by one. It may have "
        "10,000 states, 4,096 combinations of conditions, and take some seconds to make; a policy as a whole may "
        "take a minute. Windows that begin late (`eventually[14, 40]` after a trigger) and many conditions that "
        "must all be remembered are what makes automata large.",
        "over sentences (globally (words > 20 implies eventually[14, 40] words < 5))",
        "over sentences (globally (words > 20 implies eventually[0, 40] words < 5))",
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
