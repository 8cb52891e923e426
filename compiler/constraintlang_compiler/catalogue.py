"""Pages of the diagnostic codes: those that only the compiler gives, and the way to the language's."""

from __future__ import annotations

from functools import cache

from constraintlang import catalogue
from constraintlang.pages import Page
from constraintlang_compiler.analysis.pages import ANALYSIS_PAGES

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
    "PC305": Page(
        "PC305",
        "a condition needs too large an automaton",
        "What `over` says becomes a finite automaton, which reads the parts of a response one by one. It may have "
        "10,000 states, 4,096 combinations of conditions and a million steps of work, some seconds; those of a "
        "policy together half as much again. Windows that begin late (`eventually[14, 40]` after a trigger) and many "
        "conditions that must all be remembered are what makes automata large.",
        "over sentences (globally (words > 20 implies eventually[14, 40] words < 5))",
        "over sentences (globally (words > 20 implies eventually[0, 40] words < 5))",
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
    "PC605": Page(
        "PC605",
        "a word list is missing",
        "A `lexicon` names a file of words, relative to the folder of the policy that declares the attribute; a name "
        "that begins with `std/` is a list of the standard library. The policy can be compiled without the file, but "
        "then the attribute has to be bound with --scorer wherever the policy is used.",
        'attribute slurs: count { backend = lexicon("lists/slurs.txt") }\nslurs == 0',
        'attribute insults: count { backend = lexicon("std/lists/insults.txt") }\ninsults == 0',
    ),
}


@cache
def all_pages() -> dict[str, Page]:
    """Every page by code, in the order of the codes."""
    return dict(sorted({**catalogue.PAGES, **OWN_PAGES, **ANALYSIS_PAGES}.items()))


def page(code: str) -> str:
    """The page of a code as plain text.

    Raises: KeyError when there is no such code.
    """
    return all_pages()[code.upper()].text()
