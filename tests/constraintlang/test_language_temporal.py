"""The reference meaning of order: empty traces, duals, unfolding laws, and a second opinion in sets of positions."""

from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_strategies import DECLARATIONS, trace_formulas, trace_values, traces

from constraintlang import check_source, parse
from constraintlang import nodes as n
from constraintlang import trace_values as in_linear_time
from constraintlang.normal_form import truth_on_response
from constraintlang.printer import format_formula
from constraintlang.semantics import Response, evaluate, kleene_not
from constraintlang.traces import holds


def formula(text):
    (statement,) = parse(text)[0].items
    return statement.formula


def over(node, trace):
    """The reference value, which the evaluation in linear time must have, too."""
    response, whole = Response({}, {"sentences": trace}), n.Over(level="sentences", operand=node)
    found = evaluate(whole, response)
    assert truth_on_response(whole, response) is found
    return found


def value(text, trace):
    """``trace`` is a word of letters: the flag ``a`` is true where an ``a`` stands, a dot is nothing."""
    names = [{name: Decimal(int(name == letter)) for name in "abc"} for letter in trace]
    return over(formula(text), names)


@pytest.mark.parametrize(
    ("text", "empty", "one"),
    [
        # the values on the empty trace, and on one part where `a` is true
        ("a", False, True), ("not a", True, False), ("true", True, True), ("false", False, False),
        ("globally a", True, True), ("eventually a", False, True), ("eventually true", False, True),
        ("next a", False, False), ("weak_next a", True, True), ("next true", False, False),
        ("a until a", False, True), ("b weak_until b", True, False), ("b release a", True, True),
        ("a before b", True, True), ("a before a", True, False), ("last", False, True), ("not last", True, False),
        ("globally[0, 3] a", True, True), ("eventually[0, 3] a", False, True), ("eventually[1, 3] a", False, False),
        ("globally[1, 3] b", True, True), ("next[0, 1] a", False, True), ("weak_next[0, 1] b", True, False),
        ("a implies b", True, False), ("globally globally b", True, False),
    ],
)  # fmt: skip
def test_short_traces(text, empty, one):
    assert (value(text, ""), value(text, "a")) == (empty, one)


@pytest.mark.parametrize(
    ("text", "true", "false"),
    [
        ("a before b", ["ab", "a", "...", "aab", ".a.b"], ["b", "ba", ".ba"]),
        ("a until b", ["b", "aab", "b.."], ["", "a", "aa.b", "..."]),
        ("a weak_until b", ["", "aa", "aab"], ["a.b", "."]),
        ("a release b", ["", "bb", "bbb"], ["a", "bba", "ab"]),
        ("globally (a implies eventually[1, 2] b)", ["a.b", "ab", "...", "aab"], ["a", "a..b", "aba"]),
        ("eventually (a and last)", ["ba", "a"], ["ab", ""]),
        ("next[2, 2] a", ["bba"], ["ba", "bab"]),
        ("weak_next[1, 2] a", ["b", "baab", "ba"], ["bb", "bab"]),
        ("globally next true", [""], ["a", "ab"]),
        ("next next last", ["abc"], ["ab", "abca"]),
    ],
)
def test_longer_traces(text, true, false):
    assert {trace: value(text, trace) for trace in true} == dict.fromkeys(true, True)
    assert {trace: value(text, trace) for trace in false} == dict.fromkeys(false, False)


# ---------------------------------------------------------------- laws
def not_(node):
    return n.Not(operand=node)


def unary(op, node, bounds=None):
    return n.Temporal(op=op, operand=node, bounds=bounds)


def binary(op, left, right):
    return n.TemporalBinary(op=op, left=left, right=right)


bounds = st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda b: tuple(sorted(b)))


@settings(max_examples=80, deadline=None)
@given(trace_formulas, trace_formulas, bounds, traces)
def test_duals(a, b, window, trace):
    for strong, weak in (("eventually", "globally"), ("next", "weak_next")):
        assert over(not_(unary(strong, a, window)), trace) is over(unary(weak, not_(a), window), trace)
    assert over(not_(binary("until", a, b)), trace) is over(binary("release", not_(a), not_(b)), trace)
    assert over(binary("before", a, b), trace) is over(binary("release", a, not_(b)), trace)
    assert over(not_(a), trace) is kleene_not(over(a, trace))


@settings(max_examples=80, deadline=None)
@given(trace_formulas, trace_formulas, traces)
def test_unfolding(a, b, trace):
    def conj(*parts):
        return n.And(operands=parts)

    def disj(*parts):
        return n.Or(operands=parts)

    some, none = unary("eventually", n.Truth(value=True)), unary("globally", n.Truth(value=False))
    now_a, now_b = conj(some, a), conj(some, b)
    laws = [
        (unary("eventually", a), disj(now_a, unary("next", unary("eventually", a)))),
        (unary("globally", a), disj(none, conj(a, unary("weak_next", unary("globally", a))))),
        (binary("until", a, b), disj(now_b, conj(now_a, unary("next", binary("until", a, b))))),
        (
            binary("release", a, b),
            disj(none, conj(b, disj(a, unary("weak_next", binary("release", a, b))))),
        ),
        (binary("weak_until", a, b), disj(binary("until", a, b), unary("globally", a))),
        (unary("next", a), unary("next", a, (1, 1))),
        (unary("next", a, (0, 2)), unary("eventually", a, (0, 2))),
        (n.Last(), conj(some, unary("weak_next", n.Truth(value=False)))),
        (unary("eventually", a, (0, 1)), disj(now_a, unary("next", a))),
    ]
    for left, right in laws:
        assert over(left, trace) is over(right, trace), (format_formula(left), format_formula(right))


