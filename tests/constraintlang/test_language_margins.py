"""Properties 1 to 10 of margins, for every logic that is shipped; numbers follow the specification."""

import math
from decimal import Decimal
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_strategies import (
    DECLARATIONS,
    FLAGS,
    dist_formulas,
    known_scores,
    laws,
    scores,
    seq_atoms,
    seq_formulas,
)

from constraintlang import check_source, parse
from constraintlang import margins as margins_module
from constraintlang import nodes as n
from constraintlang.margins import CRISP, HUGE, atom_margin, gap, influences, margin, smooth
from constraintlang.normal_form import (
    Junction,
    Link,
    Whole,
    atoms,
    normal_form,
    on_law,
    on_response,
    truth,
)
from constraintlang.printer import format_formula
from constraintlang.reasons import failing_atoms, reasons
from constraintlang.scales import scales_of
from constraintlang.scores import score_problem
from constraintlang.semantics import Response, evaluate, evaluate_distribution

LOGICS = (CRISP, smooth(), smooth(3))
EVERYTHING = "toxicity + empathy < 2 and words + sentences < 9 and slur and refusal and ssn\n"
ATTRIBUTES = check_source(DECLARATIONS + EVERYTHING).require().attributes
every_logic = pytest.mark.parametrize("logic", LOGICS, ids=["crisp", "smooth", "blunt"])
many = settings(max_examples=20, deadline=None)


def margin_of(formula, values, logic=CRISP, attributes=ATTRIBUTES, scales=None):
    scales = scales or scales_of(formula, attributes)
    valuation = on_response(values)
    return margin(normal_form(formula), logic, lambda atom: atom_margin(atom, valuation, scales, attributes))


def negation(formula):
    return n.Not(operand=formula)


def both(*formulas):
    return n.And(operands=formulas)


def either(*formulas):
    return n.Or(operands=formulas)


def close(left, right):
    return left == right or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)


def test_every_logic_that_is_shipped_is_tested():
    shipped = {
        name: thing for name, thing in vars(margins_module).items() if isinstance(thing, margins_module.Logic)
    }
    makers = [
        f for f in vars(margins_module).values() if getattr(f, "__annotations__", {}).get("return") == "Logic"
    ]
    assert shipped == {"CRISP": CRISP}
    assert makers == [smooth]
    assert {logic.name for logic in LOGICS} == {"crisp", "smooth"}


# ---------------------------------------------------------------- the normal form
@many
@given(seq_formulas, scores)
def test_the_normal_form_means_the_same(formula, values):
    form = normal_form(formula)
    assert truth(form, on_response(values)) is evaluate(formula, values)
    turned = normal_form(formula, negated=True)
    assert truth(turned, on_response(values)) is evaluate(negation(formula), values)


@many
@given(seq_formulas)
def test_the_normal_form_has_one_shape(formula):
    stack = [normal_form(formula)]
    while stack:
        form = stack.pop()
        if isinstance(form, Junction):
            assert all(not isinstance(part, Junction) or part.all != form.all for part in form.parts)
            assert len(form.parts) != 1
            stack.extend(form.parts)
        else:
            assert isinstance(form, Link | Whole)


@many
@given(dist_formulas, laws())
def test_the_normal_form_on_the_distribution(formula, law):
    assert truth(normal_form(formula), on_law(law)) is evaluate_distribution(formula, law)


def test_constants_decide_or_say_nothing():
    def form(text):
        (statement,) = parse(text)[0].items
        return normal_form(statement.formula)

    assert form("true and slur") == form("slur") == form("not (false or not slur)")
    assert form("slur or true") == form("not (false and slur)") == Junction(True, ())
    assert margin(form("true"), CRISP, lambda atom: None) == math.inf
    assert margin(form("false"), smooth(), lambda atom: None) == -math.inf


# ---------------------------------------------------------------- 1, 8: soundness
@every_logic
@many
@given(seq_formulas, known_scores)
def test_1_the_sign_is_the_truth_value(logic, formula, values):
    found = margin_of(formula, values, logic)
    assert found is not None
    if found > 0:
        assert evaluate(formula, values) is True
    if found < -gap(normal_form(formula), logic):
        assert evaluate(formula, values) is False
    if logic is CRISP and found < 0:
        assert evaluate(formula, values) is False


@many
@given(dist_formulas, laws())
def test_1_on_the_distribution(formula, law):
    scales = scales_of(formula, ATTRIBUTES)
    found = margin(
        normal_form(formula), CRISP, lambda atom: atom_margin(atom, on_law(law), scales, ATTRIBUTES)
    )
    if found != 0:
        assert evaluate_distribution(formula, law) is (found > 0)


