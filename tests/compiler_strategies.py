"""Random formulas, scores and finite laws over a small fixed vocabulary, for the compiler's tests."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import strategies as st

from constraintlang import nodes
from constraintlang.base_model import on_base
from constraintlang.checked import AttributeInfo, CheckedPolicy, CheckedStatement

ATTRIBUTES = {
    info.name: info
    for info in (
        AttributeInfo("toxicity", "score", Decimal(0), Decimal(1), "lower", None),
        AttributeInfo("grade", "real", Decimal("-2.5"), Decimal(4), None, None),
        AttributeInfo("words", "count", Decimal(0), None, None, None),
        AttributeInfo("slur", "flag", None, None, None, None),
        AttributeInfo("refusal", "flag", None, None, None, None),
    )
}
NUMERIC, FLAGS, BOUNDED = ("toxicity", "grade", "words"), ("slur", "refusal"), ("toxicity", "grade")

# Few different values, so that scores meet thresholds exactly.
numbers = st.sampled_from(["0", "0.1", "0.2", "0.3", "0.5", "1", "2", "3", "0.07", "1.5"]).map(
    lambda text: nodes.Number(value=Decimal(text))
)


def names(choices: tuple[str, ...]) -> st.SearchStrategy[nodes.Expr]:
    return st.sampled_from(choices).map(lambda name: nodes.Name(parts=(name,)))


def expressions(
    choices: tuple[str, ...] = NUMERIC, *, division: bool = True
) -> st.SearchStrategy[nodes.Expr]:
    """Arithmetic over one response."""
    return st.recursive(
        st.one_of(names(choices), numbers),
        lambda inner: st.one_of(
            st.builds(nodes.Negate, operand=inner),
            st.builds(
                nodes.Arithmetic, op=st.sampled_from("+-*/" if division else "+-*"), left=inner, right=inner
            ),
        ),
        max_leaves=4,
    )


atoms: st.SearchStrategy[nodes.Formula] = st.one_of(
    st.builds(nodes.Truth, value=st.booleans()),
    st.sampled_from(FLAGS).map(lambda name: nodes.Flag(name=nodes.Name(parts=(name,)))),
    st.builds(
        lambda operands, operators: nodes.Compare(
            operands=tuple(operands), operators=tuple(operators[: len(operands) - 1])
        ),
        st.lists(expressions(), min_size=2, max_size=3),
        st.lists(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), min_size=2, max_size=2),
    ),
    st.builds(nodes.InRange, operand=expressions(), low=numbers, high=numbers),
)
formulas: st.SearchStrategy[nodes.Formula] = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(nodes.Not, operand=inner),
        st.builds(nodes.And, operands=st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(nodes.Or, operands=st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(nodes.Implies, left=inner, right=inner),
    ),
    max_leaves=6,
)


def score_values(name: str) -> st.SearchStrategy[Decimal]:
    if name in FLAGS:
        return st.sampled_from([Decimal(0), Decimal(1)])
    if name == "words":
        return st.integers(0, 5).map(Decimal)
    low, high = (-25, 40) if name == "grade" else (0, 10)
    tenths = st.integers(low, high).map(lambda value: Decimal(value) / 10)
    return st.one_of(tenths, st.integers(10 * low, 10 * high).map(lambda value: Decimal(value) / 100))


known_scores = st.fixed_dictionaries({name: score_values(name) for name in ATTRIBUTES})
scores_with_unknown = st.fixed_dictionaries(
    {name: st.one_of(score_values(name), score_values(name), st.none()) for name in ATTRIBUTES}
)


def laws(scores: st.SearchStrategy[dict]) -> st.SearchStrategy[list[tuple[Fraction, dict]]]:
    """Laws on one to five responses with rational probabilities that sum to 1."""
    weighted = st.lists(st.tuples(st.integers(1, 9), scores), min_size=1, max_size=5)
    return weighted.map(
        lambda rows: [(Fraction(weight, sum(w for w, _ in rows)), row) for weight, row in rows]
    )


def statement(formula: nodes.Formula, reading: str, **settings: object) -> CheckedStatement:
    values: dict = {
        "formula": formula,
        "text": "text",
        "label": None,
        "strength": "require",
        "always": False,
        "reading": reading,
        "domain": None,
        "tolerance": Decimal("0.05") if reading == "pointwise" else None,
        **settings,
    }
    return CheckedStatement(**values)


def policy(*statements: CheckedStatement) -> CheckedPolicy:
    return CheckedPolicy(1, ATTRIBUTES, statements)


# ------------------------------------------------------------------ distribution-level statements
statistics_of_responses: st.SearchStrategy[nodes.Expr] = st.one_of(
    expressions(BOUNDED, division=False).map(lambda e: nodes.Apply(function="mean", arguments=(e,))),
    expressions(NUMERIC, division=False).map(lambda e: nodes.Apply(function="mean", arguments=(e,))),
    formulas.map(lambda formula: nodes.Apply(function="P", arguments=(formula,))),
)
factors = st.sampled_from(["1", "2", "0.5", "3", "10", "7"]).map(lambda t: nodes.Number(value=Decimal(t)))


def _linear(statistic: nodes.Expr, factor: nodes.Expr, offset: nodes.Expr, shape: int) -> nodes.Expr:
    scaled = nodes.Arithmetic(op="*", left=factor, right=statistic)
    shapes = (
        statistic,
        scaled,
        nodes.Negate(operand=scaled),
        nodes.Arithmetic(op="-", left=scaled, right=offset),
        nodes.Arithmetic(op="-", left=offset, right=scaled),
        nodes.Arithmetic(op="/", left=statistic, right=factor),
    )
    return shapes[shape]


linear_statistics = st.builds(_linear, statistics_of_responses, factors, numbers, st.integers(0, 5))
order = st.sampled_from(["<", "<=", ">", ">="])
single_comparisons = st.builds(
    lambda left, op, right, swap: nodes.Compare(
        operands=(right, left) if swap else (left, right), operators=(op,)
    ),
    linear_statistics,
    order,
    numbers,
    st.booleans(),
)
distribution_atoms: st.SearchStrategy[nodes.Formula] = st.one_of(
    single_comparisons,
    st.builds(nodes.Not, operand=single_comparisons),
    st.builds(nodes.InRange, operand=linear_statistics, low=numbers, high=numbers),
    st.builds(
        lambda low, first, middle, second, high: nodes.Compare(
            operands=(low, middle, high), operators=(first, second)
        ),
        numbers,
        st.sampled_from(["<", "<="]),
        linear_statistics,
        st.sampled_from(["<", "<="]),
        numbers,
    ),
)
distribution_formulas: st.SearchStrategy[nodes.Formula] = st.one_of(
    distribution_atoms,
    st.builds(nodes.And, operands=st.lists(distribution_atoms, min_size=2, max_size=3).map(tuple)),
)

# ------------------------------------------------------------------ several statistics, conditions, both models
langs = st.sampled_from(["en", "de"])
conditions: st.SearchStrategy[nodes.DomainPredicate] = st.recursive(
    langs.map(lambda lang: nodes.DomainEquals(key="lang", value=nodes.Scalar(value=lang, kind="name"))),
    lambda inner: st.builds(nodes.DomainNot, operand=inner),
    max_leaves=2,
)
levels = st.sampled_from(["0.5", "0.8", "0.25", "0.9"]).map(lambda t: nodes.Number(value=Decimal(t)))


simple_events: st.SearchStrategy[nodes.Formula] = st.recursive(
    st.one_of(
        st.builds(
            lambda name, op, number: nodes.Compare(operands=(name, number), operators=(op,)),
            names(NUMERIC),
            st.sampled_from(["<", "<=", ">", ">="]),
            numbers,
        ),
        st.sampled_from(FLAGS).map(lambda name: nodes.Flag(name=nodes.Name(parts=(name,)))),
    ),
    lambda inner: st.one_of(
        st.builds(nodes.Not, operand=inner),
        st.builds(nodes.Or, operands=st.lists(inner, min_size=2, max_size=2).map(tuple)),
    ),
    max_leaves=2,
)
simple_terms: st.SearchStrategy[nodes.Expr] = st.one_of(
    names(BOUNDED),
    names(NUMERIC),
    st.builds(
        lambda factor, name, offset: nodes.Arithmetic(
            op="-", left=nodes.Arithmetic(op="*", left=factor, right=name), right=offset
        ),
        numbers,
        names(BOUNDED),
        numbers,
    ),
)


def _apply(function: str, argument: nodes.Expr, level: nodes.Expr, given: object, base: bool) -> nodes.Expr:
    arguments = (argument, level) if function in ("quantile", "cvar") else (argument,)
    node = nodes.Apply(function=function, arguments=arguments, given=given)  # type: ignore[arg-type]
    return on_base(node) if base else node


any_statistic: st.SearchStrategy[nodes.Expr] = st.one_of(
    st.builds(
        _apply,
        st.sampled_from(["mean", "median", "quantile", "cvar"]),
        simple_terms,
        levels,
        st.none() | conditions,
        st.booleans(),
    ),
    st.builds(_apply, st.just("P"), simple_events, levels, st.none() | conditions, st.booleans()),
)
any_side = st.one_of(
    any_statistic,
    st.builds(_linear, any_statistic, factors, numbers, st.integers(0, 5)),
    st.builds(nodes.Arithmetic, op=st.sampled_from("+-"), left=any_statistic, right=any_statistic),
)
any_comparisons: st.SearchStrategy[nodes.Formula] = st.one_of(
    st.builds(lambda a, op, b: nodes.Compare(operands=(a, b), operators=(op,)), any_side, order, numbers),
    st.builds(lambda a, op, b: nodes.Compare(operands=(a, b), operators=(op,)), any_side, order, any_side),
    st.builds(
        lambda a, op, b: nodes.Compare(operands=(a, on_base(a)), operators=(op,)),
        any_statistic,
        order,
        st.none(),
    ),
    st.builds(nodes.InRange, operand=any_side, low=numbers, high=numbers),
)
any_demands: st.SearchStrategy[nodes.Formula] = st.recursive(
    any_comparisons,
    lambda inner: st.one_of(
        st.builds(nodes.Not, operand=inner),
        st.builds(nodes.And, operands=st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(nodes.Or, operands=st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(nodes.Implies, left=inner, right=inner),
    ),
    max_leaves=4,
)


# Few attributes and thresholds, so that each law meets them often, also exactly.
tenths = st.integers(0, 10).map(lambda k: nodes.Number(value=Decimal(k) / 10))
plain_statistic: st.SearchStrategy[nodes.Expr] = st.one_of(
    st.builds(
        _apply,
        st.sampled_from(["mean", "median", "quantile", "cvar"]),
        names(("toxicity",)),
        levels,
        st.none() | conditions,
        st.just(False),
    ),
    st.builds(
        _apply,
        st.just("P"),
        st.builds(
            lambda number: nodes.Compare(
                operands=(nodes.Name(parts=("toxicity",)), number), operators=(">",)
            ),
            tenths,
        ),
        levels,
        st.none() | conditions,
        st.just(False),
    ),
)
plain_demands = st.builds(
    lambda left, op, number: nodes.Compare(operands=(left, number), operators=(op,)),
    plain_statistic,
    order,
    tenths,
)
relative_demands = st.builds(
    lambda left, op, factor, offset: nodes.Compare(
        operands=(
            left,
            nodes.Arithmetic(
                op="-",
                left=nodes.Arithmetic(op="*", left=factor, right=on_base(left)),
                right=offset,
            ),
        ),
        operators=(op,),
    ),
    plain_statistic,
    order,
    st.sampled_from(["0.5", "1", "2"]).map(lambda t: nodes.Number(value=Decimal(t))),
    st.sampled_from(["0", "0.1"]).map(lambda t: nodes.Number(value=Decimal(t))),
)
conditional_means = st.builds(
    _apply, st.just("mean"), names(("toxicity",)), levels, st.none() | conditions, st.just(False)
)
plain_differences = st.builds(
    lambda sides, op: nodes.Compare(operands=sides, operators=(op,)),
    st.tuples(plain_statistic, plain_statistic) | st.tuples(conditional_means, conditional_means),
    order,
)


def tagged_laws(
    scores: st.SearchStrategy[dict] = known_scores, weights: st.SearchStrategy[int] | None = None
) -> st.SearchStrategy[list[tuple[Fraction, dict, dict]]]:
    """Laws whose prompts have the tag ``lang``, or none."""
    tags = st.sampled_from([{"lang": "en"}, {"lang": "de"}, {}])
    rows = st.tuples(st.integers(1, 9) if weights is None else weights, scores, tags)
    return st.lists(rows, min_size=1, max_size=5).map(
        lambda rows: [(Fraction(w, sum(r[0] for r in rows)), row, tags) for w, row, tags in rows]
    )


# Laws whose masses and values often equal the levels and thresholds above.
toxicity_laws = tagged_laws(
    st.sampled_from(["0", "0.1", "0.3", "0.5", "1"]).map(lambda text: {"toxicity": Decimal(text)}),
    st.sampled_from([1, 1, 1, 2]),
)
