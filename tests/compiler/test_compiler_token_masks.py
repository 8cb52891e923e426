"""Tokens and texts are read alike, for every family of tokenizers, and masks allow what can still end well."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import CORPUS, END, FAMILIES

from constraintlang_compiler.monitors.budget import Budget
from constraintlang_compiler.monitors.byte_dfa import byte_automaton
from constraintlang_compiler.monitors.derivatives import search_automaton
from constraintlang_compiler.monitors.dfa import Dfa
from constraintlang_compiler.monitors.regex_parser import parse_regex
from constraintlang_compiler.monitors.text_dfa import TextDfa
from constraintlang_compiler.monitors.token_masks import TextState, TokenMasks
from constraintlang_compiler.monitors.vocabulary import Vocabulary, VocabularyError

# A pattern, and whether the text must contain a match (or must not).
LANGUAGES = [
    (r"\d{3}-\d{2}-\d{4}", False), (r"(?i)\bthe\b", False), (r"ü|ö", True), (r"[.!?]$", True), ("is.*not", False),
    (r"^my", True), ("語", False), (r"\bcat\b", True), ("😀", True), (r"\s\s", False), (r"^[a-z ]*$", True),
    (r"^\s", False),
]  # fmt: skip


@cache
def language(pattern: str, wanted: bool) -> TextDfa:
    found = search_automaton(parse_regex(pattern), Budget())
    return found if wanted else found.complement()


@cache
def family(name: str) -> tuple[Any, Vocabulary]:
    tokenizer = FAMILIES[name]()
    return tokenizer, Vocabulary.of(json.loads(tokenizer.to_str()))


@cache
def masks(name: str, pattern: str, wanted: bool) -> TokenMasks:
    tokenizer, vocabulary = family(name)
    return TokenMasks(byte_automaton(language(pattern, wanted)), vocabulary, [tokenizer.token_to_id(END)])


def run(of: TokenMasks, ids: Sequence[int]) -> TextState:
    at = of.start
    for token in ids:
        at = of.advance(at, token)
    return at


languages = st.sampled_from(LANGUAGES)
names = st.sampled_from(sorted(FAMILIES))
texts = st.lists(st.sampled_from([*CORPUS, *" ".join(CORPUS).split(), " ", "\n", "é", "x"]), max_size=5).map(
    "".join
)


@st.composite
def token_ids(draw: st.DrawFn) -> tuple[str, list[int]]:
    """A tokenizer, and tokens of a text or any tokens at all."""
    name = draw(names)
    tokenizer, vocabulary = family(name)
    special = draw(st.lists(st.sampled_from(sorted(vocabulary.special)), max_size=2))
    if draw(st.booleans()):
        return name, [*special, *tokenizer.encode(draw(texts)).ids]
    return name, special + draw(st.lists(st.integers(0, len(vocabulary.later) - 1), max_size=8))


# ------------------------------------------------------------ bytes and characters
@settings(max_examples=60, deadline=None)
@given(languages, texts | st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
def test_bytes_are_read_like_characters(of: tuple[str, bool], text: str) -> None:
    dfa = byte_automaton(language(*of))
    state = 0
    for byte in text.encode():
        state = dfa.table[state, byte]
    assert bool(dfa.accepting[state]) == language(*of).accepts(text)


@settings(max_examples=100, deadline=None)
@given(languages, st.binary(max_size=6))
def test_bytes_that_are_no_text_are_in_no_language(of: tuple[str, bool], raw: bytes) -> None:
    text = language(*of)
    states = [0, 0]
    automata = [byte_automaton(text), byte_automaton(text.complement())]
    for byte in raw:
        states = [int(dfa.table[state, byte]) for dfa, state in zip(automata, states, strict=True)]
    verdicts = [bool(dfa.accepting[state]) for dfa, state in zip(automata, states, strict=True)]
    try:
        expected = [text.accepts(raw.decode()), not text.accepts(raw.decode())]
    except UnicodeDecodeError:
        expected = [False, False]
    assert verdicts == expected


@pytest.mark.parametrize(
    "raw", [b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8", b"\x80", b"\xe2\x82"]
)
def test_overlong_surrogate_too_large_and_broken_characters(raw: bytes) -> None:
    dfa = byte_automaton(language("x", False))
    state = 0
    for byte in raw:
        state = int(dfa.table[state, byte])
    assert not dfa.accepting[state]
    assert (state == dfa.num_states - 1) == (raw != b"\xe2\x82")  # the last one may still become a character


# ------------------------------------------------------------ 30: tokens and texts
@settings(max_examples=150, deadline=None)
@given(token_ids())
def test_tokens_add_what_the_tokenizer_says(drawn: tuple[str, list[int]]) -> None:
    name, ids = drawn
    tokenizer, vocabulary = family(name)
    try:
        text = vocabulary.text(ids).decode()
    except UnicodeDecodeError:
        return  # a broken character: tokenizers show each broken byte in ways of their own
    assert text == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("name", ["byte_level_bpe", "bytes_fall_back"])
def test_every_byte_has_its_token(name: str) -> None:
    tokenizer, vocabulary = family(name)
    for point in [*range(1, 0x250), 0x800, 0xFFFD, 0x1F600, 0x10FFFF]:
        ids = tokenizer.encode(f"a{chr(point)}").ids
        assert vocabulary.text(ids) == f"a{chr(point)}".encode()
    single = {string for string in vocabulary.later if string is not None and len(string) == 1}
    assert single == {bytes([byte]) for byte in range(256)}


@settings(max_examples=150, deadline=None)
@given(token_ids(), languages)
def test_token_and_text_monitors_agree(drawn: tuple[str, list[int]], of: tuple[str, bool]) -> None:
    name, ids = drawn
    tokenizer, vocabulary = family(name)
    found = masks(name, *of)
    verdict = found.is_inside(run(found, ids))
    try:
        vocabulary.text(ids).decode()
    except UnicodeDecodeError:
        assert not verdict
        return
    pattern, wanted = of
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert verdict == ((re2.search(pattern, text) is not None) == wanted)


# ------------------------------------------------------------ masks
def can_end_well(of: TokenMasks, end: int) -> dict[TextState, bool]:
    """By brute force: from which places some tokens lead into the language."""
    following: dict[TextState, set[TextState]] = {}
    waiting = [of.start]
    while waiting:
        at = waiting.pop()
        if at not in following:
            following[at] = {of.advance(at, token) for token in range(of.num_tokens) if token != end}
            waiting.extend(following[at])
    good = {at: of.is_inside(at) for at in following}
    changed = True
    while changed:
        changed = False
        for at, targets in following.items():
            if not good[at] and any(good[target] for target in targets):
                good[at] = changed = True
    return good


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize(
    "of", [LANGUAGES[0], LANGUAGES[2], LANGUAGES[3], LANGUAGES[7], LANGUAGES[8], LANGUAGES[10]]
)
def test_allowed_is_what_can_still_end_well(name: str, of: tuple[str, bool]) -> None:
    tokenizer, _ = family(name)
    end = tokenizer.token_to_id(END)
    found = masks(name, *of)
    good = can_end_well(found, end)
    assert found.can_start() == good[found.start]
    for at in list(good)[:40]:
        allowed = found.allowed(at)
        expected = [good.get(found.advance(at, token), False) for token in range(found.num_tokens)]
        expected[end] = found.is_inside(at)
        assert allowed.tolist() == expected
        np.testing.assert_array_equal(np.unpackbits(found.packed(at), count=found.num_tokens), allowed)


@settings(max_examples=60, deadline=None)
@given(names, languages, st.integers(0, 2**32))
def test_walks_along_the_mask_end_inside(name: str, of: tuple[str, bool], seed: int) -> None:
    tokenizer, _ = family(name)
    end = tokenizer.token_to_id(END)
    found = masks(name, *of)
    if not found.can_start():
        assert name in ("words", "unigram", "word_piece")  # those that cannot write every text
        return
    chooser, at, ids = random.Random(seed), found.start, []
    for _ in range(60):
        allowed = np.flatnonzero(found.allowed(at)).tolist()
        assert allowed, "a way that was allowed led nowhere"
        token = end if end in allowed and len(ids) > 10 else chooser.choice(allowed)
        if token == end:
            pattern, wanted = of
            assert (re2.search(pattern, tokenizer.decode(ids)) is not None) == wanted
            break
        ids.append(token)
        at = found.advance(at, token)


def test_a_vocabulary_that_cannot_write_the_language_cannot_start() -> None:
    assert not masks("words", "😀é", True).can_start()
    assert masks("byte_level_bpe", "😀é", True).can_start()
    nothing = language("x", True).joined(language("x", False), np.logical_and, Budget())
    _, vocabulary = family("byte_level_bpe")
    assert not TokenMasks(byte_automaton(nothing), vocabulary, [0]).can_start()


def test_special_tokens_before_the_first_word() -> None:
    # The language is the text `a`, which only the first token can write.
    table = np.full((3, 256), 2, dtype=np.int32)
    table[0, ord("a")] = 1
    dfa = Dfa(table, np.array([False, True, False]))
    found = TokenMasks(dfa, Vocabulary((b"a", b"", b""), (b" a", b"", b""), frozenset({1, 2})), [2])
    assert found.allowed(found.start).tolist() == [True, True, False]
    assert found.allowed(found.advance(found.start, 1)).tolist() == [True, True, False]
    assert found.allowed(found.advance(found.start, 0)).tolist() == [False, True, True]
    backwards = TokenMasks(dfa, Vocabulary((b" a", b"", b""), (b"a", b"", b""), frozenset({1, 2})), [2])
    assert not backwards.can_start()


def test_ids_without_a_token() -> None:
    dfa = Dfa(np.zeros((1, 256), dtype=np.int32), np.array([True]))
    vocabulary = Vocabulary((b"a", None, b""), (b"a", None, b""), frozenset({2}))
    found = TokenMasks(dfa, vocabulary, [2, 7])
    assert found.allowed(found.start).tolist() == [True, False, True]
    assert found.advance(found.start, 9) == found.start
    assert found.advance(found.start, 2) == found.start
    assert found.advance(found.start, 0) == TextState(0, False)
    with pytest.raises(KeyError):
        vocabulary.text([1])


def test_masks_are_kept_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constraintlang_compiler.monitors.token_masks.MAX_KEPT", 2)
    of = TokenMasks(byte_automaton(language("語", False)), family("byte_level_bpe")[1], [0])
    first = of.packed(TextState(0, False))
    assert of.packed(TextState(0, False)) is first
    for state in (1, 2, 3):
        of.packed(TextState(state, False))
    assert of.packed(TextState(0, False)) is not first


@pytest.mark.parametrize(
    ("decoder", "reason"),
    [
        ({"type": "BPEDecoder", "suffix": "</w>"}, "`BPEDecoder`"),
        ({"type": "CTC"}, "`CTC`"),
        ({"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"}, "`Replace`"),
        (
            {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "start": 0, "stop": 1}]},
            "`Strip`",
        ),
    ],
)
def test_decoders_that_look_further_are_refused(decoder: dict[str, Any], reason: str) -> None:
    tokenizer = {"model": {"vocab": {"a": 0}}, "decoder": decoder, "added_tokens": []}
    with pytest.raises(VocabularyError, match=reason):
        Vocabulary.of(tokenizer)
    with pytest.raises(VocabularyError, match="no list of tokens"):
        Vocabulary.of({"model": {}})