# ---------------------------------------------------------------- 2: truth tables
@every_logic
def test_2_truth_tables(logic):
    a, b = (n.Flag(name=n.Name(parts=(name,))) for name in ("slur", "ssn"))
    table = {
        "not": (negation(a), lambda x, y: not x),
        "and": (both(a, b), lambda x, y: x and y),
        "or": (either(a, b), lambda x, y: x or y),
        "implies": (n.Implies(left=a, right=b), lambda x, y: not x or y),
        "iff": (
            both(n.Implies(left=a, right=b), n.Implies(left=b, right=a)),
            lambda x, y: x == y,
        ),
        "xor": (negation(both(n.Implies(left=a, right=b), n.Implies(left=b, right=a))), lambda x, y: x != y),
    }
    for word, (formula, expected) in table.items():
        for x, y in product([True, False], repeat=2):
            found = margin_of(formula, {"slur": Decimal(x), "ssn": Decimal(y)}, logic)
            assert found != 0
            assert (found > 0) == expected(x, y), (word, x, y)


CONNECTIVES = {
    "not": lambda a, b: (negation(a), lambda x, y: not x),
    "and": lambda a, b: (both(a, b), lambda x, y: x and y),
    "or": lambda a, b: (either(a, b), lambda x, y: x or y),
    "implies": lambda a, b: (n.Implies(left=a, right=b), lambda x, y: not x or y),
    "iff": lambda a, b: (
        both(n.Implies(left=a, right=b), n.Implies(left=b, right=a)),
        lambda x, y: x == y,
    ),
}


flags = st.sampled_from(FLAGS).map(lambda name: n.Flag(name=n.Name(parts=(name,))))
literals = flags | flags.map(negation)


@every_logic
@pytest.mark.parametrize("word", CONNECTIVES)
@settings(max_examples=15, deadline=None)
@given(literals | seq_atoms, literals | seq_atoms, known_scores)
def test_2_a_connective_of_any_two_atoms_has_the_sign_of_its_truth_value(logic, word, a, b, values):
    formula, table = CONNECTIVES[word](a, b)
    scales = scales_of(both(a, b), ATTRIBUTES)
    one, other = (margin_of(atom, values, logic, scales=scales) for atom in (a, b))
    if min(abs(one), abs(other)) <= gap(normal_form(formula), logic):
        return  # so near to the boundary that the logic says nothing; flags never are
    found = margin_of(formula, values, logic, scales=scales)
    assert found != 0
    assert (found > 0) == table(one > 0, other > 0)


@pytest.mark.parametrize(
    ("operator", "signs"),
    [("<", "+0-"), ("<=", "+0-"), (">", "-0+"), (">=", "-0+"), ("==", "-+-"), ("!=", "+-+")],
)
def test_2_comparisons(operator, signs):
    formula = n.Compare(
        operands=(n.Name(parts=("words",)), n.Number(value=Decimal(3))), operators=(operator,)
    )
    found = [margin_of(formula, {"words": Decimal(value)}) for value in (2, 3, 4)]
    assert [(value > 0) - (value < 0) for value in found] == [{"+": 1, "0": 0, "-": -1}[s] for s in signs]


# ---------------------------------------------------------------- 3: negation, De Morgan, implies
@settings(max_examples=150, deadline=None)
@given(seq_formulas, known_scores)
def test_3_negation_turns_the_crisp_margin(formula, values):
    assert margin_of(negation(formula), values) == -margin_of(formula, values)


@every_logic
@many
@given(seq_formulas, seq_formulas, known_scores)
def test_3_laws_of_negation(logic, a, b, values):
    def same(left, right):
        scales = scales_of(both(left, right), ATTRIBUTES)
        first = margin_of(left, values, logic, scales=scales)
        assert first == margin_of(right, values, logic, scales=scales)

    same(negation(negation(a)), a)
    same(negation(both(a, b)), either(negation(a), negation(b)))
    same(negation(either(a, b)), both(negation(a), negation(b)))
    same(n.Implies(left=a, right=b), either(negation(a), b))
    assert margin_of(negation(a), values, logic) <= -margin_of(a, values, logic) + 1e-12


