"""Budgets of `preserve` clauses: what is spent, how the weight moves, whom a budget holds back, and what a run says."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import POLICY, World, read_jsonl
from tiny_trainer import compiled, make, weights

from constraintlang_compiler.ir import Clause
from constraintlang_compiler.scopes import utility_clauses
from constraintlang_runtime import preserve
from constraintlang_runtime.control import ControllerState
from constraintlang_runtime.data import encode_rows
from constraintlang_runtime.demo import language
from constraintlang_runtime.errors import ConfigError, DataError, TrainingError
from constraintlang_runtime.holdout import split
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.preserve import Budget, Budgets, goes_before, hold_back, take
from constraintlang_runtime.row_losses import row_answers, row_losses
from constraintlang_runtime.sampling import completion_texts, prompt_texts, sample
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.settings import ConstraintSettings

TIGHT = POLICY + "same: preserve mean(perplexity) <= 1.02 * base for domain=kitchen\n"
LOOSE = POLICY + "same: preserve mean(perplexity) <= 1000 * base for domain=kitchen\n"


def clause(text: str, more: str = "") -> Clause:
    return utility_clauses(compiled(f"edition 1\nc: preserve {text} for domain=kitchen{more}\n").ir)[0]


def budget(text: str, base: float, **options: Any) -> Budget:
    return Budget(clause(text), [], 1.0, base=base, **options)


# ------------------------------------------------------------ what is spent
@pytest.mark.parametrize(
    ("text", "base", "bound"),
    [
        ("mean(perplexity) <= 1.02 * base", 2.0, math.log(1.02) + 2.0),
        ("mean(perplexity) <= 1.5 * base + 1", 1.0, math.log(1.5 * math.e + 1)),
        ("mean(perplexity) <= 20", 2.0, math.log(20)),
        ("mean(accuracy) >= base - 3%", 0.6, 0.57),
        ("mean(accuracy) >= 0.9 * base", 0.5, 0.45),
    ],
)
def test_nothing_is_spent_at_the_start_and_all_at_the_bound(text: str, base: float, bound: float) -> None:
    found = budget(text, base)
    assert found.spend(base) == pytest.approx(0.0, abs=1e-9)
    assert found.spend(bound) == pytest.approx(1.0)
    assert found.spend((base + bound) / 2) == pytest.approx(0.5)
    assert found.spend(2 * bound - base) == pytest.approx(2.0)


def test_a_clause_that_allows_nothing_is_measured_in_hundredths() -> None:
    found = budget("mean(perplexity) <= base", 2.0)
    assert found.spend(2.0) == pytest.approx(1.0)
    assert found.spend(2.005) == pytest.approx(1.5)
    with pytest.raises(TrainingError, match="a perplexity is at least 1"):
        budget("mean(perplexity) <= base - 100", 2.0).spend(2.0)


def test_a_model_that_diverged_is_measured() -> None:
    found = budget("mean(perplexity) <= base", 2.0)
    found.value, found.spent = 9000.0, found.spend(9000.0)
    assert math.isfinite(found.report()["value"])
    assert found.is_hit


# ------------------------------------------------------------ the multiplier
@given(st.lists(st.floats(-5.0, 9.0), max_size=30))
def test_the_weight_moves_on_its_logarithm_and_stays_in_its_bounds(spent: list[float]) -> None:
    found = budget("mean(perplexity) <= 1.02 * base", 2.0)
    allowance = math.log(1.02)
    for share in spent:
        before = found.weight
        take(found, 2.0 + share * allowance, found.spent, acts=True)
        assert 1.0 <= found.weight <= 64.0 * (1 + 1e-9)
        assert found.weight <= 2 * before * (1 + 1e-9)
        if share > 0.81 and before < 63:
            assert found.weight > before
        if share < 0.79:
            assert found.weight == 1.0 or found.weight < before


def test_a_budget_that_is_hit_doubles_its_weight_and_one_far_below_returns_to_its_start() -> None:
    found = budget("mean(perplexity) <= 1.02 * base", 2.0)
    for expected in (2.0, 4.0, 8.0):
        take(found, 2.0 + 1.01 * math.log(1.02), found.spent, acts=False)
        assert found.is_hit
        assert found.weight == pytest.approx(expected)
    for expected in (4.0, 2.0, 1.0, 1.0):
        take(found, 2.0, found.spent, acts=False)
        assert not found.is_hit
        assert found.weight == pytest.approx(expected)


@pytest.mark.parametrize(
    ("spent", "acts", "costly"),
    [
        ([0.2, 0.9], [True, True], False),  # not overdrawn
        ([0.2, 1.2], [True, True], True),  # overdrawn since the regularizer acts
        ([1.2, 1.3], [False, False], False),  # plain training did it
        ([1.5, 1.4], [True, True], False),  # less than when the regularizer began
        ([0.2, 2.0, 1.5], [True, True, True], False),  # it comes back
        ([0.2, 2.0, 1.95], [True, True, True], True),  # hardly
    ],
)
def test_raising_a_clause_is_said_to_cost_a_budget_only_where_it_does(
    spent: list[float], acts: list[bool], costly: bool
) -> None:
    found = budget("mean(perplexity) <= 1.02 * base", 2.0)
    for share, acting in zip(spent, acts, strict=True):
        take(found, 2.0 + share * math.log(1.02), found.spent, acts=acting)
    assert found.is_costly is costly


def test_a_budget_goes_before_clauses_of_its_priority_number_or_a_higher_one() -> None:
    held = clause("mean(perplexity) <= 1.02 * base", " priority 1")
    ranks = {
        "require P(toxicity > 0.5) <= 1% priority 0": False,
        "require P(toxicity > 0.5) <= 1% priority 1": True,
        "prefer P(toxicity > 0.5) <= 1% priority 1": True,
        "require P(toxicity > 0.5) <= 1% priority 2": True,
        "prefer P(toxicity > 0.5) <= 1% priority 0": False,
    }
    for text, expected in ranks.items():
        (other,) = compiled(POLICY.rpartition("kind:")[0] + f"x: {text}\n").ir.clauses
        assert goes_before(held, other) is expected, text


def test_holding_back_lets_a_controller_fall_and_not_rise() -> None:
    state = ControllerState(value=2.0, weight=3.0, set_point=0.05, doublings=1, window=((1.0, 2.0),))
    up = replace(state, value=2.5, weight=6.0, doublings=2, window=())
    assert hold_back(state, up) == replace(state, window=())
    down = replace(state, value=1.5, window=())
    assert hold_back(state, down) == down


# ------------------------------------------------------------ held-out rows
def token_rows(world: World, count: int = 400) -> Any:
    rows = [
        dict(row, domain="kitchen" if n % 2 else "chat")
        for n, row in enumerate(language.training_rows(7, count))
    ]
    return encode_rows(rows, load_tokenizer(str(world.model)), max_length=64)


def test_every_copy_of_a_held_out_row_leaves_training(world: World) -> None:
    rows = token_rows(world)
    doubled = [*rows, *rows[:300]]
    settings = ConstraintSettings(heldout_rows=6)
    found = split(compiled(TIGHT).ir, doubled, None, settings, 0)
    assert len({row.ids for row in found.heldout}) == 6
    assert all(row.tags["domain"] == "kitchen" for row in found.heldout)
    assert not {row.ids for row in found.heldout} & {row.ids for row in found.rows}
    assert len(found.heldout) + len(found.rows) == len(doubled)
    assert {row.prompt for row in found.prompts} == {row.prompt for row in found.rows}
    again = split(compiled(TIGHT).ir, doubled[::-1], None, settings, 0)
    assert {row.ids for row in again.heldout} == {row.ids for row in found.heldout}
    assert {row.ids for row in split(compiled(TIGHT).ir, doubled, None, settings, 1).heldout} != {
        row.ids for row in found.heldout
    }


def test_at_most_five_per_cent_are_held_out_and_nothing_without_a_reason(world: World) -> None:
    rows = token_rows(world)
    distinct = len({row.ids for row in rows if row.tags["domain"] == "kitchen"})
    found = split(compiled(TIGHT).ir, rows, None, ConstraintSettings(), 0)
    assert len({row.ids for row in found.heldout}) == distinct // 20
    plain = split(compiled(POLICY).ir, rows, None, ConstraintSettings(), 0)
    assert plain.rows is rows
    assert plain.heldout == plain.selection == []


def test_rows_that_nothing_would_measure_are_refused(world: World, tmp_path: Path) -> None:
    rows = read_jsonl(world.data)
    with pytest.raises(ConfigError, match=r"^heldout: nothing is measured"):
        make(world, tmp_path, heldout=rows[:3])
    chat = [row for row in rows if row["domain"] == "chat"]
    with pytest.raises(DataError, match="no row lies in the domain of `same`"):
        make(world, tmp_path, policy=TIGHT, heldout=chat[:3])


def test_a_clause_that_no_row_measures_says_which_rows_it_lacks() -> None:
    (one,) = Budgets.of([clause("mean(perplexity) <= base")], [], 1.0).unmeasured_because(
        [{"domain": "chat"}]
    )
    assert one == (
        "no training row lies in the domain of `c` (kitchen); the training rows have the domains chat: training does "
        "not act on it, and it is verified only"
    )
    (other,) = Budgets.of([clause("mean(accuracy) >= base")], [], 1.0).unmeasured_because(
        [{"domain": "kitchen"}]
    )
    assert other.startswith("no held-out row lies in the domain of `c`: no round measures it")


# ------------------------------------------------------------ runs
@pytest.fixture(scope="module")
def own_words(world: World) -> list[dict[str, Any]]:
    """What the start model says in the kitchen: rows that it likes least to lose."""
    model, tokenizer = load_model(str(world.model)), load_tokenizer(str(world.model))
    prompts = encode_rows(list(language.rows(5, 24, language.START, "kitchen")), tokenizer, max_length=64)
    said = sample(model, tokenizer, prompts, SamplingLaw(8, 1.0, 1.0), seed=4)
    return [
        {"prompt": prompt, "completion": reply, "domain": "kitchen"}
        for prompt, reply in zip(
            prompt_texts(said, tokenizer), completion_texts(said, tokenizer), strict=True
        )
    ]


def test_a_budget_that_is_hit_is_said_and_grows_its_weight(
    world: World, own_words: list[dict[str, Any]], tmp_path: Path
) -> None:
    told: list[str] = []
    trainer = make(world, tmp_path, policy=TIGHT, heldout=own_words, tell=told.append, save_strategy="steps")
    (found,) = trainer.engine.budgets.budgets
    trainer.train()
    records = [r for r in trainer.state.log_history if "preserve/same/spent" in r]
    assert [r["round"] for r in records] == [0, 1, 2, 3]
    assert records[0]["preserve/same/spent"] == pytest.approx(0.0, abs=1e-9)
    tokenizer = load_tokenizer(str(world.model))
    rows = encode_rows(own_words, tokenizer, max_length=64)
    for model, record in ((load_model(str(world.model)), records[0]), (trainer.model, records[-1])):
        nll, counts = row_losses(model, tokenizer, rows)
        assert record["preserve/same/perplexity"] == pytest.approx(
            math.exp(nll.sum() / counts.sum()), rel=1e-5
        )
    assert records[-1]["preserve/same/bound"] == pytest.approx(
        1.02 * records[0]["preserve/same/perplexity"], rel=1e-6
    )
    over = [r["step"] for r in records if r["preserve/same/perplexity"] > r["preserve/same/bound"]]
    assert over
    assert found.hits == over == found.report()["steps_hit"]
    assert records[-1]["preserve/same/weight"] > records[0]["preserve/same/weight"] == 1.0
    assert [line for line in told if "the budget of `same` is hit at step" in line]
    assert trainer.rows_held_out == 0


def test_an_overdrawn_budget_keeps_the_duals_of_its_rank(
    world: World, own_words: list[dict[str, Any]], tmp_path: Path
) -> None:
    def duals(policy: str) -> tuple[list[float], list[str]]:
        told: list[str] = []
        trainer = make(
            world, tmp_path, policy=policy.replace("toxicity < 0.1 for", "P(toxicity >= 0.1) <= 20% for"),
            heldout=own_words, tell=told.append, anchor="start", rounds=6, set_point_share=0.9, preserve_weight=1e-6,
            regularizer_weight=1.0, learning_rate=2e-2,
        )  # fmt: skip
        trainer.train()
        history = trainer.state.log_history
        return [r["constraint/kind/dual"] for r in history if "constraint/kind/dual" in r], told

    held, said = duals(TIGHT)
    free, silent = duals(LOOSE)
    assert all(later <= earlier for earlier, later in pairwise(held))
    assert any(later > earlier for earlier, later in pairwise(free))
    assert any("`kind` is not pushed further" in line for line in said)
    assert not any("pushed" in line for line in silent)
    first, told = duals(TIGHT.replace("domain=kitchen\n", "domain=kitchen priority 5\n"))
    assert any(later > earlier for earlier, later in pairwise(first))
    assert not any("pushed" in line for line in told)


def test_the_multiplier_reaches_the_loss(
    world: World, own_words: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight that may not grow leaves the model further from the start model on the preserved rows."""

    def last_divergence(growth: float) -> float:
        monkeypatch.setattr(preserve, "MOST_GROWTH", growth)
        trainer = make(world, tmp_path, policy=TIGHT, heldout=own_words, rounds=6, max_steps=12)
        trainer.train()
        return [r["loss_preserve"] for r in trainer.state.log_history if "loss_preserve" in r][-1]

    assert last_divergence(math.log(64)) < 0.9 * last_divergence(0.0)


