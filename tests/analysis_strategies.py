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

__all__ = ["DECLARATIONS", "policies_of", "random_samples", "statement_texts"]

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


def checked(texts: list[str]) -> CheckedPolicy:
    return check_source(DECLARATIONS + "\n".join(texts)).require()


def policies_of(most: int) -> st.SearchStrategy[CheckedPolicy]:
    """Policies of one to ``most`` statements."""
    return st.lists(statement_texts, min_size=1, max_size=most).map(checked)


def random_samples(generator: random.Random, number: int) -> Iterator[Sample]:
    """Sample laws with scores at and between the thresholds that the strategies use."""
    for _ in range(number):
        rows = []
        for _ in range(generator.randint(1, 4)):
            tags = {"domain": "chat"} if generator.random() < 0.7 else {}
            if generator.random() < 0.7:
                tags["lang"] = generator.choice(["en", "de", "fr"])
            scores = {name: Decimal(generator.randint(0, 20)) / 20 for name in SCORES}
            scores |= {name: Decimal(generator.randint(0, 7)) for name in COUNTS}
            scores |= {name: Decimal(generator.randint(0, 1)) for name in FLAGS}
            rows.append((Fraction(generator.randint(1, 9)), tags, scores))
        total = sum(weight for weight, _, _ in rows)
        yield tuple(Response(weight / total, tags, scores) for weight, tags, scores in rows)
