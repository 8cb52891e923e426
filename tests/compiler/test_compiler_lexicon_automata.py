"""Word lists as automata find what the scorer of word lists finds."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraintlang_compiler.monitors.budget import Budget, BudgetExceeded
from constraintlang_compiler.monitors.lexicons import folded, lexicon_automaton
from constraintlang_runtime.scorers.lexicon import LexiconScorer

LETTERS = "abAB ß1_-éÉİǰſ語\u0301\u0323\u0302ΣςKệẾ각"
entries = (
    st.text(st.sampled_from("ab ß1é語-ǰσkệ각"), min_size=1, max_size=4)
    .map(str.strip)
    .filter(lambda entry: entry and not entry.startswith("#"))
)
lists = st.lists(entries, min_size=1, max_size=5)
texts = st.text(st.sampled_from(LETTERS), max_size=10)


def scored(path: Path, words: list[str], found: list[str]) -> list[bool]:
    path.write_text("\n".join(words), encoding="utf-8")
    scores = LexiconScorer(path, flag=True)(prompts=[""] * len(found), completions=found)
    return [score == 1 for score in scores]


@settings(max_examples=40, deadline=None)
@given(words=lists, found=st.lists(texts, min_size=1, max_size=10))
def test_found_is_what_the_scorer_finds(
    words: list[str], found: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    dfa = lexicon_automaton(words, Budget())
    forms = [form for word in words for form in (word, word.upper(), unicodedata.normalize("NFD", word))]
    found += [*forms, f"x{words[0]}", f"({words[0].title()})"]
    expected = scored(tmp_path_factory.getbasetemp() / "words.txt", words, found)
    for text, hit in zip(found, expected, strict=True):
        if unicodedata.is_normalized("NFC", text.casefold()):
            assert dfa.accepts(text) == hit, (words, text)
        else:
            # Loose marks: what the scorer finds is found, in every spelling.
            assert dfa.accepts(text) or not hit, (words, text)


def test_spellings() -> None:
    dfa = lexicon_automaton(["Straße", "café", "two words"], Budget())
    yes = ["STRASSE", "straße!", "Cafe\u0301.", "CAFÉ", "say TWO words", "two words"]
    no = ["strassen", "_straße", "cafés", "cafe", "two  words", "twowords", "", "1café"]
    assert [text for text in yes + no if dfa.accepts(text)] == yes
    assert [text for text in yes + no if dfa.complement().accepts(text)] == no


def test_loose_marks_in_every_order() -> None:
    dfa = lexicon_automaton(["ệ"], Budget())
    marks = ["ê\u0323", "ẹ\u0302", "e\u0302\u0323", "e\u0323\u0302", "Ệ", "Ê\u0323"]
    assert {folded(text) for text in marks} == {"ệ"}
    assert all(dfa.accepts(text) for text in marks)
    assert not any(dfa.accepts(text) for text in ("ê", "ẹ", "e\u0302", "e"))


def test_the_order_of_the_list_does_not_matter() -> None:
    assert lexicon_automaton(["b", "a", "B"], Budget()) == lexicon_automaton(["A", "b"], Budget())
    assert lexicon_automaton(["b"], Budget()) != lexicon_automaton(["a"], Budget())


def test_limits() -> None:
    with pytest.raises(ValueError, match="201 characters"):
        lexicon_automaton(["a" * 201], Budget())
    with pytest.raises(ValueError, match="0 characters"):
        lexicon_automaton([""], Budget())
    with pytest.raises(BudgetExceeded, match="100 states"):
        lexicon_automaton([f"{i * i * i:09}" for i in range(50)], Budget(max_states=100))


def test_folding() -> None:
    assert folded("É") == folded("e\u0301") == "é"