# ---------------------------------------------------------------- 4, 5, 6: distances
def moved(values, shares, scales, limit):
    """Other scores, each moved by less than ``limit`` of its scale, counts by whole steps, flags not at all."""
    found = {}
    for name, value in values.items():
        step = Fraction(shares[name]) * limit * scales[name]
        if ATTRIBUTES[name].type == "count":
            step = Fraction(math.trunc(step))
        found[name] = value if ATTRIBUTES[name].type == "flag" else Fraction(value) + step
    return found


shares = st.fixed_dictionaries(
    {name: st.fractions(-1, 1, max_denominator=97).filter(lambda s: abs(s) < 1) for name in ATTRIBUTES}
)


@every_logic
@many
@given(seq_formulas, known_scores, shares)
def test_4_less_than_the_margin_changes_nothing(logic, formula, values, shares):
    found = margin_of(formula, values, logic)
    assume(found > 0 or (found < 0 and logic is CRISP))
    scales = scales_of(formula, ATTRIBUTES)
    others = moved(values, shares, scales, abs(Fraction(found)))
    assert evaluate(formula, others) is evaluate(formula, values)


@every_logic
@many
@given(seq_formulas, known_scores, shares, st.fractions(0, 3))
def test_5_the_margin_moves_no_faster_than_the_scores(logic, formula, values, shares, limit):
    scales = scales_of(formula, ATTRIBUTES)
    others = moved(values, shares, scales, limit)
    distance = max(abs(Fraction(others[name]) - Fraction(values[name])) / scales[name] for name in values)
    if logic is CRISP:
        assert abs(margin_of(formula, others) - margin_of(formula, values)) <= distance
    # Any other logic is nowhere farther below the crisp one than its gap.
    moves = abs(margin_of(formula, others, logic) - margin_of(formula, values, logic))
    assert moves <= distance + gap(normal_form(formula), logic) + 1e-9


scaled_atoms = st.tuples(
    st.sampled_from(["x", "w"]), st.sampled_from(["<", "<=", ">", ">="]), st.integers(0, 40)
)


