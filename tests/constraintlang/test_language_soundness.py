"""Property 33: what the checker lets pass has a value; formulas of any kinds are drawn, right and wrong ones."""

from decimal import Decimal
from random import Random

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from policy_strategies import DECLARATIONS, FLAGS, SCORES, dist_formulas, laws, scores, seq_atoms

from constraintlang import check_source
from constraintlang import nodes as n
from constraintlang.printer import format_formula
from constraintlang.semantics import statement_holds


def name(text):
    return n.Name(parts=(text,))


numbers = st.sampled_from(["0", "0.5", "1"]).map(lambda text: n.Number(value=Decimal(text)))
measured = st.sampled_from([*SCORES, *FLAGS, "words"]).map(name)
functions = st.sampled_from(["mean", "median", "P", "quantile", "cvar"])


def apply(function, argument):
    """A statistic with as many arguments as it takes; whether it takes this one is for the checker to say."""
    level = (n.Number(value=Decimal("0.8")),) if function in ("quantile", "cvar") else ()
    return n.Apply(function=function, arguments=(argument, *level))


expressions = st.recursive(
    measured | numbers,
    lambda inner: (
        st.builds(lambda op, a, b: n.Arithmetic(op=op, left=a, right=b), st.sampled_from("+-*"), inner, inner)
        | st.builds(apply, functions, inner | seq_atoms)
    ),
    max_leaves=3,
)
sides = measured | st.builds(apply, functions, measured) | expressions
atoms = (
    st.builds(
        lambda a, op, b: n.Compare(operands=(a, b), operators=(op,)),
        sides,
        st.sampled_from(["<", "<=", ">", ">=", "=="]),
        numbers | sides,
    )
    | seq_atoms
    | dist_formulas
    | measured.map(lambda a: n.Flag(name=a))
)
formulas = st.recursive(
    atoms,
    lambda inner: (
        inner.map(lambda o: n.Not(operand=o))
        | st.lists(inner, min_size=2, max_size=2).map(lambda o: n.And(operands=tuple(o)))
        | st.lists(inner, min_size=2, max_size=2).map(lambda o: n.Or(operands=tuple(o)))
        | st.builds(lambda a, b: n.Implies(left=a, right=b), inner, inner)
    ),
    max_leaves=3,
)


def checked(formula):
    """The checked statement, or None when the checker refuses it."""
    policy = check_source(DECLARATIONS + format_formula(formula)).policy
    return None if policy is None else policy.statements[0]


@settings(max_examples=250, deadline=None)
@given(formulas, laws(scores))
def test_33_what_is_validated_has_a_value(formula, law):
    statement = checked(formula)
    if statement is None:
        return
    try:
        verdict = statement_holds(statement, law)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError) as error:
        raise AssertionError(f"`{statement.text}` passed the checker and has no value: {error!r}") from error
    assert isinstance(verdict, bool)


@pytest.mark.parametrize("reading", ["pointwise", "distribution", None])
def test_33_is_about_statements_of_every_kind(reading):
    def is_one(formula):
        statement = checked(formula)
        return (statement and statement.reading) == reading and not isinstance(formula, n.Flag)

    assert is_one(
        find(formulas, is_one, settings=settings(database=None, phases=[Phase.generate]), random=Random(0))
    )
