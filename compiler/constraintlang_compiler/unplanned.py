"""Why no number of prompts can be named for a clause, in the words of ``explain`` and of ``plan``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from constraintlang_compiler.planning import Unplanned


class Words(NamedTuple):
    """The method of verification, the reason in a cell of a table, and the evidence there is in a sentence."""

    method: str
    note: str
    evidence: str


WORDS: Mapping[Unplanned, Words] = {
    "hard": Words(
        "clopper-pearson",
        "samples alone never show that nothing violates it",
        "No number of samples proves it: n clean responses show a rate below about 3/n (at 95%); "
        "it holds for certain only when decoding rejects every such response, or masks it where wording alone decides.",
    ),
    "utility": Words(
        "paired ratio estimator (asymptotic)",
        "depends on how differently the two models do row by row",
        "It is measured on the rows themselves, against the reference model on the same rows.",
    ),
    "base": Words(
        "none",
        "depends on what the base model does",
        "It is measured against the reference model's own responses to the same prompts.",
    ),
    "several": Words(
        "none",
        "no plan is known for this kind of clause",
        "Means and shares of the same prompts are added up prompt by prompt; each part left gets a bound "
        "of its own, and all of them hold at this confidence together. No least number of prompts is known for it.",
    ),
    "open": Words(
        "student-t (asymptotic)",
        "the range is open, so the number depends on the spread",
        "The range is open: no number of samples gives an exact bound, only an asymptotic one.",
    ),
    "always": Words(
        "none",
        "it holds for every model: the bound is not below what is possible",
        "It holds for every law of responses: the bound is not below what is possible.",
    ),
    "best": Words(
        "none",
        "no number of prompts shows it: the bound is the best possible value",
        "No number of samples proves it, because the bound is the best possible value.",
    ),
    "beyond": Words(
        "none",
        "no model meets it: the bound lies beyond the best possible value",
        "It cannot hold: the bound lies outside the range of what is measured.",
    ),
}
