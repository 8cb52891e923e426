"""The draw of training rows by the projection of the corpus: identity 16 of method.md, section 7, for rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from enumerable_world import random_world
from msgspec.structs import replace
from tiny_models import World
from tiny_trainer import make, weights
from world_policy import make_case

from constraintlang_runtime.control import ControllerState
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.groups import Group, attach_target
from constraintlang_runtime.projection import LOG_FLOOR
from constraintlang_runtime.row_weights import MOST, RowWeights
from constraintlang_runtime.sampling_law import SamplingLaw

ROWS = 500
READINGS = (("never",), ("rarely",), ("mean",), ("rarely", "length"), ("never", "rarely", "mean"))


def corpus(
    kinds: Sequence[str], share: float, seed: int = 0
) -> tuple[Group, list[TokenRow], np.ndarray, Any]:
    """A group whose set-points are ``share`` of the rows' means, rows, their statistics, and a scorer that counts."""
    case = make_case(random_world(5), *kinds)
    x, n = case.world.draw(case.world.law, ROWS, seed)
    statistics = case.f[x, n]
    clauses = tuple(replace(clause) for clause in case.clauses)
    group = Group("all", clauses, tuple(range(len(clauses))), [], 1.0, statistics.mean(axis=0))
    attach_target(group, statistics)
    assert group.target is not None
    allowed = ~(statistics[:, list(group.target.hard)] > 0).any(axis=1)
    for soft in group.target.soft:
        point = share * statistics[allowed, soft.clause].mean()
        group.controllers.append(ControllerState(value=1.0, weight=1.0, set_point=float(point)))
    rows = [TokenRow((i,), (1, 2), {}, train_prompt=False) for i in range(ROWS)]
    calls: list[int] = []

    def score(_: Any, some: Sequence[TokenRow]) -> np.ndarray:
        calls.extend(row.prompt[0] for row in some)
        return statistics[[row.prompt[0] for row in some]]

    score.calls = calls  # type: ignore[attr-defined]
    return group, rows, statistics, score


def weights_of(made: RowWeights, group: Group, score: Any) -> np.ndarray:
    made.drawn(range(ROWS), [group], [0], 0, score)
    return np.nan_to_num(made._weights, nan=1.0)


@pytest.mark.parametrize("kinds", READINGS)
@pytest.mark.parametrize("share", [0.3, 0.8, 1.2])
def test_weighted_rows_meet_every_set_point_at_least_cost(kinds: tuple[str, ...], share: float) -> None:
    """Karush-Kuhn-Tucker: log w is -Σ λ_k f_k, λ >= 0, each mean at most its point, λ_k = 0 where it is below."""
    group, rows, statistics, score = corpus(kinds, share)
    made = RowWeights(rows, [0] * ROWS, law=SamplingLaw(8), tokenizer=None, seed=0)
    made.start([group], [0], score)
    found = weights_of(made, group, score)
    assert group.target is not None
    hard = (statistics[:, list(group.target.hard)] > 0).any(axis=1)
    assert (found[hard] == 0).all()
    assert found[~hard].max() == 1.0
    columns = [soft.clause for soft in group.target.soft]
    if not columns:
        assert (found[~hard] == 1).all()
        return
    values = statistics[~hard][:, columns]
    design = np.column_stack([-values, np.ones(len(values))])
    solution = np.linalg.lstsq(design, np.log(found[~hard]), rcond=None)[0]
    np.testing.assert_allclose(design @ solution, np.log(found[~hard]), atol=1e-6)
    duals = solution[:-1]
    means = found[~hard] @ values / found[~hard].sum()
    points = np.array([state.set_point for state in group.controllers])
    assert (duals > -1e-6).all()
    assert ((means <= points + 1e-4) | (duals > LOG_FLOOR - 1e-6)).all()
    assert (duals * np.maximum(points - means, 0) < 1e-3).all()
    if share > 1:
        assert (found[~hard] == 1).all()


def test_rows_that_meet_the_policy_are_all_kept_and_not_scored_again() -> None:
    group, rows, _, score = corpus(("rarely",), 1.2)
    made = RowWeights(rows, [0] * ROWS, law=SamplingLaw(8), tokenizer=None, seed=0)
    made.start([group], [0], score)
    before = len(score.calls)
    assert bool(made.drawn(range(ROWS), [group], [0], 3, score).all())
    assert len(score.calls) == before


def test_a_row_is_drawn_with_its_weight_whatever_stands_beside_it() -> None:
    """The same draw in batches of any size; over steps the frequency is the weight; each row is scored once."""
    group, rows, _, score = corpus(("mean",), 0.9)
    made = RowWeights(rows, [0] * ROWS, law=SamplingLaw(8), tokenizer=None, seed=7)
    made.start([group], [0], score)
    score.calls.clear()
    whole = made.drawn(range(ROWS), [group], [0], 5, score).tolist()
    parts = [made.drawn(range(i, i + 50), [group], [0], 5, score).tolist() for i in range(0, ROWS, 50)]
    assert [one for part in parts for one in part] == whole
    assert len(score.calls) == ROWS
    steps = 400
    drawn = np.stack([made.drawn(range(ROWS), [group], [0], step, score).numpy() for step in range(steps)])
    share = (drawn > 0).mean(axis=0)
    wanted = weights_of(made, group, score)
    assert 0.05 < wanted.min() < 0.9
    assert (np.abs(share - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / steps) + 1e-9).all()
    other = RowWeights(rows, [0] * ROWS, law=SamplingLaw(8), tokenizer=None, seed=8)
    other.start([group], [0], score)
    assert other.drawn(range(ROWS), [group], [0], 5, score).tolist() != whole