# ---------------------------------------------------------------- a second opinion
def positions(node, trace):
    """The positions of a known trace, its end included, from which the rest satisfies a formula."""
    length = len(trace)
    everywhere = set(range(length + 1))
    inside = everywhere - {length}

    def of(inner):
        return positions(inner, trace)

    match node:
        case n.Truth(value=v):
            return everywhere if v else set()
        case n.Last():
            return {length - 1} & inside
        case n.Not(operand=a):
            return everywhere - of(a)
        case n.And(operands=parts):
            return set.intersection(*map(of, parts))
        case n.Or(operands=parts):
            return set.union(*map(of, parts))
        case n.Implies(left=a, right=b):
            return (everywhere - of(a)) | of(b)
        case n.Temporal(op=op, operand=a, bounds=window):
            low, high = window or ((1, 1) if "next" in op else (0, length))
            good = of(a) & inside
            if op in ("eventually", "next"):
                return {i for i in everywhere if good & set(range(i + low, i + high + 1))}
            return {i for i in everywhere if set(range(i + low, i + high + 1)) & inside <= good}
        case n.TemporalBinary(op=op, left=a, right=b):
            if op == "before":
                return positions(binary("release", a, not_(b)), trace)
            if op == "release":
                return everywhere - positions(binary("until", not_(a), not_(b)), trace)
            left, right = of(a), of(b)
            result = set()  # backwards: the least fixed point, except that `weak_until` may run to the end
            for i in reversed(range(length)):
                goes_on = i + 1 in result or (op == "weak_until" and i + 1 == length)
                if i in right or (i in left and goes_on):
                    result.add(i)
            return result | ({length} if op == "weak_until" else set())
        case _:
            return {i for i in inside if evaluate(node, trace[i])}


@settings(max_examples=150, deadline=None)
@given(trace_formulas, st.lists(trace_values(known=True), max_size=5))
def test_against_sets_of_positions(node, trace):
    assert over(node, trace) is (0 in positions(node, trace)), format_formula(node)


@settings(max_examples=60, deadline=None)
@given(trace_formulas, traces, st.data())
def test_knowing_more_never_flips_a_verdict(node, trace, data):
    filled = [
        {
            k: v if v is not None else data.draw(st.sampled_from([Decimal(0), Decimal(1)]))
            for k, v in part.items()
        }
        for part in trace
    ]
    before, after = over(node, trace), over(node, filled)
    assert after is not None
    assert before in (None, after)


@settings(max_examples=60, deadline=None)
@given(trace_formulas, traces)
def test_checked_formulas_evaluate(node, trace):
    text = f"always over sentences ({format_formula(node)}) and toxicity < 0.5"
    (statement,) = check_source(DECLARATIONS + text).require().statements
    verdict = evaluate(statement.formula, Response({"toxicity": Decimal(0)}, {"sentences": trace}))
    assert verdict is over(node, trace)


def test_a_long_trace_under_a_deep_formula():
    text = "a until (b until (a until (b until (a weak_until (b release (a before c))))))"
    letters = "ab" * 2000
    found = in_linear_time.holds(formula(text), len(letters), lambda f, i: letters[i] in f.name.parts)
    assert found is True
    with pytest.raises(ValueError, match="inside"):
        in_linear_time.holds(n.Over(level="turns", operand=n.Last()), 3, lambda f, i: None)


def test_every_short_trace_of_a_hard_formula():
    # `b` only after an `a`, and the last part is no `a`; counted by hand.
    text = "(a before b) and not eventually (last and a)"
    for length in range(5):
        for trace in product("ab.", repeat=length):
            first_a = trace.index("a") if "a" in trace else length
            ordered = "b" not in trace[: first_a + 1]
            assert value(text, trace) is (ordered and trace[-1:] != ("a",))


def test_misuse():
    with pytest.raises(KeyError, match="no scores of `sentences`"):
        evaluate(formula("over sentences (a)"), {"a": Decimal(1)})
    with pytest.raises(ValueError, match="inside `over`"):
        holds(formula("over turns (a)"), 1, lambda atom, i: True)


def test_parts_under_an_order_without_parts_are_said_once():
    found = check_source("globally (over sentences (words < 3))").errors
    assert [error.code for error in found] == ["PC230"]
    found = check_source("globally toxcity < 1 and over turns (over sentences (last))").errors
    assert [error.code for error in found] == ["PC230", "PC101", "PC231"]