@every_logic
@many
@given(
    st.lists(scaled_atoms, min_size=1, max_size=4),
    st.sampled_from([" and ", " or ", " implies "]),
    st.sampled_from(["x", "w"]),
    st.sampled_from([Decimal("0.5"), Decimal(3), Decimal(1000)]),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_6_units_do_not_matter(logic, parts, word, name, factor, x, w):
    # An open range whose only thresholds are 0 has no scale but 1.
    assume(name == "x" or any(c for a, _, c in parts if a == "w"))

    def judged(factors):
        text = word.join(f"{a} {op} {Decimal(c) * factors[a]}" for a, op, c in parts)
        text = f"attribute x: real in [0, {40 * factors['x']}]\nattribute w: real in [0, inf]\n{text}\n"
        policy = check_source(text).require()
        values = {"x": x * factors["x"], "w": w * factors["w"]}
        formula = policy.statements[0].formula
        return margin_of(formula, values, logic, policy.attributes), evaluate(formula, values)

    # An open range takes its unit from the thresholds; where they are all 0, nothing says what the unit is.
    bounds = [c for a, _, c in parts if a == name]
    assume(name == "x" or not bounds or any(bounds))
    one = {"x": Decimal(1), "w": Decimal(1)}
    assert judged(one) == judged(one | {name: factor})


def test_scales():
    policy = check_source(
        "attribute grade: real in [0, 20]\nattribute loss: real\nattribute slur: flag\n"
        "2 * words < 300 and words > 10 and grade < 3 and loss < inf_loss and slur\nlet inf_loss = 0\n"
    ).require()
    found = scales_of(policy.statements[0].formula, policy.attributes)
    assert found == {"P": 1, "words": 150, "grade": 20, "loss": 1, "slur": 1}


def test_terms_that_are_not_linear_have_no_margin():
    formula = check_source("toxicity * toxicity < 0.5").require().statements[0].formula
    assert margin_of(formula, {"toxicity": Decimal(0)}) is None
    assert margin_of(formula, {"toxicity": None}) is None
    cancelled = check_source("toxicity - toxicity < 0.5").require().statements[0].formula
    assert margin_of(cancelled, {"toxicity": Decimal(1)}) == math.inf


def test_statistics_of_one_attribute_do_not_cancel():
    policy = check_source(
        "P(toxicity > 0.5) < P(words > 10)\nquantile(toxicity, 0.9) - median(toxicity) < 0.25\n"
    ).require()
    half = Fraction(1, 2)
    law = [
        (half, {"toxicity": Decimal(0), "words": Decimal(20)}),
        (half, {"toxicity": Decimal(1), "words": Decimal(20)}),
    ]
    chances, spread = policy.statements
    assert reasons(chances.formula, on_law(law), policy.attributes).margin == half / 2
    assert reasons(spread.formula, on_law(law), policy.attributes).margin == Fraction(-3, 8)


# ---------------------------------------------------------------- 7: lattice laws
@every_logic
@many
@given(seq_formulas, seq_formulas, seq_formulas, known_scores)
def test_7_lattice_laws(logic, a, b, c, values):
    scales = scales_of(both(a, b, c), ATTRIBUTES)

    def value(formula):
        return margin_of(formula, values, logic, scales=scales)

    for join, other in ((both, either), (either, both)):
        assert close(value(join(a, b)), value(join(b, a)))
        assert close(value(join(a, join(b, c))), value(join(join(a, b), c)))
        if logic is CRISP:
            assert value(join(a, a)) == value(a)
            assert value(join(a, other(a, b))) == value(a)
        else:
            slack = gap(normal_form(join(a, a)), logic) + 1e-9
            assert abs(value(join(a, a)) - value(a)) <= slack


# ---------------------------------------------------------------- 8: the smooth logic against the crisp one
@pytest.mark.parametrize("sharpness", [1, 20, 1000])
@many
@given(seq_formulas, known_scores)
def test_8_below_the_crisp_margin_and_near_it(sharpness, formula, values):
    logic = smooth(sharpness)
    form = normal_form(formula)
    crisp, found = margin_of(formula, values), margin_of(formula, values, logic)
    assert float(found) <= float(crisp)
    assert float(crisp) - float(found) <= gap(form, logic) + 1e-9
    if isinstance(form, Junction) and not any(isinstance(part, Junction) for part in form.parts):
        assert gap(form, logic) == math.log(len(form.parts)) / sharpness


margins = st.floats(-1e300, 1e300) | st.floats(-2, 2) | st.just(HUGE**3) | st.fractions(-5, 5)


@every_logic
@many
@given(st.lists(margins, min_size=2, max_size=5), st.booleans())
def test_8_finite_with_finite_derivatives_that_add_up_to_one(logic, values, all):
    formulas = tuple(n.Flag(name=n.Name(parts=(f"a{i}",))) for i in range(len(values)))
    form = normal_form(both(*formulas) if all else either(*formulas))
    of_atom = dict(zip(atoms(form), values, strict=True)).__getitem__
    assert math.isfinite(float(max(min(margin(form, logic, of_atom), HUGE), -HUGE)))
    found = influences(form, logic, of_atom)
    assert all_finite(found)
    assert sum(found) == pytest.approx(1, abs=1e-6)  # so never all zero: every violation has a way out


def all_finite(values):
    return all(math.isfinite(value) for value in values)


@many
@given(seq_formulas, known_scores, st.sampled_from([2, 30]))
def test_8_derivatives_against_differences(formula, values, sharpness):
    logic, form = smooth(sharpness), normal_form(formula)
    scales, valuation = scales_of(formula, ATTRIBUTES), on_response(values)
    exact = [float(atom_margin(atom, valuation, scales, ATTRIBUTES)) for atom in atoms(form)]
    assume(all_finite(exact))

    def at(position, step):
        shifted = iter([value + step * (i == position) for i, value in enumerate(exact)])
        return margin(form, logic, lambda atom: next(shifted))

    # `influences` reads atoms more than once, so they are told apart by identity.
    table = {id(atom): value for atom, value in zip(atoms(form), exact, strict=True)}
    found = influences(form, logic, lambda atom: table[id(atom)])
    step = 1e-6
    for position, derivative in enumerate(found):
        difference = (at(position, step) - at(position, -step)) / (2 * step)
        assert derivative == pytest.approx(difference, abs=1e-3)


def test_8_a_sharpness_must_make_sense():
    for wrong in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match="sharpness"):
            smooth(wrong)


