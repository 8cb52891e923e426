"""The language of the responses that satisfy a predicate about wording: regular expressions and word lists.

What can be read off the text itself: a flag measured by ``regex`` or ``lexicon``, a count of theirs compared so
that only "none" and "some" differ, and what ``and``, ``or``, ``not`` make of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from constraintlang_compiler.ir import (
    All,
    Any,
    AttributeRecord,
    AttributeRef,
    Comparison,
    Const,
    FlagRef,
    Literally,
    Predicate,
)
from constraintlang_compiler.ir_monitors import Over
from constraintlang_compiler.monitors.budget import Budget
from constraintlang_compiler.monitors.derivatives import search_automaton
from constraintlang_compiler.monitors.lexicons import lexicon_automaton
from constraintlang_compiler.monitors.regex_nodes import EMPTY_TEXT
from constraintlang_compiler.monitors.regex_parser import parse_regex
from constraintlang_compiler.monitors.text_dfa import TextDfa

WordList = Callable[[str], Mapping[str, float]]
"""From the name of a lexicon file, as written in the policy, to its entries and their weights."""

_NONE = {("eq", "0"), ("le", "0"), ("lt", "1")}
_SOME = {("ne", "0"), ("gt", "0"), ("ge", "1")}


class NotLexical(Exception):
    """A predicate that the wording of a response does not decide; ``reason`` says why, in words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def no_word_lists(name: str) -> Mapping[str, float]:
    """For callers that may not read files."""
    raise NotLexical(f"the word list `{name}` is read when a policy runs, not when it is compiled")


def response_language(
    predicate: Predicate,
    attributes: Mapping[str, AttributeRecord],
    budget: Budget,
    word_list: WordList = no_word_lists,
) -> TextDfa:
    """The minimal automaton of the responses that satisfy a predicate.

    Raises: NotLexical; RegexError for a pattern; BudgetExceeded.
    """
    match predicate:
        case Literally(value=value):
            everything = search_automaton(EMPTY_TEXT, budget)
            return everything if value else everything.complement()
        case FlagRef(name=name, negated=negated):
            found = _occurrence(attributes[name], budget, word_list)
            return found.complement() if negated else found
        case Comparison(op=op, left=AttributeRef(name=name, model="self"), right=Const(value=value)):
            if attributes[name].type != "count" or (op, value) not in _NONE | _SOME:
                raise NotLexical(f"how large `{name}` is cannot be read off the text while it is written")
            found = _occurrence(attributes[name], budget, word_list)
            return found if (op, value) in _SOME else found.complement()
        case All(operands=operands) | Any(operands=operands):
            join = np.logical_and if isinstance(predicate, All) else np.logical_or
            language = response_language(operands[0], attributes, budget, word_list)
            for operand in operands[1:]:
                other = response_language(operand, attributes, budget, word_list)
                language = language.joined(other, join, budget)
            return language
        case Over(level=level):
            raise NotLexical(f"it is about the {level} of a text, and masks know only what a text contains")
        case _:
            raise NotLexical("it compares what is measured on the whole text")


def _occurrence(attribute: AttributeRecord, budget: Budget, word_list: WordList) -> TextDfa:
    """The texts in which an attribute finds something."""
    backend = attribute.backend
    if backend is not None and backend.kind == "regex":
        return search_automaton(parse_regex(backend.arguments[0]), budget)
    if backend is not None and backend.kind == "lexicon":
        entries = word_list(backend.arguments[0])
        if any(weight <= 0 for weight in entries.values()):
            raise NotLexical(f"the word list of `{attribute.name}` has weights that are not above 0")
        return lexicon_automaton(entries, budget)
    measured = "by no backend of the policy" if backend is None else f"by `{backend.kind}`"
    raise NotLexical(f"`{attribute.name}` is measured {measured}, which does not speak of wording alone")
