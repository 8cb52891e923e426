"""Rounds as lines: the author's numbers, the worst clauses first, one line for all groups of a round."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import POLICY, World
from tiny_trainer import compiled, make

from constraintlang_compiler.scopes import utility_clauses
from constraintlang_runtime.preserve import Budget
from constraintlang_runtime.progress import RoundLines
from constraintlang_runtime.round_words import budget_line, round_line

TEXT = """\
edition 1
attribute helpful: score in [0, 1]
rude: toxicity < 0.5 under tolerance=5%
kind: mean(helpful) >= 0.7
short: words <= 40 under tolerance=10%
never: always toxicity < 0.9
"""


def test_a_line_speaks_in_the_authors_numbers() -> None:
    clauses = compiled(TEXT).ir.clauses
    values = {"rude": (0.25, 0.05), "kind": (0.4, 0.3), "short": (0.02, 0.1), "never": (0.001, 0.0)}
    record = {
        f"constraint/{name}/{key}": number
        for name, pair in values.items()
        for key, number in zip(("value", "bound"), pair, strict=True)
    }
    (rude,) = (clause for clause in clauses if clause.name == "rude")
    assert round_line([rude], record) == "rude broken by 25% (at most 5%)"
    assert round_line(clauses, {"loss": 1.0}) == ""
    line = round_line(clauses, record)
    assert line.startswith(
        "1 of 4 within their bounds; never broken by 0.1% (none may), rude broken by 25% (at most 5%), "
    )
    assert line.endswith("kind 0.6 (at least 0.7), ...")


def test_clauses_of_different_units_are_sorted_by_how_far_they_are_in_their_bounds() -> None:
    """130 words where 120 are allowed are nearer than 12% where 1% is, and than a mean of 0.15 where 0.1 is."""
    text = "edition 1\nlong: P(words > 9) < 20%\nwordy: mean(words) <= 120\nmild: mean(toxicity) <= 0.1\n"
    clauses = compiled(text + "rude: P(toxicity > 0.5) <= 1%\ncalm: P(toxicity > 0.9) <= 1%\n").ir.clauses
    values = {
        "long": (0.1, 0.2), "wordy": (130.0, 120.0), "mild": (0.15, 0.1), "rude": (0.12, 0.01), "calm": (0.12, 0.01),
    }  # fmt: skip
    record = {
        f"constraint/{name}/{key}": number
        for name, pair in values.items()
        for key, number in zip(("value", "bound"), pair, strict=True)
    }
    wanted = [clause.name for clause in clauses if clause.name in ("rude", "calm")]
    line = round_line(clauses, record)
    assert [part.split()[0] for part in line.partition("; ")[2].split(", ")][:3] == [*wanted, "mild"]
    assert round_line([c for c in clauses if c.name in ("long", "wordy")], record).startswith("wordy ")


@pytest.mark.parametrize(
    ("text", "values", "line"),
    [
        ("mean(perplexity) <= 1.02 * base", (2.0, 2.01), "c: perplexity 7.389 -> 7.463 (at most 7.537)"),
        ("mean(accuracy) >= base - 3%", (0.6, 0.55), "c: accuracy 60% -> 55% (at least 57%)"),
    ],
)
def test_a_budget_is_told_in_the_authors_numbers(text: str, values: tuple[float, float], line: str) -> None:
    (clause,) = utility_clauses(compiled(f"edition 1\nc: preserve {text} for domain=kitchen\n").ir)
    budget = Budget(clause, [], 1.0)
    assert budget_line(budget.report()) == "c: not measured"
    budget.base, budget.value = values
    budget.spent = budget.spend(values[1])
    assert budget_line(budget.report()) == line


def test_rounds_are_told_as_they_end(world: World, tmp_path: Path) -> None:
    both = POLICY + "calm: mean(toxicity) < 0.9 for domain in {chat, kitchen}\n"
    told: list[str] = []
    trainer = make(world, tmp_path, policy=both, logging_steps=1)
    trainer.add_callback(RoundLines(told.append, lambda: trainer.engine.clauses))
    trainer.train()
    rounds = {record["step"] for record in trainer.state.log_history if "round" in record}
    assert [line.split(",")[0].split(":")[0] for line in told] == [
        f"step {step} of 6" for step in sorted(rounds)
    ]
    assert all("calm " in line and "kind " in line for line in told)
    assert "language-model loss" not in told[0]
    assert "language-model loss" in told[-1]
