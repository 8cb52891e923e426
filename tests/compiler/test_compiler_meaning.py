"""What must not change the meaning of a policy: formatting, tests, labels; and lowering keeps margins."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from policy_strategies import DECLARATIONS, known_scores, seq_formulas

from constraintlang import SourceFile, check_source, parse
from constraintlang import nodes as n
from constraintlang.formatting import format_source
from constraintlang.margins import CRISP, Margin, atom_margin, margin
from constraintlang.normal_form import normal_form, on_response
from constraintlang.printer import format_formula
from constraintlang.scales import scales_of
from constraintlang_compiler.ir import Indicator
from constraintlang_compiler.pipeline import compile_source
from constraintlang_compiler.render import predicate_text

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "policies").glob("[0-9]*.policy"))


def semantic_hash(text: str) -> str:
    return compile_source(SourceFile(text)).semantic_hash


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_formatting_keeps_the_hash(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    crowded = text.replace(" < ", "<").replace(" and ", "   and  ")
    assert semantic_hash(format_source(SourceFile(crowded))) == semantic_hash(text)


def test_there_are_policies_to_format() -> None:
    assert len(GOLDEN) >= 8


def test_tests_are_not_part_of_the_meaning() -> None:
    policy = "edition 1\ncap: toxicity < 0.1\n"
    with_test = policy + 'test "t" {\n  given toxicity = 0.1\n  fail on cap\n}\n'
    renamed = with_test.replace("cap", "kind").replace('"t"', '"other"')
    assert semantic_hash(policy) == semantic_hash(with_test) == semantic_hash(renamed)
    assert compile_source(SourceFile(with_test)).ir == compile_source(SourceFile(policy)).ir


@settings(max_examples=40, deadline=None)
@given(seq_formulas, known_scores)
def test_lowering_keeps_margins(formula: n.Formula, values: dict) -> None:  # type: ignore[type-arg]
    """Property 36 on margins: the lowered violation has the margin of the formula, turned round."""
    source = SourceFile(DECLARATIONS + format_formula(formula))
    attributes = check_source(source).require().attributes
    statistic = compile_source(source).ir.clauses[0].statistic
    assert isinstance(statistic, Indicator)
    (lowered,) = parse(predicate_text(statistic.predicate))[0].items
    assert isinstance(lowered, n.Statement)
    scales, valuation = scales_of(formula, attributes), on_response(values)

    def margin_of(tree: n.Formula) -> Margin | None:
        return margin(normal_form(tree), CRISP, lambda atom: atom_margin(atom, valuation, scales, attributes))

    assert margin_of(lowered.formula) == -(margin_of(formula) or 0)
