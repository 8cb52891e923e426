"""Hypothesis strategies for policies: typed trees first, text by printing them."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

from constraintlang import nodes as n
from constraintlang.wording import KEYWORDS

NAMES = (
    "toxicity",
    "words",
    "slur",
    "baseline",
    "_x",
    "P2",
    "mean_length",
    "inside",
    "order",
    "r",
    "re",
    "e5",
)
FLAGS = ("slur", "refusal", "ssn")
SCORES = ("toxicity", "empathy")
COUNTS = ("words", "sentences")

names = st.sampled_from(NAMES) | st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True).filter(
    lambda s: s not in {word.lower() for word in KEYWORDS}
)
decimals = st.builds(
    lambda digits, exponent: Decimal((0, tuple(map(int, str(digits))), exponent)),
    st.integers(0, 10**12),
    st.integers(-12, 3),
)
numbers = st.builds(lambda v, p: n.Number(value=v, percent=p), decimals, st.booleans())
qualified = names | st.tuples(names, names).map(".".join)
plain_names = st.builds(
    lambda parts, model: n.Name(parts=tuple(parts), model=model),
    st.lists(names, min_size=1, max_size=2),
    st.none() | names,
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.one_of(
    names.map(lambda v: n.Scalar(value=v, kind="name")),
    texts.map(lambda v: n.Scalar(value=v, kind="string")),
    decimals.map(lambda v: n.Scalar(value=v, kind="number")),
    decimals.filter(bool).map(lambda v: n.Scalar(value=v.copy_negate(), kind="number")),
    decimals.map(lambda v: n.Scalar(value=v, kind="percent")),
    st.sampled_from([r"\d{3}", r"a\"b", "", r"\\", "x|y"]).map(lambda v: n.Scalar(value=v, kind="regex")),
    st.booleans().map(lambda v: n.Scalar(value=v, kind="truth")),
)
keywords = st.lists(st.tuples(names, scalars), max_size=2).map(tuple)
domain_keys = names | st.just("domain")


def many(inner, least=2, most=3):
    return st.lists(inner, min_size=least, max_size=most).map(tuple)


domain_predicates = st.recursive(
    st.builds(lambda k, v: n.DomainEquals(key=k, value=v), domain_keys, scalars)
    | st.builds(lambda k, v: n.DomainIn(key=k, values=v), domain_keys, many(scalars, 1)),
    lambda inner: (
        inner.map(lambda o: n.DomainNot(operand=o))
        | many(inner).map(lambda o: n.DomainAnd(operands=o))
        | many(inner).map(lambda o: n.DomainOr(operands=o))
    ),
    max_leaves=4,
)


@st.composite
def applies(draw, expr, formula):
    function = draw(st.sampled_from(["mean", "P", "quantile", "f"]))
    # The parser reads a bare name as a flag under `P` and as a number elsewhere.
    arguments = draw(many(formula if function == "P" else expr | formula.filter(_no_flag), 0, 2))
    given = draw(st.none() | domain_predicates)
    return n.Apply(function=function, arguments=arguments, keywords=draw(keywords), given=given)


def _no_flag(formula):
    return not isinstance(formula, n.Flag)


def _extend_expr(inner):
    return (
        inner.map(lambda o: n.Negate(operand=o))
        | st.builds(
            lambda op, a, b: n.Arithmetic(op=op, left=a, right=b), st.sampled_from("+-*/"), inner, inner
        )
        | applies(inner, _atoms(inner))
    )


def _atoms(expr):
    comparators = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    return st.one_of(
        st.builds(
            lambda first, rest: n.Compare(
                operands=(first, *(e for _, e in rest)), operators=tuple(op for op, _ in rest)
            ),
            expr,
            st.lists(st.tuples(comparators, expr), min_size=1, max_size=2),
        ),
        st.builds(lambda e, low, high: n.InRange(operand=e, low=low, high=high), expr, expr, expr),
        plain_names.map(lambda name: n.Flag(name=name)),
        st.booleans().map(lambda v: n.Truth(value=v)),
        st.just(n.Last()),
    )


expressions = st.recursive(numbers | plain_names, _extend_expr, max_leaves=5)


def _extend_formula(inner):
    bounds = st.none() | st.tuples(st.integers(0, 5), st.integers(0, 5))
    unary = st.sampled_from(["globally", "eventually", "next", "weak_next"])
    binary = st.sampled_from(["until", "weak_until", "release", "before"])
    return st.one_of(
        inner.map(lambda o: n.Not(operand=o)),
        many(inner).map(lambda o: n.And(operands=o)),
        many(inner).map(lambda o: n.Or(operands=o)),
        st.builds(lambda a, b: n.Implies(left=a, right=b), inner, inner),
        st.builds(lambda op, o, b: n.Temporal(op=op, operand=o, bounds=b), unary, inner, bounds),
        st.builds(lambda op, a, b: n.TemporalBinary(op=op, left=a, right=b), binary, inner, inner),
        st.builds(lambda level, o: n.Over(level=level, operand=o), names, inner),
    )


formulas = st.recursive(_atoms(expressions), _extend_formula, max_leaves=6)

clauses = st.one_of(
    domain_predicates.map(lambda p: n.ForClause(predicate=p)),
    many(names, 1).map(lambda k: n.PerClause(keys=k)),
    st.lists(st.tuples(names, scalars), min_size=1, max_size=2).map(
        lambda s: n.UnderClause(settings=tuple(s))
    ),
    expressions.map(lambda e: n.WeightClause(value=e)),
    st.integers(0, 9).map(lambda p: n.PriorityClause(value=p)),
    numbers.map(lambda v: n.ConfidenceClause(value=v)),
    texts.map(lambda t: n.BecauseClause(reason=t)),
)
clause_lists = st.lists(clauses, max_size=2).map(tuple)
statements = st.builds(
    lambda formula, label, strength, always, clauses: n.Statement(
        formula=formula, label=label, strength=strength, always=always, clauses=clauses
    ),
    formulas,
    st.none() | names,
    st.sampled_from(["require", "prefer", "preserve"]),
    st.booleans(),
    clause_lists,
)
field_values = (
    scalars
    | many(scalars, 1).map(lambda values: n.SetValue(values=values))
    | st.builds(
        lambda f, a, k: n.Call(function=f, arguments=a, keywords=k), names, many(scalars, 0, 2), keywords
    )
)
field_lists = st.lists(
    st.builds(lambda k, v: n.Field(name=k, value=v), names, field_values), min_size=1, max_size=3
)
fields = field_lists.map(tuple)
attributes = st.builds(
    lambda name, type, ends, flags, fields: n.Attribute(
        name=name, type=type, low=ends and ends[0], high=ends and ends[1], flags=flags, fields=fields
    ),
    qualified,
    names,
    st.none() | st.tuples(expressions, expressions),
    st.lists(names, max_size=2).map(tuple),
    st.just(()) | fields,
)
signed = decimals | decimals.filter(bool).map(lambda v: v.copy_negate())
test_items = st.builds(
    lambda name, value, model: n.Given(name=name, value=value, model=model),
    qualified,
    signed | many(signed, 1),
    st.none() | names,
) | st.builds(
    lambda outcome, text, on: n.Expect(outcome=outcome, text=text, on=on),
    names,
    st.none() | texts,
    st.none() | names,
)
simple_items = st.one_of(
    st.integers(1, 20).map(lambda number: n.Edition(number=number)),
    st.builds(lambda p, a: n.Import(path=p, alias=a), texts, st.none() | names),
    st.builds(lambda k, v: n.Let(name=k, value=v), names, expressions),
    attributes,
    st.builds(lambda name, f: n.Domain(name=name, fields=f), names, fields),
    st.builds(lambda key, v: n.Tag(key=key, values=v), names, many(scalars, 1)),
    st.builds(
        lambda name, c, i: n.Test(name=name, clauses=c, items=i), texts, clause_lists, many(test_items, 0)
    ),
    statements,
)
items = st.recursive(
    simple_items,
    lambda inner: st.builds(
        lambda name, c, i: n.Group(name=name, clauses=c, items=i), names, clause_lists, many(inner, 0, 2)
    ),
    max_leaves=3,
)
policies = st.lists(items, max_size=4).map(lambda found: n.Policy(items=tuple(found)))

# ---------------------------------------------------------------- well typed, for the semantics
DECLARATIONS = """edition 1
attribute slur: flag { backend = regex(re"slur") }
attribute refusal: flag { backend = regex(re"sorry") }
attribute ssn: flag { backend = regex(re"[0-9]{9}") }
attribute empathy: score in [0, 1] higher_is_better { backend = python("acme.judge:empathy") }
"""
score_values = st.integers(0, 10).map(lambda k: Decimal(k) / 10)
count_values = st.integers(0, 6).map(Decimal)
flag_values = st.integers(0, 1).map(Decimal)


def _name(name):
    return n.Name(parts=(name,))


def _number(value):
    return n.Number(value=value)


seq_atoms = st.one_of(
    st.builds(
        lambda a, op, v: n.Compare(operands=(_name(a), _number(v)), operators=(op,)),
        st.sampled_from(SCORES),
        st.sampled_from(["<", "<=", ">", ">="]),
        score_values,
    ),
    st.builds(
        lambda a, op, v: n.Compare(operands=(_name(a), _number(v)), operators=(op,)),
        st.sampled_from(COUNTS),
        st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
        count_values,
    ),
    st.builds(
        lambda a, low, high: n.InRange(operand=_name(a), low=_number(low), high=_number(high)),
        st.sampled_from(COUNTS),
        count_values,
        count_values,
    ),
    st.builds(
        lambda a, b, v: n.Compare(
            operands=(n.Arithmetic(op="+", left=_name(a), right=_name(b)), _number(v)), operators=("<=",)
        ),
        st.sampled_from(SCORES),
        st.sampled_from(SCORES),
        score_values,
    ),
    st.sampled_from(FLAGS).map(lambda name: n.Flag(name=_name(name))),
)
seq_formulas = st.recursive(
    seq_atoms,
    lambda inner: st.one_of(
        inner.map(lambda o: n.Not(operand=o)),
        many(inner).map(lambda o: n.And(operands=o)),
        many(inner).map(lambda o: n.Or(operands=o)),
        st.builds(lambda a, b: n.Implies(left=a, right=b), inner, inner),
    ),
    max_leaves=5,
)
trace_atoms = st.one_of(
    st.sampled_from(FLAGS).map(lambda name: n.Flag(name=_name(name))),
    st.builds(
        lambda op: n.Compare(operands=(_name("toxicity"), _number(Decimal("0.5"))), operators=(op,)),
        st.sampled_from(["<", ">=", "<=", ">"]),
    ),
    st.booleans().map(lambda v: n.Truth(value=v)),
    st.just(n.Last()),
)


def _extend_trace(inner):
    bounds = st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda b: tuple(sorted(b)))
    unary = st.sampled_from(["globally", "eventually", "next", "weak_next"])
    binary = st.sampled_from(["until", "weak_until", "release", "before"])
    return st.one_of(
        inner.map(lambda o: n.Not(operand=o)),
        many(inner).map(lambda o: n.And(operands=o)),
        many(inner).map(lambda o: n.Or(operands=o)),
        st.builds(lambda a, b: n.Implies(left=a, right=b), inner, inner),
        st.builds(lambda op, o, b: n.Temporal(op=op, operand=o, bounds=b), unary, inner, bounds),
        st.builds(lambda op, a, b: n.TemporalBinary(op=op, left=a, right=b), binary, inner, inner),
    )


trace_formulas = st.recursive(trace_atoms, _extend_trace, max_leaves=5)
"""Well-typed formulas about the parts of a response, for the inside of ``over sentences``."""


def trace_values(*, known=False):
    """The scores of one part."""
    unknown = st.nothing() if known else st.none()
    flags = st.sampled_from([Decimal(0), Decimal(1)]) | unknown
    tenths = st.sampled_from([Decimal("0.4"), Decimal("0.5"), Decimal("0.6")]) | unknown
    return st.fixed_dictionaries({name: flags for name in FLAGS} | {"toxicity": tenths})


traces = st.lists(trace_values(), max_size=4)
dist_formulas = st.builds(
    lambda f, op, v: n.Compare(operands=(n.Apply(function="P", arguments=(f,)), _number(v)), operators=(op,)),
    seq_formulas,
    st.sampled_from(["<", "<=", ">", ">="]),
    score_values,
) | st.builds(
    lambda a, op, v: n.Compare(
        operands=(n.Apply(function="mean", arguments=(_name(a),)), _number(v)), operators=(op,)
    ),
    st.sampled_from(SCORES),
    st.sampled_from(["<", "<=", ">", ">="]),
    score_values,
)
scores = st.fixed_dictionaries(
    {name: st.none() | score_values for name in SCORES}
    | {name: st.none() | count_values for name in COUNTS}
    | {name: st.none() | flag_values for name in FLAGS}
)
known_scores = st.fixed_dictionaries(
    {name: score_values for name in SCORES}
    | {name: count_values for name in COUNTS}
    | {name: flag_values for name in FLAGS}
)


@st.composite
def laws(draw, scores=known_scores):
    """A finite law of responses: exact probabilities that add up to 1."""
    from fractions import Fraction

    weights = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    return [(Fraction(w, sum(weights)), draw(scores)) for w in weights]


# ---------------------------------------------------------------- terms and statistics
seq_terms = st.one_of(
    st.sampled_from([*SCORES, *COUNTS]).map(_name),
    st.builds(
        lambda op, a, b: n.Arithmetic(op=op, left=_name(a), right=_name(b)),
        st.sampled_from("+-*"),
        st.sampled_from(SCORES),
        st.sampled_from(SCORES),
    ),
    st.builds(
        lambda k, a: n.Arithmetic(op="*", left=_number(Decimal(k)), right=_name(a)),
        st.integers(0, 3),
        st.sampled_from(SCORES),
    ),
)
"""Well-typed numbers of one response."""
tail_levels = st.sampled_from(["0.25", "0.5", "0.8", "0.95"]).map(Decimal)
dist_statistics = st.one_of(
    seq_formulas.map(lambda f: n.Apply(function="P", arguments=(f,))),
    st.builds(
        lambda f, a: n.Apply(function=f, arguments=(a,)), st.sampled_from(["mean", "median"]), seq_terms
    ),
    st.builds(
        lambda f, a, level: n.Apply(function=f, arguments=(a, _number(level))),
        st.sampled_from(["quantile", "cvar"]),
        seq_terms,
        tail_levels,
    ),
)
"""Well-typed numbers of a law of responses."""
