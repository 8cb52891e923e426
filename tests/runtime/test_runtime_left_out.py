"""Rows that are left out of a step: they stay preserved, ρ and logged means stay what they are, any run resumes."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import POLICY, World
from tiny_trainer import compiled, make, weights

from constraintlang_runtime import chunked_loss
from constraintlang_runtime.control import ControllerState, update
from constraintlang_runtime.controlling import control_groups
from constraintlang_runtime.data import IGNORED_LABEL, TokenRow, load_rows, prediction_sites
from constraintlang_runtime.demo import language
from constraintlang_runtime.groups import Group, attach_target
from constraintlang_runtime.penalty import weighted_rows
from constraintlang_runtime.projection import LOG_FLOOR
from constraintlang_runtime.rounds import Measurement
from constraintlang_runtime.row_weights import RowWeights
from constraintlang_runtime.sampling_law import SamplingLaw

PRESERVED = POLICY + "same: preserve mean(perplexity) <= 1.1 * base for domain=chat\n"
ACTS = {"anchor": "start", "max_steps": 24, "rounds": 6, "per_device_train_batch_size": 4}


# ------------------------------------------------------------ terms of a step
def test_a_row_that_is_left_out_is_still_held_to_the_start_model(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = chunked_loss.preservation_part, []

    def part(anchor: Any, head: Any, batch: Any, places: Any, rows: Any, weight: float) -> Any:
        sites = prediction_sites(batch.rows(rows).labels != IGNORED_LABEL).sum(1)
        seen.append(bool((sites > 0).all()))
        return original(anchor, head, batch, places, rows, weight)

    monkeypatch.setattr(chunked_loss, "preservation_part", part)
    trainer = make(world, tmp_path, policy=PRESERVED, preserve_weight=5.0, loss="chunked", **ACTS)
    trainer.train()
    logged = [item for entry in trainer.state.log_history for item in entry.items()]
    (kept,) = [value for key, value in logged if key.endswith("rows/kept")]
    assert len(seen) > 10
    assert all(seen)
    assert kept < 1  # some were left out


def test_rows_are_weighed_from_the_first_step_that_the_regularizer_acts_in(
    world: World, tmp_path: Path
) -> None:
    trainer = make(world, tmp_path, **{**ACTS, "anchor": "tuned"}, warmup_fraction=0.5)
    original, seen = trainer.compute_loss, []

    def compute_loss(model: Any, inputs: dict[str, Any], *rest: Any, **others: Any) -> Any:
        seen.append((trainer.state.global_step, "weight" in inputs, bool(trainer.engine.active())))
        return original(model, inputs, *rest, **others)

    trainer.compute_loss = compute_loss  # type: ignore[method-assign]
    trainer.train()
    assert seen == [(step, step >= 12, step >= 12) for step in range(24)]


@pytest.mark.parametrize("prefixes", ["corpus", "mixed"])
def test_corpus_prefixes_are_all_there_with_few_rows_kept(
    world: World, tmp_path: Path, prefixes: str
) -> None:
    """N counts all rows, and so do prefixes: each weighs its share of the kinds of prefixes."""
    trainer = make(world, tmp_path, prefixes=prefixes, **ACTS)
    original, shares = trainer._micro_batch, []

    def micro_batch(corpus: Any, trained: torch.Tensor, inputs: Any, usual: float) -> Any:
        found = original(corpus, trained, inputs, usual)
        kept, every = ((some[:, 1:] != IGNORED_LABEL).sum() for some in (trained, corpus.labels))
        assert usual == every
        for part in found.groups:
            weighted = weighted_rows(
                part.group, found.joined, part.corpus_rows, part.sampled_rows, part.corpus_tokens,
                trainer.constraint.regularizer,
            )  # fmt: skip
            if len(part.corpus_rows):
                rows, weight = weighted[0]
                assert rows.tolist() == part.corpus_rows.tolist()
                assert weight == (0.5 if prefixes == "mixed" else 1.0)
            shares.append(float(kept / every))
        return found

    trainer._micro_batch = micro_batch
    trainer.train()
    assert min(shares) < 0.9 < max(shares)


@pytest.mark.parametrize("half", [True, False])
def test_rows_without_a_part_fill_up_to_few_numbers_of_rows_in_half_precision(
    world: World, tmp_path: Path, half: bool
) -> None:
    """The shortest of them, in the order of the batch; a multiple of 2 of 16 rows, and no other row in float32."""
    trainer = make(world, tmp_path, bf16=half, use_cpu=True, **ACTS | {"per_device_train_batch_size": 16})
    lengths = torch.tensor([9, 7, 5, 8, 4, 6, 9, 9, 8, 7, 9, 5, 6, 7, 8, 9])
    for kept in ([0, 2, 9], [0, 2, 9, 11], []):
        trained = torch.zeros(16, dtype=torch.bool)
        trained[kept] = True
        mask = (torch.arange(9) < lengths[:, None]).long()
        found = trainer._with_part(
            {
                "weight": 1.3 * trained,
                "attention_mask": mask,
                "place": torch.arange(16),
                "preserved": torch.zeros(16, 0, dtype=torch.bool),
            }
        )
        more = {3: [4], 4: [], 0: [4]}[len(kept)] if half else []
        assert found["place"].tolist() == sorted([*(kept or [0]), *more])
        assert (found["weight"] > 0).sum() == len(kept)


def test_preserved_rows_weigh_the_same_with_few_rows_kept(world: World, tmp_path: Path) -> None:
    """N counts all rows, and so do preserved ones: each weighs κ."""
    trainer = make(world, tmp_path, policy=PRESERVED, preserve_weight=5.0, **ACTS)
    original, shares = trainer._micro_batch, []

    def micro_batch(corpus: Any, trained: torch.Tensor, inputs: Any, *rest: Any) -> Any:
        found = original(corpus, trained, inputs, *rest)
        kept, every = ((some[:, 1:] != IGNORED_LABEL).sum() for some in (trained, corpus.labels))
        if found.preserved:
            ((_, weight),) = found.preserved
            shares.append(float(kept / every))
            (budget,) = trainer.engine.budgets.budgets
            assert weight == pytest.approx(budget.weight)
        return found

    trainer._micro_batch = micro_batch
    trainer.train()
    assert min(shares) < 0.9 < max(shares)


def test_logged_losses_do_not_depend_on_how_a_step_is_divided(world: World, tmp_path: Path) -> None:
    def logged(size: int, parts: int) -> dict[str, Any]:
        trainer = make(
            world, tmp_path / str(size), anchor="start", max_steps=24, rounds=6, per_device_train_batch_size=size,
            gradient_accumulation_steps=parts, learning_rate=1e-5, logging_steps=24, potential_exponent=8.0,
            auxiliary_steps=100, anchor_samples=256,
        )  # fmt: skip
        trainer.train()
        (found,) = [entry for entry in trainer.state.log_history if "loss_lm" in entry]
        return found

    whole, divided = logged(8, 1), logged(1, 8)
    assert divided["loss_lm"] == pytest.approx(whole["loss_lm"], rel=1e-3)
    assert divided["loss_regularizer/chat"] == pytest.approx(whole["loss_regularizer/chat"], rel=0.1)


def test_a_run_resumes_where_a_step_trains_on_no_row(world: World, tmp_path: Path) -> None:
    """Long rows that violate beside short samples: the pass of the corpus may have no site at all."""
    rows = [row for row in load_rows([str(world.data)], role="data") if row["domain"] == "chat"]
    bad = [row for row in rows if not language.complies(row["completion"])][:10]
    good = [row for row in rows if language.complies(row["completion"])][:3]
    long = [dict(row, completion=" ".join([row["completion"]] * 9)) for row in bad]

    def trainer(**changes: Any) -> Any:
        return make(
            world, tmp_path / "run", policy=POLICY.replace("toxicity <", "always toxicity <"), rows=[*long, *good],
            anchor="start", max_steps=12, rounds=3, per_device_train_batch_size=1, max_new_tokens=6, seed=5,
            **changes,
        )  # fmt: skip

    whole = trainer(save_strategy="steps", save_steps=2, save_total_limit=None)
    whole.train()
    for step in (2, 6, 10):
        again = trainer()
        again.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))
        assert torch.equal(weights(again), weights(whole))


def test_tags_of_any_type_do_not_stop_a_checkpoint(world: World, tmp_path: Path) -> None:
    """Dates and bytes of a parquet file are tags like others, and are not read again."""
    rows = [
        {**row, "when": datetime.datetime(2026, 1, 1), "raw": b"x"}
        for row in load_rows([str(world.data)], role="data")
    ]
    trainer = make(world, tmp_path, rows=rows, save_strategy="steps", save_steps=12, **ACTS)
    trainer.train()
    again = make(world, tmp_path, rows=rows, **ACTS)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    assert torch.equal(weights(again), weights(trainer))


# ------------------------------------------------------------ which rows
TWO = """edition 1
attribute toxicity: score in [0, 1] lower_is_better { backend = lexicon("words.tsv") }
attribute fun: score in [0, 1] lower_is_better { backend = lexicon("words.tsv") }
"""


def group_of(text: str, statistics: np.ndarray, point: float, fixed: float = 0.0) -> Group:
    clauses = compiled(text).ir.clauses
    names = tuple(range(len(clauses)))
    group = Group("all", tuple(clauses), names, [], 1.0, statistics.mean(axis=0))
    attach_target(group, statistics)
    group.controllers = [
        ControllerState(value=1.0, weight=1.0, set_point=point, fixed_dual=fixed) for _ in clauses
    ]
    return group


def row_duals(group: Group, statistics: np.ndarray) -> np.ndarray:
    rows = [TokenRow((number,), (5,), {}, False) for number in range(len(statistics))]
    made = RowWeights(rows, [0] * len(rows), law=SamplingLaw(8), tokenizer=None, seed=0)
    made.start([group], [0], lambda _, some: statistics[[row.prompt[0] for row in some]])
    assert made._duals is not None
    return made._duals[0]


@pytest.mark.parametrize(
    "clauses",
    [
        "a: P(toxicity > 0.5) <= 0.1 priority 1\nb: P(fun > 0.5) <= 0.1 priority 2\n",
        "a: P(toxicity > 0.5) <= 0.1\nb: prefer P(fun > 0.5) <= 0.1 weight 12\n",
    ],
    ids=["priority", "prefer"],
)
def test_rows_do_not_trade_a_clause_for_one_that_ranks_behind_it(clauses: str) -> None:
    violates = (np.random.default_rng(0).random(1000) < 0.5).astype(float)
    statistics = np.stack([violates, 1 - violates], axis=1)  # both cannot be met
    group = group_of(TWO + clauses, statistics, 0.08)
    found = np.exp(-statistics @ row_duals(group, statistics))
    first = [clause.name for clause in group.clauses].index("a")
    assert found @ statistics[:, first] / found.sum() == pytest.approx(0.08, abs=1e-3)


def test_rows_are_weighed_by_the_fitted_laws_where_these_ask_for_more() -> None:
    """Where the prompt decides the outcome, the law over all rows asks for too little of each prompt."""
    statistics = (np.random.default_rng(0).random((1000, 1)) < 0.2).astype(float)
    text = TWO + "a: P(toxicity > 0.5) <= 0.1\n"
    alone = row_duals(group_of(text, statistics, 0.05), statistics)
    assert row_duals(group_of(text, statistics, 0.05, fixed=0.5), statistics) == pytest.approx(alone)
    assert row_duals(group_of(text, statistics, 0.05, fixed=5.0), statistics) == pytest.approx([5.0])


# ------------------------------------------------------------ controllers at a cap
def test_at_the_price_of_a_preference_the_weight_stays() -> None:
    state = ControllerState(value=0.5, weight=1.0, set_point=0.02, max_value=0.5, cap=0.5)
    assert update(state, 900.0, 1000) == state
    assert update(ControllerState(value=LOG_FLOOR, weight=1.0, set_point=0.02), 900.0, 1000).weight == 2.0


def test_a_clause_behind_one_that_is_stuck_asks_for_no_more() -> None:
    statistics = np.repeat(np.array([[1.0, 1.0], [0.0, 0.0]]), [400, 600], axis=0)
    text = TWO + "a: P(toxicity > 0.5) <= 0.1 priority 1\nb: P(fun > 0.5) <= 0.1 priority 2\n"
    group = group_of(text, statistics, 0.05)
    group.controllers = [
        ControllerState(value=LOG_FLOOR, weight=1.0, set_point=0.05) for _ in group.controllers
    ]
    rows = [TokenRow((1,), (2,), {}, False)] * len(statistics)
    control_groups([group], [Measurement(rows, statistics)])
    assert [state.weight for state in group.controllers] == [2.0, 1.0]
    assert [state.doublings for state in group.controllers] == [1, 0]