def test_a_baseline_keeps_the_same_rows_apart_and_a_vacuous_policy_changes_no_bit(
    world: World, tmp_path: Path
) -> None:
    loose = LOOSE.replace("toxicity < 0.1 for", "mean(toxicity) <= 1 for")
    runs = [
        make(world, tmp_path, policy=loose, method=method, set_point_share=0.999999, preserve_weight=0.0)
        for method in ("constraint", "plain")
    ]
    kept = [[example["row"].ids for example in trainer.train_dataset] for trainer in runs]
    assert kept[0] == kept[1]
    assert runs[0].rows_held_out == 1
    for trainer in runs:
        trainer.train()
    assert torch.equal(weights(runs[0]), weights(runs[1]))


def test_accuracy_is_the_share_of_rows_that_greedy_decoding_writes(world: World) -> None:
    model, tokenizer = load_model(str(world.model)), load_tokenizer(str(world.model))
    rows = encode_rows(list(language.rows(5, 12, language.START, "kitchen")), tokenizer, max_length=64)
    right, counts = row_answers(model, tokenizer, rows, batch_size=5)
    assert counts.tolist() == [1.0] * 12
    own = []
    for row in rows:
        given = torch.tensor([row.prompt])
        cap = len(row.completion) - 1  # without the end token
        reply = model.generate(
            given, do_sample=False, min_new_tokens=1, max_new_tokens=max(1, cap), pad_token_id=0
        )
        own.append(replace(row, completion=(*reply[0, len(row.prompt) :].tolist(), tokenizer.eos_token_id)))
    greedy, _ = row_answers(model, tokenizer, own, batch_size=5)
    assert greedy.tolist() == [1.0] * 12
    wrong = [replace(row, completion=((row.completion[0] + 1) % 20, *row.completion[1:])) for row in own]
    assert row_answers(model, tokenizer, wrong, batch_size=5)[0].tolist() == [0.0] * 12
    assert right.tolist() == [
        float(row.completion[:-1] == mine.completion[: len(row.completion) - 1])
        for row, mine in zip(rows, own, strict=True)
    ]
