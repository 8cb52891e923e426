"""Policies and sample laws for the tests of the analysis: small, over one vocabulary, full of ties."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from hypothesis import strategies as st
from policy_strategies import COUNTS, DECLARATIONS, FLAGS, SCORES, dist_formulas, seq_formulas

from constraintlang import check_source
from constraintlang.checked import CheckedPolicy
from constraintlang.printer import format_formula
from constraintlang_compiler.analysis.witness import Response, Sample

__all__ = ["DECLARATIONS", "policies_of", "random_samples", "rich_texts", "statement_texts"]

DOMAINS = (
    "",
    "",
    " for domain=chat",
    " for domain=chat and lang=en",
    " for lang in {en, de}",
    " for not lang=en",
)
domains = st.sampled_from(DOMAINS)
statement_texts = st.one_of(
    st.builds(
        lambda f, percent, d: f"{format_formula(f)}{d} under tolerance={percent}%",
        seq_formulas,
        st.integers(0, 60),
        domains,
    ),
    st.builds(lambda f, d: f"always {format_formula(f)}{d}", seq_formulas, domains),
    st.builds(lambda f, d: format_formula(f) + d, dist_formulas, domains),
)


operators, tenths = st.sampled_from(["<", "<=", ">", ">="]), st.integers(0, 10).map(lambda k: f"{k / 10}")
conditions = st.sampled_from(["", "", " | lang=en", " | domain=chat"])
_score = st.sampled_from(SCORES)
statistics = st.one_of(
    st.builds(
        lambda f, a, level, d: f"{f}({a}, {level}{d})",
        st.sampled_from(["quantile", "cvar", "cvar"]),
        _score,
        st.sampled_from(["0.5", "0.75", "0.9"]),
        conditions,
    ),
    st.builds(lambda f, a, d: f"{f}({a}{d})", st.sampled_from(["median", "mean"]), _score, conditions),
    st.builds(lambda a, t, d: f"P({a} >= {t}{d})", _score, tenths, conditions),
    st.builds(lambda a, b: f"mean({a}) - mean({b})", _score, _score),
)
comparisons = st.builds(lambda s, op, t: f"{s} {op} {t}", statistics, operators, tenths)
choices = st.builds(
    lambda a, word, b: f"({a}) {word} ({b})",
    comparisons,
    st.sampled_from(["and", "or", "implies"]),
    comparisons,
)
rich_texts = st.one_of(
    statement_texts,
    st.builds(
        lambda f, d: f + d,
        comparisons | choices | comparisons.map("not ({})".format),
        domains | st.just(" per lang"),
    ),
)
"""Statements with quantiles, cvar, conditions, strata and choices, too."""


def checked(texts: list[str]) -> CheckedPolicy:
    return check_source(DECLARATIONS + "tag lang in {en, de}\n" + "\n".join(texts)).require()


def policies_of(
    most: int, texts: st.SearchStrategy[str] = statement_texts
) -> st.SearchStrategy[CheckedPolicy]:
    """Policies of one to ``most`` statements."""
    return st.lists(texts, min_size=1, max_size=most).map(checked)


def random_samples(generator: random.Random, number: int) -> Iterator[Sample]:
    """Sample laws with scores at and between the thresholds that the strategies use."""
    for _ in range(number):
        rows = []
        for _ in range(generator.randint(1, 4)):
            tags = {"domain": "chat"} if generator.random() < 0.7 else {}
            if generator.random() < 0.7:
                tags["lang"] = generator.choice(["en", "de"])
            scores = {name: Decimal(generator.randint(0, 20)) / 20 for name in SCORES}
            scores |= {name: Decimal(generator.randint(0, 7)) for name in COUNTS}
            scores |= {name: Decimal(generator.randint(0, 1)) for name in FLAGS}
            rows.append((Fraction(generator.randint(1, 9)), tags, scores))
        total = sum(weight for weight, _, _ in rows)
        yield tuple(Response(weight / total, tags, scores) for weight, tags, scores in rows)