@pytest.mark.parametrize(("kind", "share"), [("mean", 0.9), ("never", 1.0), ("rarely", 0.3)])
def test_a_group_keeps_its_part_in_the_loss_with_rows_of_any_length(kind: str, share: float) -> None:
    """E Σ w n = Σ n: rows that are kept make up for those that are not, in tokens."""
    group, rows, _, score = corpus((kind,), share)
    long = [dataclasses.replace(row, completion=(1,) * (1 + 9 * (i % 3))) for i, row in enumerate(rows)]
    made = RowWeights(long, [0] * ROWS, law=SamplingLaw(8), tokenizer=None, seed=3)
    made.start([group], [0], score)
    tokens = np.array([len(row.completion) for row in long])
    steps = 200
    drawn = np.stack([made.drawn(range(ROWS), [group], [0], step, score).numpy() for step in range(steps)])
    kept = drawn[drawn > 0]
    assert kept.min() == kept.max() > 1
    wanted = weights_of(made, group, score)
    spread = np.sqrt((wanted * (1 - wanted) * (tokens * kept[0]) ** 2).sum() / steps)
    assert abs((drawn @ tokens).mean() - tokens.sum()) <= 5 * spread + 1e-3 * tokens.sum()


def test_few_rows_that_are_left_do_not_speak_for_all() -> None:
    """A kept row weighs ``MOST`` at most, so that one row of a hundred does not make a step."""
    group, rows, statistics, _ = corpus(("never",), 1.0)
    bad = np.ones_like(statistics)
    bad[::100] = 0

    def score(_: Any, some: Sequence[TokenRow]) -> np.ndarray:
        return bad[[row.prompt[0] for row in some]]

    made = RowWeights(rows, [0] * ROWS, law=SamplingLaw(8), tokenizer=None, seed=0)
    made.start([group], [0], score)
    drawn = made.drawn(range(ROWS), [group], [0], 0, score)
    assert drawn[::100].tolist() == [MOST] * 5
    assert float(drawn.sum()) == 5 * MOST


def test_a_corpus_that_violates_throughout_is_left_out() -> None:
    """Not an error: other domains are trained on, and the regularizer acts."""
    group, rows, statistics, _ = corpus(("never",), 1.0)
    bad = np.ones_like(statistics)
    made = RowWeights(rows, [0] * ROWS, law=SamplingLaw(8), tokenizer=None, seed=0)
    made.start([group], [0], lambda _, some: bad[: len(some)])
    assert not bool(made.drawn(range(ROWS), [group], [0], 0, lambda _, some: bad[: len(some)]).any())


def test_rows_of_other_groups_are_not_looked_at() -> None:
    group, rows, _, score = corpus(("rarely",), 0.3)
    made = RowWeights(rows, [0] * 100 + [-1] * (ROWS - 100), law=SamplingLaw(8), tokenizer=None, seed=0)
    made.start([group], [0], score)
    assert bool(made.drawn(range(100, ROWS), [group], [0], 0, score).all())
    assert max(score.calls) < 100


def test_rows_of_a_group_that_does_not_act_are_all_kept_whatever_was_judged_before() -> None:
    """A resumed run, which has judged none of them, keeps the same."""
    group, rows, _, score = corpus(("rarely",), 0.3)
    made = RowWeights(rows, [0] * ROWS, law=SamplingLaw(8), tokenizer=None, seed=0)
    made.start([group], [0], score)
    assert not bool(made.drawn(range(ROWS), [group], [0], 0, score).all())
    assert made.drawn(range(ROWS), [group], [], 1, score).tolist() == [1.0] * ROWS


def labels_while_acting(world: World, output: Path, **changes: Any) -> tuple[list[float], Any]:
    """The share of violating rows that have labels, at the steps in which the regularizer acts; and the trainer."""
    trainer = make(world, output, **changes)
    bad = {
        number
        for number, example in enumerate(trainer.train_dataset)
        if example["group"] == 0
        and trainer.engine.score(trainer.groups[0].clauses, [example["row"]])[0, 0] > 0
    }
    assert bad
    seen: list[tuple[int, bool]] = []
    original = trainer.compute_loss

    def compute_loss(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if trainer.engine.active():
            has = (inputs.get("weight", torch.ones(len(inputs["number"]))) > 0).tolist()
            seen.extend((n, kept) for n, kept in zip(inputs["number"].tolist(), has, strict=True))
        return original(model, inputs, *args, **kwargs)

    trainer.compute_loss = compute_loss
    trainer.train()
    assert all(kept for number, kept in seen if number not in bad)
    return [float(kept) for number, kept in seen if number in bad], trainer


def test_a_run_trains_on_violating_rows_as_often_as_the_projection_says(world: World, tmp_path: Path) -> None:
    """Most are left out; `given` trains on all, and ends elsewhere."""
    projected, first = labels_while_acting(world, tmp_path / "one", max_steps=48)
    given, second = labels_while_acting(world, tmp_path / "two", max_steps=48, training_rows="given")
    assert len(given) > 10
    assert np.mean(given) == 1.0
    assert np.mean(projected) < 0.5
    assert not bool((weights(first) == weights(second)).all())
    said = [entry for entry in first.state.log_history if any(key.endswith("/rows/kept") for key in entry)]
    assert len(said) == 1
