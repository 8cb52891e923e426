"""The least number of prompts that `explain` and `plan` name is the least with which verification says `holds`."""

from __future__ import annotations

import numpy as np
import pytest

from constraintlang import SourceFile
from constraintlang_compiler import ir
from constraintlang_compiler.analysis.evidence import evidence_findings
from constraintlang_compiler.explain import explain_clause
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.pipeline import compile_source
from constraintlang_compiler.planning import num_samples
from constraintlang_compiler.sample_plan import plan
from constraintlang_runtime.verification import Evidence, verify
from constraintlang_runtime.verify_tails import is_tail

HEAD = 'edition 1\nattribute grade: real in [2, 20] { backend = python("a:b") }\n'
TEXTS = [
    "toxicity < 0.4",
    "toxicity < 0.4 under samples=5",
    "P(toxicity > 0.5) < 10%",
    "P(toxicity < 0.5) >= 96%",
    "P(toxicity > 0.5) < 10% under samples=25",
    "P(toxicity > 0.5) < 100%",
    "P(toxicity > 0.5) in [4%, 6%]",
    "mean(toxicity) < 0.1",
    "mean(toxicity) < 1",
    "mean(grade) >= 16",
    "mean(grade) in [4, 6]",
    "median(grade) < 5",
    "median(grade) < 5 under samples=25",
    "quantile(grade, 0.05) >= 4 under samples=3",
    "cvar(toxicity, 0.9) < 0.3",
    "cvar(grade, 0.75) <= 9",
    "cvar(grade, 0.75) <= 9 under samples=4",
    "mean(toxicity) < 0.1 per lang",
    "mean(toxicity) < 0.2\nP(toxicity > 0.5) < 3% confidence 0.9",
    "prefer mean(toxicity) < 0.2 weight 2\nP(toxicity > 0.5) < 3%",
]
NEVER = [
    "always toxicity < 0.4",
    "mean(words) < 9",
    "cvar(words, 0.9) < 9",
    "cvar(grade, 0.9) <= 20",
    "cvar(grade, 0.9) <= 2",
    "mean(toxicity) <= 0.9 * base",
    "P(toxicity > 0.5 | lang=en) <= 1.2 * P(toxicity > 0.5 | lang=fr)",
    "mean(toxicity) < 0.1 or mean(grade) < 9",
]


def clauses_of(text: str) -> tuple[ir.Clause, ...]:
    return compile_source(SourceFile(HEAD + text)).clauses_as_written


def says_holds(clauses: tuple[ir.Clause, ...], place: int, n: int) -> bool:
    """Whether the clause holds on n prompts with the best possible responses."""
    evidence = {}
    for clause in clauses:
        best = 0.0
        if is_tail(clause):
            (name,) = (name for name in ("grade", "toxicity") if name in clause.text)
            low, high = (2.0, 20.0) if name == "grade" else (0.0, 1.0)
            best = high if clause.kind == "quantile" and ">=" in clause.text else low
        samples = num_samples(clause)
        evidence[clause.id] = Evidence(
            statistic_per_prompt=np.full((n, samples), best), single_sample=samples == 1
        )
    return verify(clauses, evidence)[place].verdict == "holds"


@pytest.mark.parametrize("text", TEXTS)
def test_least_is_the_least_that_holds(text: str) -> None:
    clauses = clauses_of(text)
    for place, (clause, found) in enumerate(zip(clauses, plan(clauses), strict=True)):
        explained = explain_clause(clause, len(clauses))
        assert found.least is not None
        assert explained.num_samples == found.least
        assert f"At least {found.least} prompt" in explained.evidence
        assert says_holds(clauses, place, found.least)
        assert not says_holds(clauses, place, found.least - 1)


@pytest.mark.parametrize("text", NEVER)
def test_no_number_is_named_where_none_is_known(text: str) -> None:
    clauses = clauses_of(text)
    for clause, found in zip(clauses, plan(clauses), strict=True):
        assert found.least is None
        assert found.note
        assert explain_clause(clause, len(clauses)).num_samples is None


def test_too_few_prompts_for_a_cvar_are_warned_of() -> None:
    front = check_and_lower(SourceFile(HEAD + "cvar(grade, 0.75) <= 9"))
    assert front.checked is not None
    assert front.lowered is not None
    (clause,) = front.lowered.ir.clauses
    (planned,) = plan([clause])
    assert planned.least is not None
    found = [
        [one for one in evidence_findings(front.checked, front.lowered, n) if one.code == "PC501"]
        for n in (planned.least - 1, planned.least)
    ]
    (warning,) = found[0]
    assert f"at least {planned.least:,} prompts" in str(warning.help)
    assert "only shows a cvar below 9." in str(warning.label)
    assert not found[1]
