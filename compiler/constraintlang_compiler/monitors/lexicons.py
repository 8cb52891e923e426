"""Word lists as automata of the texts in which a listed word or phrase occurs.

Words are compared as ``folded`` leaves them, and an occurrence counts when neither neighbour is a letter, a
digit or an underscore. Reading a text character by character cannot compose loose combining marks as ``folded``
does, so each letter of an entry is looked for in all of its spellings: in a text with loose marks a word may be
seen that composing would have hidden, never the other way round.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import permutations

import numpy as np

from constraintlang_compiler.monitors.budget import Budget
from constraintlang_compiler.monitors.characters import NUM_CODE_POINTS, Partition
from constraintlang_compiler.monitors.derivatives import search_automaton
from constraintlang_compiler.monitors.dfa import Dfa
from constraintlang_compiler.monitors.regex_nodes import (
    EMPTY_TEXT,
    Between,
    Choice,
    Condition,
    Regex,
    Sequence,
    literal,
)
from constraintlang_compiler.monitors.text_dfa import TextDfa

MAX_ENTRY = 200  # characters


def folded(text: str) -> str:
    """Case folded and composed, so that two spellings of one letter are equal.

    >>> folded("Straße") == folded("STRASSE")
    True
    """
    return unicodedata.normalize("NFC", text.casefold())


def lexicon_automaton(entries: Iterable[str], budget: Budget) -> TextDfa:
    """The minimal automaton of the texts in which an entry occurs.

    Raises: BudgetExceeded; ValueError for an entry that is empty or longer than 200 characters.
    """
    words = {folded(entry) for entry in entries}
    for word in words:
        if not 0 < len(word) <= MAX_ENTRY:
            raise ValueError(f"got an entry of {len(word)} characters, expected 1 to {MAX_ENTRY}")
    found = Sequence(
        (Between(Condition.NO_LETTER_BEFORE), _any_of(words), Between(Condition.NO_LETTER_AFTER))
    )
    return _unfolded(search_automaton(found, budget), budget)


def _any_of(words: set[str]) -> Regex:
    """A choice in which words with the same beginning share it."""
    tails: dict[str, set[str]] = {}
    for word in words - {""}:
        tails.setdefault(word[0], set()).add(word[1:])
    options = [Sequence((_letter(char), _any_of(rest))) for char, rest in sorted(tails.items())]
    return Choice((*options, EMPTY_TEXT) if "" in words else tuple(options))


def _letter(char: str) -> Regex:
    """A letter in all of its spellings: composed, or with some of its marks loose, in any order that counts."""
    whole = unicodedata.normalize("NFD", char)
    base, marks = whole[0], whole[1:]
    spellings = {char}
    for order in permutations(marks):
        for count in range(len(marks) + 1):
            head = unicodedata.normalize("NFC", base + "".join(order[:count]))
            spelling = head + "".join(order[count:])
            if unicodedata.normalize("NFC", spelling) == char:
                spellings.add(spelling)
    options = tuple(literal(spelling) for spelling in sorted(spellings))
    return options[0] if len(options) == 1 else Choice(options)


def _unfolded(folding: TextDfa, budget: Budget) -> TextDfa:
    """The automaton that reads a text as ``folding`` reads the case-folded text."""
    partition, table = folding.partition, folding.dfa.table
    widths = np.diff(np.append(partition.starts, NUM_CODE_POINTS))
    folded_class = np.repeat(partition.classes, widths)
    classes = folded_class.copy()
    columns: dict[tuple[int, ...], int] = {(number,): number for number in range(partition.num_classes)}
    read = [table[:, number] for number in range(partition.num_classes)]
    for point, text in _folds().items():
        word = tuple(int(folded_class[ord(char)]) for char in text)
        if word not in columns:
            states = np.arange(len(table), dtype=np.int32)
            for number in word:
                states = table[states, number]
            columns[word] = len(read)
            read.append(states)
        classes[point] = columns[word]
    budget.check_size(len(table), len(read))
    wide = Partition(np.arange(NUM_CODE_POINTS, dtype=np.int32), classes)
    dfa = Dfa(np.stack(read, axis=1)[:, wide.sources], folding.dfa.accepting)
    return TextDfa(wide, dfa).minimal()


@cache
def _folds() -> dict[int, str]:
    """The characters that folding changes, each by itself."""
    return {c: text for c in range(NUM_CODE_POINTS) if (text := folded(chr(c))) != chr(c)}
