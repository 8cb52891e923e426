"""The automaton of a trace formula: the reference's meaning on every short trace, one form, final at traps."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_strategies import FLAGS, SCORES, trace_formulas, trace_values, traces

from constraintlang import nodes as n
from constraintlang import parse
from constraintlang.semantics import Response, evaluate, kleene_not
from constraintlang_compiler.canonical import canonical_bytes, record_json, sha256_of
from constraintlang_compiler.checkers import evaluate_predicate
from constraintlang_compiler.ir import Over, Predicate
from constraintlang_compiler.ir_monitors import TraceFormula
from constraintlang_compiler.lower_terms import lower_predicate
from constraintlang_compiler.lower_traces import lower_trace, negated_trace, value_without_parts
from constraintlang_compiler.monitors.bdd import Diagrams
from constraintlang_compiler.monitors.budget import Budget, BudgetExceeded
from constraintlang_compiler.monitors.dfa import Dfa, PrefixVerdict
from constraintlang_compiler.monitors.dfa import product as product_of
from constraintlang_compiler.monitors.trace_monitors import TraceMonitor, trace_monitor
from constraintlang_compiler.render import negation, predicate_text

Trace = list[dict[str, Decimal | None]]
LENGTH = 3


def monitor(formula: n.Formula | str, *, negated: bool = False) -> TraceMonitor:
    node = parse(formula)[0].items[0].formula if isinstance(formula, str) else formula  # type: ignore[union-attr]
    return trace_monitor(lowered(node, negated=negated), value_without_parts(node) != negated)


def lowered(node: n.Formula, *, negated: bool = False) -> TraceFormula:
    def part(inner: n.Formula, flip: bool) -> Predicate:
        return lower_predicate(inner, negated=flip)

    return lower_trace(node, part, negated=negated)


def reference(formula: n.Formula, trace: Trace) -> bool | None:
    return evaluate(n.Over(level="turns", operand=formula), Response({}, {"turns": trace}))


def truths(of: TraceMonitor, batch: list[Trace]) -> list[bool | None]:
    """What the batched runner says."""
    names = sorted({name for trace in batch for part in trace for name in part} | {*FLAGS, *SCORES})
    scores = {
        name: np.array([np.nan if p.get(name) is None else float(p[name]) for t in batch for p in t])  # type: ignore[arg-type]
        for name in names
    }
    lengths = np.array([len(trace) for trace in batch], dtype=np.int64)
    values = of.truth(lambda predicate: evaluate_predicate(predicate, scores), lengths)
    return [None if np.isnan(value) else bool(value) for value in values]


def content(of: TraceMonitor) -> bytes:
    assert of.content == canonical_bytes(record_json(of.record()))
    assert of.hash == sha256_of(record_json(of.record()))
    return of.content


def all_letters(formula: n.Formula) -> list[dict[str, Decimal | None]]:
    """Parts that differ in every way that the formulas can see."""
    flags = product((Decimal(0), Decimal(1)), repeat=2)
    values = (Decimal("0.4"), Decimal("0.5"), Decimal("0.6"))
    return [
        {"slur": a, "refusal": b, "ssn": Decimal(0), "toxicity": v} for (a, b), v in product(flags, values)
    ]


# ------------------------------------------------------------ 26: the same meaning
@settings(max_examples=100, deadline=None)
@given(trace_formulas)
def test_accepts_what_the_reference_accepts_on_every_short_trace(formula: n.Formula) -> None:
    letters = all_letters(formula)
    # All traces to length 2 and some thousand of length 3: the empty one first.
    batch: list[Trace] = [list(word) for length in range(LENGTH) for word in product(letters, repeat=length)]
    assert truths(monitor(formula), batch) == [reference(formula, trace) for trace in batch]


@settings(max_examples=40, deadline=None)
@given(trace_formulas, st.lists(st.lists(trace_values(), max_size=6), min_size=1, max_size=5))
def test_the_batched_runner_agrees_with_the_reference(formula: n.Formula, batch: list[Trace]) -> None:
    assert truths(monitor(formula), batch) == [reference(formula, trace) for trace in batch]


UNARY = ("globally", "eventually", "next", "weak_next")
BINARY = ("until", "weak_until", "release", "before")
OPERATORS = [*product(UNARY, (None, (0, 0), (0, 2), (1, 2), (2, 2))), *product(BINARY, (None,))]


@pytest.mark.parametrize(("op", "bounds"), OPERATORS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_every_operator_alone(op: str, bounds: tuple[int, int] | None, data: st.DataObject) -> None:
    slur, refusal = (n.Flag(name=n.Name(parts=(name,))) for name in ("slur", "refusal"))
    left, right = data.draw(
        st.sampled_from([(slur, refusal), (slur, n.Not(operand=refusal)), (refusal, refusal)])
    )
    formula: n.Formula
    if op in UNARY:
        formula = n.Temporal(op=op, operand=left, bounds=bounds)  # type: ignore[arg-type]
    else:
        formula = n.TemporalBinary(op=op, left=left, right=right)  # type: ignore[arg-type]
    formula = data.draw(st.sampled_from([formula, n.Not(operand=formula)]))
    batch = data.draw(st.lists(st.lists(trace_values(), max_size=5), min_size=8, max_size=8))
    assert truths(monitor(formula), batch) == [reference(formula, trace) for trace in batch]


# ------------------------------------------------------------ 27: duals
@settings(max_examples=50, deadline=None)
@given(trace_formulas, traces)
def test_negation_flips_acceptance(formula: n.Formula, trace: Trace) -> None:
    positive, negative = monitor(formula), monitor(formula, negated=True)
    assert negative.dfa == positive.dfa.complement()
    assert negative.alphabet == positive.alphabet
    (value,) = truths(positive, [trace])
    assert truths(negative, [trace]) == [kleene_not(value)]
    assert content(negative) == content(monitor(n.Not(operand=formula)))


@settings(max_examples=40, deadline=None)
@given(trace_formulas)
def test_lowering_a_negation_negates_the_record(formula: n.Formula) -> None:
    record = lowered(formula)
    assert lowered(formula, negated=True) == negated_trace(record)
    assert negated_trace(negated_trace(record)) == record


@settings(max_examples=40, deadline=None)
@given(trace_formulas, st.booleans())
def test_the_text_of_a_record_is_lowered_to_it(formula: n.Formula, negated: bool) -> None:
    over = lower_predicate(n.Over(level="turns", operand=formula), negated=negated)
    for predicate in (over, negation(over)):
        text = predicate_text(predicate)
        back = lower_predicate(parse(text)[0].items[0].formula)  # type: ignore[union-attr]
        assert back == predicate, text
    assert negation(negation(over)) == over
    if isinstance(over, Over):
        assert over.monitor == trace_monitor(over.formula, over.empty).hash


# ------------------------------------------------------------ 28: one form for one language
@settings(max_examples=50, deadline=None)
@given(trace_formulas, trace_formulas)
def test_equal_languages_have_equal_bytes(a: n.Formula, b: n.Formula) -> None:
    some = n.Temporal(op="eventually", operand=n.Truth(value=True))
    pairs = [
        (n.Temporal(op="globally", operand=a), n.Not(operand=n.Temporal(op="eventually", operand=n.Not(operand=a)))),
        (n.TemporalBinary(op="weak_until", left=a, right=b),
         n.Or(operands=(n.TemporalBinary(op="until", left=a, right=b), n.Temporal(op="globally", operand=a)))),
        (n.Temporal(op="eventually", operand=a),
         n.Or(operands=(n.And(operands=(some, a)),
                        n.Temporal(op="next", operand=n.Temporal(op="eventually", operand=a))))),
        (n.And(operands=(a, b)), n.And(operands=(b, a))),
        (n.Or(operands=(a, n.And(operands=(a, b)))), a),
        (n.Or(operands=(n.And(operands=(a, b)), n.And(operands=(a, n.Not(operand=b))))), a),
    ]  # fmt: skip
    for left, right in pairs:
        assert content(monitor(left)) == content(monitor(right))


@settings(max_examples=40, deadline=None)
@given(trace_formulas, trace_formulas)
def test_different_bytes_mean_different_languages(a: n.Formula, b: n.Formula) -> None:
    first, second = monitor(a), monitor(b)
    assume(content(first) != content(second))
    if first.alphabet == second.alphabet:
        # A word of the symmetric difference is no longer than the product has states.
        difference = product_of(first.dfa, second.dfa, np.not_equal, Budget())
        assert difference.accepting.any()
    else:
        both = monitor(n.And(operands=(n.Implies(left=a, right=b), n.Implies(left=b, right=a))))
        assert not both.dfa.accepting.all()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("globally not a >= 0.5", "globally a < 0.5"),
        ("globally 0.5 > a", "globally (a < 0.5 and a < 0.7)"),
        ("eventually (a < 0.3 or a >= 0.3)", "eventually true"),
        ("globally (a == 3 or p)", "globally (a in [3, 3] or p)"),
        ("globally (a < 3 and a >= 5)", "globally false"),
        ("globally a - b <= 0", "globally a - b < 0 or globally a - b <= 0"),
        ("globally a < b", "globally b > a"),
        ("globally not a < b", "globally (a > b or a == b)"),
        ("(p before q) and (p before q)", "not (not p until q)"),
    ],
)
def test_spellings_of_one_condition(left: str, right: str) -> None:
    assert content(monitor(left)) == content(monitor(right))


def test_a_written_out_automaton() -> None:
    assert json.loads(content(monitor("p before q"))) == {
        "format": "constraintc.dfa",
        "version": "1.0",
        "scales": [{"kind": "flag", "name": "p"}, {"kind": "flag", "name": "q"}],
        "accepting": [0, 2],
        "table": [[0, 1, 2, 1], [1, 1, 1, 1], [2, 2, 2, 2]],
    }
    assert json.loads(content(monitor("next a <= 0.5"))) == {
        "format": "constraintc.dfa",
        "version": "1.0",
        "scales": [
            {
                "kind": "scale",
                "left": {"kind": "attribute", "name": "a", "model": "self"},
                "right": None,
                "cuts": [{"op": "le", "value": "0.5"}],
            }
        ],
        "accepting": [2],
        "table": [[1, 1], [2, 3], [2, 2], [3, 3]],
    }


# ------------------------------------------------------------ 29: final exactly at traps
@settings(max_examples=50, deadline=None)
@given(trace_formulas)
def test_final_verdicts_are_the_traps(formula: n.Formula) -> None:
    dfa = monitor(formula).dfa
    for state, verdict in enumerate(dfa.verdicts()):
        trap = (dfa.table[state] == state).all()
        assert PrefixVerdict(verdict).is_final == trap
        assert (verdict >= PrefixVerdict.PRESUMABLY_TRUE) == dfa.accepting[state]


@settings(max_examples=50, deadline=None)
@given(trace_formulas, st.lists(trace_values(known=True), min_size=1, max_size=5))
def test_final_verdicts_never_change(formula: n.Formula, trace: Trace) -> None:
    found = monitor(formula)
    verdicts = found.dfa.verdicts()
    scores = {name: np.array([float(part[name]) for part in trace]) for name in trace[0]}  # type: ignore[arg-type]
    letters = np.broadcast_to(found.letters(lambda p: evaluate_predicate(p, scores)), len(trace))
    state, final = 0, None
    for end in range(len(trace) + 1):
        verdict = PrefixVerdict(verdicts[state])
        assert final in (None, verdict)
        final = verdict if verdict.is_final else final
        value = reference(formula, trace[:end])
        assert value == (verdict in (PrefixVerdict.FINAL_TRUE, PrefixVerdict.PRESUMABLY_TRUE))
        if end < len(trace):
            state = found.dfa.table[state, letters[end]]


# ------------------------------------------------------------ size
def test_windows_need_one_state_for_each_position() -> None:
    assert monitor("globally (p implies eventually[0, 10] q)").dfa.num_states == 12
    assert monitor("globally (p implies eventually[0, 100] q)").dfa.num_states == 102
    assert monitor("next[7, 7] p").dfa.num_states == 10


@pytest.mark.parametrize(
    "text",
    [
        "eventually[0, 20000] p",
        "eventually[" + "9" * 90 + ", " + "9" * 90 + "] p",
        "globally[20000, 20001] p",
        "eventually (p and next[14, 14] last)",  # must remember fifteen parts
        " and ".join(f"eventually a{i}" for i in range(13)),
        "globally (p implies eventually[14, 40] q)",
    ],
)
def test_what_outgrows_the_budget_is_refused(text: str) -> None:
    with pytest.raises(BudgetExceeded, match="more than"):
        monitor(text)


def test_the_budget_counts_steps() -> None:
    budget = Budget(max_steps=10)
    budget.spend(10)
    with pytest.raises(BudgetExceeded, match="10 steps"):
        budget.spend()


# ------------------------------------------------------------ diagrams alone
propositions = st.recursive(
    st.integers(0, 3),
    lambda inner: st.tuples(st.just("not"), inner) | st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(propositions, propositions)
def test_diagrams_are_equal_exactly_when_equivalent(a: object, b: object) -> None:
    diagrams = Diagrams(Budget())

    def node(f: Any) -> int:
        if isinstance(f, int):
            return diagrams.variable(3 - f)
        if f[0] == "not":
            return diagrams.negation(node(f[1]))
        return (diagrams.conjunction if f[0] == "and" else diagrams.disjunction)(node(f[1]), node(f[2]))

    def value(f: Any, world: tuple[bool, ...]) -> bool:
        if isinstance(f, int):
            return world[f]
        parts = [value(part, world) for part in f[1:]]
        return not parts[0] if f[0] == "not" else (all(parts) if f[0] == "and" else any(parts))

    def rewritten(f: Any) -> Any:
        """By De Morgan, operands in the other order."""
        if isinstance(f, int):
            return f
        if f[0] == "not":
            return ("not", rewritten(f[1]))
        return ("not", ("or" if f[0] == "and" else "and", *(("not", rewritten(part)) for part in f[:0:-1])))

    assert node(rewritten(a)) == node(a)
    tables = [[value(f, world) for world in product((False, True), repeat=4)] for f in (a, b)]
    assert (node(a) == node(b)) == (tables[0] == tables[1])
    assert diagrams.when_all_false(node(a)) == tables[0][0]


# ------------------------------------------------------------ automata alone
tables = st.integers(1, 6).flatmap(
    lambda size: st.tuples(
        st.lists(st.lists(st.integers(0, size - 1), min_size=2, max_size=2), min_size=size, max_size=size),
        st.lists(st.booleans(), min_size=size, max_size=size),
    )
)


def dfa_of(drawn: tuple[list[list[int]], list[bool]]) -> Dfa:
    return Dfa(np.array(drawn[0], dtype=np.int32), np.array(drawn[1], dtype=np.bool_))


@settings(max_examples=40, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_minimal_automata_are_minimal_and_canonical(
    drawn: tuple[list[list[int]], list[bool]], random: object
) -> None:
    dfa = dfa_of(drawn)
    small = dfa.minimal()
    words = [word for length in range(7) for word in product(range(2), repeat=length)]
    assert [small.accepts(word) for word in words] == [dfa.accepts(word) for word in words]
    # As many states as words can tell apart (Myhill and Nerode), from every beginning of a word.
    rows = {tuple(dfa.accepts((*start, *end)) for end in words[:63]) for start in words[:63]}
    assert small.num_states == len(rows)
    # Other names of the states change nothing.
    order = list(range(1, dfa.num_states))
    random.shuffle(order)  # type: ignore[attr-defined]
    order = [0, *order]
    place = np.argsort(order)
    renamed = Dfa(place[dfa.table[order]].astype(np.int32), dfa.accepting[order])
    assert renamed.minimal() == small


@settings(max_examples=60, deadline=None)
@given(tables, tables)
def test_products(
    first: tuple[list[list[int]], list[bool]], second: tuple[list[list[int]], list[bool]]
) -> None:
    a, b = dfa_of(first), dfa_of(second)
    both = product_of(a, b, np.logical_and, Budget())
    for word in (w for length in range(6) for w in product(range(2), repeat=length)):
        assert both.accepts(word) == (a.accepts(word) and b.accepts(word))
        assert a.complement().accepts(word) != a.accepts(word)


def test_an_arithmetic_comparison_is_a_condition_like_others() -> None:
    found = monitor("globally (a + 0.2 <= 0.3)")
    assert found.alphabet.num_letters == 2
    trace: Trace = [{"a": Decimal("0.1")}]
    assert truths(found, [trace, [*trace, {"a": Decimal("0.11")}], []]) == [True, False, True]
