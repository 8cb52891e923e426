"""Domain predicates: Boolean laws on rows, canonical text and names."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constraintlang import nodes
from constraintlang_compiler.domains import describe, domain_name, matches, tag_text
from constraintlang_compiler.ir import DomainAll, DomainAny, DomainIs, DomainNot
from constraintlang_compiler.lower_domains import lower_domain

KEYS, VALUES = ("domain", "lang"), ("en", "de", "fr")


def name(value: str) -> nodes.Scalar:
    return nodes.Scalar(value=value, kind="name")


leaves = st.one_of(
    st.builds(nodes.DomainEquals, key=st.sampled_from(KEYS), value=st.sampled_from(VALUES).map(name)),
    st.builds(
        nodes.DomainIn,
        key=st.sampled_from(KEYS),
        values=st.lists(st.sampled_from(VALUES).map(name), min_size=1, max_size=3).map(tuple),
    ),
)
predicates = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(nodes.DomainNot, operand=inner),
        st.builds(nodes.DomainAnd, operands=st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(nodes.DomainOr, operands=st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
rows = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))


def reference(predicate: nodes.DomainPredicate, row: dict[str, str]) -> bool:
    match predicate:
        case nodes.DomainEquals(key=key, value=value):
            return key in row and row[key] == value.value
        case nodes.DomainIn(key=key, values=values):
            return key in row and any(row[key] == value.value for value in values)
        case nodes.DomainNot(operand=operand):
            return not reference(operand, row)
        case nodes.DomainAnd(operands=operands):
            return all([reference(part, row) for part in operands])
        case nodes.DomainOr(operands=operands):
            return any([reference(part, row) for part in operands])


@given(predicates, rows)
def test_lowering_keeps_the_rows(predicate: nodes.DomainPredicate, row: dict[str, str]) -> None:
    assert matches(lower_domain(predicate), row) == reference(predicate, row)


@given(st.lists(predicates, min_size=2, max_size=4), st.randoms())
def test_the_order_of_operands_does_not_matter(parts: list[nodes.DomainPredicate], random: object) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for kind in (nodes.DomainAnd, nodes.DomainOr):
        assert lower_domain(kind(operands=tuple(parts))) == lower_domain(kind(operands=tuple(shuffled)))


def test_no_domain_is_every_row() -> None:
    assert matches(None, {})
    assert describe(None) == "every prompt"
    assert domain_name(None) is None


def test_a_missing_key_is_false_and_its_negation_true() -> None:
    is_english = DomainIs(key="lang", values=("en",))
    assert not matches(is_english, {"domain": "chat"})
    assert matches(DomainNot(operand=is_english), {"domain": "chat"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3, "3"),
        (0.5, "0.5"),
        (2.0, "2"),
        (Decimal("1.50"), "1.5"),
        ("en", "en"),
        (None, None),
        ([1], None),
        (float("nan"), None),
    ],
)
def test_tags_of_any_type_have_one_text(value: object, text: str | None) -> None:
    assert tag_text(value) == text


def test_a_null_tag_does_not_equal_the_word_none() -> None:
    assert not matches(DomainIs(key="lang", values=("None",)), {"lang": None})


def test_names_and_texts() -> None:
    toxigen = DomainIs(key="domain", values=("toxigen",))
    languages = DomainIs(key="lang", values=("de", "en"))
    assert domain_name(toxigen) == "toxigen"
    assert domain_name(DomainIs(key="domain", values=("a", "b"))) == "domain in {a, b}"
    assert domain_name(languages) == "lang in {de, en}"
    assert describe(DomainAll(operands=(toxigen, languages))) == "domain=toxigen and lang in {de, en}"
    either = DomainAny(operands=(toxigen, languages))
    assert describe(DomainNot(operand=either)) == "not (domain=toxigen or lang in {de, en})"
    assert describe(DomainIs(key="topic", values=('say "hi"',))) == 'topic="say \\"hi\\""'
