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
    "PC410": Page(
        "PC410",
        "an `allow` that allows nothing",
        "A comment `# allow PC405: why` keeps a warning or a note from being reported: behind an item it covers "
        "the item, on a line of its own it covers the item that follows. This one covers nothing that has such "
        "a finding, so that it would hide a later one that nobody has looked at.",
        "mean(toxicity) < 0.1  # allow PC405: lower is better",
        "mean(toxicity) < 0.1",
    ),
    "PC411": Page(
        "PC411",
        "an `allow` that has no effect",
        "An `allow` names existing codes and gives the reason: `# allow PC405: why`, or "
        "`# allow PC405, PC404: why`. Errors cannot be allowed, because what they speak of cannot be compiled.",
        "mean(toxicity) > 0.1  # allow PC405",
        "mean(toxicity) > 0.1  # allow PC405: the bait of a red team must be toxic",
    ),
}


def codes() -> list[str]:
    """Every code that has a page, in order."""
    return sorted([*catalogue.PAGES, *OWN_PAGES])


def page_of(code: str) -> Page:
    """The page of a code.

    Raises: KeyError when there is no such code.
    """
    own = OWN_PAGES.get(code)
    return catalogue.PAGES[code] if own is None else own


def page(code: str) -> str:
    """The page of a code as plain text.

    Raises: KeyError when there is no such code.
    """
    return page_of(code.upper()).text()
