"""Regular expressions as automata say what RE2 says, on random patterns and texts of every script."""

from __future__ import annotations

import numpy as np
import pytest
import re2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from constraintlang_compiler.monitors.budget import Budget, BudgetExceeded
from constraintlang_compiler.monitors.characters import Partition, normalised, re2_ranges
from constraintlang_compiler.monitors.derivatives import search_automaton
from constraintlang_compiler.monitors.regex_parser import RegexError, parse_regex
from constraintlang_compiler.monitors.text_dfa import TextDfa

ALPHABET = "ab1_ \n-.éßſKλΛİ1語😀\u0301"
texts = st.text(st.sampled_from(ALPHABET), max_size=8) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=5
)

atoms = st.sampled_from(
    ["a", "b", "1", "é", "k", "s", "λ", "語", ".", "^", "$", r"\b", r"\B", r"\A", r"\z", r"\d", r"\D", r"\w", r"\W",
     r"\s", r"\pL", r"\PL", r"\p{Greek}", "[ab]", "[^a]", "[a-z_]", "[^\\W\\d]", "[[:alpha:]]", "[]a]", "[^]a]",
     r"\x{e9}", r"\x61", r"\141", r"\.", r"\Qa.\E", r"\n", r"[\n-]", r"[à-ÿ]", "😀", "ß", ""]
)  # fmt: skip


def _repeat(inner: str, suffix: str) -> str:
    return f"(?:{inner}){suffix}"


patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(
            _repeat, inner, st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,}", "{0,2}", "{2,3}", "{0}"])
        ),
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=2).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.builds(
            lambda flags, part: f"(?{flags}:{part})",
            st.sampled_from(["i", "s", "m", "im", "i-s", "U"]),
            inner,
        ),
        st.builds(
            lambda flags, part: f"({part}(?{flags}){part})", st.sampled_from(["i", "m", "s-i", "-i"]), inner
        ),
        inner.map(lambda part: f"(?P<n>{part})" if "?P<" not in part and "(?<" not in part else part),
        inner.map(lambda part: f"({part}|)"),
    ),
    max_leaves=5,
)


def automaton(pattern: str, **limits: int) -> TextDfa:
    return search_automaton(parse_regex(pattern), Budget(**limits))


def re2_says(pattern: str, text: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options).search(text) is not None


@settings(max_examples=120, deadline=None)
@given(patterns, st.lists(texts, min_size=1, max_size=12))
@example(r"\B", ["", "a", "é", "aéa", "ab"])
@example(r"(?i)k+ſ", ["KS", "\u212as", "kſ", "kz"])
@example(r"(\b|a){2}b", ["ab", "aab", "a ab", "xb"])
@example(r"(?:^|\b){3}a$", ["a", "ba", "b a", "a\n"])
@example(r"(?m)^$", ["", "a", "a\n", "a\n\nb"])
@example(r"^(?:a|b){1,3}1", ["1", "a1", "ab1", "aba1", "abab1"])
@example(r"^a+b*?_{2,}$", ["a__", "aab___", "a_", "ab_a"])
@example(r"(?i)a(?-i)b", ["AB", "Ab", "ab"])
@example(r"^a(?i)?b$", ["ab", "B", "a?b"])
@example(r"^ab*(?s){2}$", ["abab", "abb", "ab*{2}", "a", "abbb"])
@example(r"^ab\Q\E*$", ["a", "ab", "abbb", "abab"])
def test_search_agrees_with_re2(pattern: str, found: list[str]) -> None:
    dfa = automaton(pattern)
    complement = dfa.complement()
    for text in found:
        assert dfa.accepts(text) == re2_says(pattern, text), (pattern, text)
        assert complement.accepts(text) != dfa.accepts(text)


@settings(max_examples=40, deadline=None)
@given(patterns, patterns, texts)
def test_boolean_combinations(first: str, second: str, text: str) -> None:
    a, b = automaton(first), automaton(second)
    both = a.joined(b, np.logical_and, Budget())
    assert both.accepts(text) == (re2_says(first, text) and re2_says(second, text))
    assert both == b.joined(a, np.logical_and, Budget())
    assert a.joined(a, np.logical_or, Budget()) == a
    assert automaton(f"(?:{first})|(?:{second})") == a.joined(b, np.logical_or, Budget())


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("a|b", "[ab]"), ("aa*", "a"), ("(?i)a", "[aA]"), (r"\d", "[0-9]"), ("x{2,3}", "xx"), ("", "a*"),
        (r"\b\b1", r"\b1"), ("(?:a|b)(?:c|d)", "ac|ad|bc|bd"), (r"[^\x{0}-\x{10ffff}]", r"a\b\Ba"),
    ],
)  # fmt: skip
def test_equal_languages_are_equal_automata(left: str, right: str) -> None:
    assert automaton(left) == automaton(right)
    assert automaton(left) != automaton("zq")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"a(?=b)", r"RE2 does not accept it: invalid perl operator: \(\?="),
        (r"(a)\1", "RE2 does not accept it: invalid escape"),
        ("(", "RE2 does not accept it: missing"),
        (r"\C", "matches a byte"),
        ("(?:" * 201 + "a" + ")" * 201, "nests more than 200 deep"),
    ],
)
def test_what_is_not_read_is_said(pattern: str, message: str) -> None:
    with pytest.raises(RegexError, match=message):
        parse_regex(pattern)


@pytest.mark.parametrize("pattern", ["a.{14}b", "(a{30}){30}", r"(\pL{9} ?){20}", "(?:a?){300}b{300}"])
def test_what_outgrows_the_budget_is_refused(pattern: str) -> None:
    with pytest.raises(BudgetExceeded, match="more than"):
        automaton(pattern, max_states=500, max_steps=100_000)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=3), max_size=4))
def test_partitions(drawn: list[list[tuple[int, int]]]) -> None:
    sets = [normalised((low, low + width) for low, width in ranges) for ranges in drawn]
    partition, members = Partition.separating(sets)
    points = "".join(map(chr, range(60)))
    classes = partition.classes_of(points)
    inside = [tuple(any(low <= ord(c) <= high for low, high in ranges) for ranges in sets) for c in points]
    assert [tuple(members[:, number]) for number in classes] == inside
    assert len(set(inside)) == partition.num_classes


def test_sets_are_asked_of_re2() -> None:
    assert re2_ranges(r"[^\x{0}-\x{60}\x{62}-\x{10ffff}]") == ((97, 97),)
    assert re2_ranges("(?s:.)") == ((0, 0x10FFFF),)
    assert re2_ranges(r"[^\x{0}-\x{10ffff}]") == ()