# ---------------------------------------------------------------- 9, 10: unknown and impossible scores
@every_logic
@many
@given(seq_formulas, scores, known_scores)
def test_9_knowing_more_never_changes_what_was_known(logic, formula, some, known):
    filled = {name: known[name] if value is None else value for name, value in some.items()}
    scales = scales_of(formula, ATTRIBUTES)
    before, after = (margin_of(formula, values, logic, scales=scales) for values in (some, filled))
    assert after is not None
    assert before is None or before == after
    if evaluate(formula, some) is not None:
        assert evaluate(formula, filled) is evaluate(formula, some)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("toxicity", "0", None), ("toxicity", "1", None), ("toxicity", "1.01", "lies in [0, 1]"),
        ("toxicity", "-0.01", "lies in [0, 1]"), ("toxicity", "NaN", "lies in [0, 1]"),
        ("toxicity", "Infinity", "lies in [0, 1]"), ("words", "3", None), ("words", "-1", "is at least 0"),
        ("words", "2.5", "takes whole numbers"), ("words", "NaN", "is at least 0"),
        ("slur", "1", None), ("slur", "0.5", "is a flag: 0 or 1"), ("slur", "NaN", "is a flag: 0 or 1"),
    ],
)  # fmt: skip
def test_10_impossible_scores_are_no_numbers(name, value, problem):
    assert score_problem(ATTRIBUTES[name], Decimal(value)) == problem


def test_10_open_ranges():
    policy = check_source("attribute a: real\nattribute b: real in [-inf, 3]\na < 1 or b < 1")
    attributes = policy.require().attributes
    assert score_problem(attributes["a"], Decimal("NaN")) == "is a finite number"
    assert score_problem(attributes["a"], Decimal("-Infinity")) == "is a finite number"
    assert score_problem(attributes["b"], Decimal(4)) == "is at most 3"


# ---------------------------------------------------------------- reasons
@many
@given(seq_formulas, scores)
def test_failing_atoms_are_enough_and_none_is_idle(formula, values):
    form, valuation = normal_form(formula), on_response(values)
    found = failing_atoms(form, valuation)
    if evaluate(formula, values) is True:
        assert found == []
        return
    chosen = {id(atom) for atom in found}
    assert all(truth(atom, valuation) is not True for atom in found)
    assert not could_be_true(form, chosen)
    for left_out in chosen:
        assert could_be_true(form, chosen - {left_out})


def could_be_true(form, failing):
    """Whether a normal form can be true when exactly these atoms are not."""
    if not isinstance(form, Junction):
        return id(form) not in failing
    parts = [could_be_true(part, failing) for part in form.parts]
    return all(parts) if form.all else any(parts)


@many
@given(seq_formulas, known_scores)
def test_the_tree_of_reasons(formula, values):
    root = reasons(formula, on_response(values), ATTRIBUTES)
    assert root.truth is evaluate(formula, values)
    assert root.margin == margin_of(formula, values)
    leaves = list(root.leaves())
    if root.margin is not None and not math.isinf(root.margin):
        decisive = [leaf for leaf in leaves if leaf.decides]
        assert decisive
        assert any(abs(leaf.margin) <= abs(root.margin) or leaf.margin == root.margin for leaf in decisive)
    assert any(leaf.fails for leaf in leaves) == (root.truth is not True)
    for leaf in leaves:
        for name, value in leaf.values:
            assert name in leaf.text
            if name in values:
                assert value == Fraction(values[name])


def test_what_is_read_is_shown():
    policy = check_source("edition 1\na: 2 * words + 1 < 30\nb: mean(toxicity) * 2 < 0.3\n").require()
    first, second = policy.statements
    (leaf,) = reasons(first.formula, on_response({"words": Decimal(20)}), policy.attributes).leaves()
    assert leaf.values == (("2 * words + 1", 41), ("words", 20))
    law = [(Fraction(1, 4), {"toxicity": Decimal(1)}), (Fraction(3, 4), {"toxicity": Decimal(0)})]
    (leaf,) = reasons(second.formula, on_law(law), policy.attributes).leaves()
    assert leaf.values == (("mean(toxicity) * 2", Fraction(1, 2)), ("mean(toxicity)", Fraction(1, 4)))
    assert leaf.margin == (Fraction(3, 10) - Fraction(1, 2)) / 2
    assert format_formula(second.formula) == leaf.text


def test_order_of_unknown_parts_is_unknown_within_a_formula() -> None:
    text = 'edition 1\nattribute calm: flag { backend = regex(re"calm") }\nwords < 9 and over turns (last before calm)'
    (statement,) = check_source(text).require().statements
    for words, value in ((3, None), (9, False)):
        root = reasons(statement.formula, on_response({"words": Decimal(words)}), ATTRIBUTES)
        assert (root.truth, root.parts[1].truth) == (value, None)
    known = Response({"words": Decimal(3)}, {"turns": [{"calm": Decimal(1)}]})
    root = reasons(statement.formula, on_response(known), ATTRIBUTES)
    assert (root.truth, root.parts[1].truth) == (False, False)
