"""Tilted proposals: weights that leave the law unbiased, fewer errors where violations are rare, no bit elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from proposal_world import TOKENIZER, RareWorld, rare_world
from tabular_model import PROMPTS
from tiny_models import World
from tiny_trainer import make

from constraintc.main import main
from constraintlang_runtime import fitting
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.auxiliary.make import make_auxiliary
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.proposals import log_potentials, rarest, suffix_weights
from constraintlang_runtime.rounds import Measured, Proposals, draw_prompts
from constraintlang_runtime.sampling import derived_seed, sample
from constraintlang_runtime.schedule.records import from_bytes, pack_measured, to_bytes, unpack_measured
from constraintlang_runtime.settings import ConstraintSettings

CONFIG = ConstraintSettings(
    proposals="auto", anchor_samples=1024, sampling_batch_size=64, max_new_tokens=5, auxiliary_steps=60,
    auxiliary_corpus_weight=0.0, auxiliary_rank=8, auxiliary_width=48, auxiliary_learning_rate=1e-2,
    auxiliary_dropout=0.0,
)  # fmt: skip


@cache
def world_with(pattern: tuple[int, ...]) -> RareWorld:
    return rare_world(0, pattern)


def plain(one: RareWorld, config: ConstraintSettings, seed: int) -> list[TokenRow]:
    """What ``rounds.measure`` draws."""
    prompts = draw_prompts(one.group().prompts, config.anchor_samples, derived_seed(seed, "prompts"))
    return sample(
        one.model, TOKENIZER, prompts, config.law, seed=derived_seed(seed, "tokens"),
        batch_size=config.sampling_batch_size,
    )  # fmt: skip


def test_weights_are_those_of_the_continuation() -> None:
    """Equation: Σ_y p(y|s) / w_t(y) = Σ_y a(y|s) = 1 at every prefix, where no weight is cut."""
    one = world_with((3, 2, 0))
    anchor = Anchor(one.model)
    torch.manual_seed(0)
    head = make_auxiliary(anchor, CONFIG, 2, good_bin=0)
    for parameter in head.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    head.requires_grad_(False).eval().attach(anchor)
    rows = [TokenRow(PROMPTS[0], y, {}, False) for y in one.world.sequences]
    for temperature in (1.0, 2.0):
        potential = torch.tensor([-1.5, 0.0])
        found = suffix_weights(anchor, head, rows, potential, 0, 64, temperature=temperature)
        parts = np.split(found, np.cumsum([len(row.completion) for row in rows])[:-1])
        table = one.world.table ** (1 / temperature)
        law = one.world.law_of(table / table.sum(axis=-1, keepdims=True))[0]
        assert max(found) < 10
        assert np.ptp(found) > 0.1
        for t in range(3):
            masses: dict[tuple[int, ...], list[float]] = {}
            for row, weights, p in zip(rows, parts, law, strict=True):
                if len(row.completion) > t:
                    both = masses.setdefault(row.completion[:t], [0.0, 0.0])
                    both[0] += p / weights[t]
                    both[1] += p
            for proposed, own in masses.values():
                assert proposed == pytest.approx(own, rel=1e-4)


def test_a_large_weight_is_cut() -> None:
    one = world_with((3, 2, 0))
    anchor = Anchor(one.model)
    torch.manual_seed(0)
    head = make_auxiliary(anchor, CONFIG, 2, good_bin=0)
    for parameter in head.parameters():
        parameter.data += torch.randn(parameter.shape)
    head.requires_grad_(False).eval().attach(anchor)
    rows = [TokenRow(PROMPTS[0], y, {}, False) for y in one.world.sequences]
    assert suffix_weights(anchor, head, rows, torch.tensor([-12.0, 0.0]), 0, 64).max() == 10


def test_proposals_lower_the_error_of_a_rare_violation() -> None:
    one = world_with((3, 2, 0))
    assert one.world.mean(one.world.law, one.f) == pytest.approx(0.012, abs=0.001)
    errors = []
    for seed in (0, 1):
        found = one.sampled(CONFIG, seed)
        assert found.proposals is not None
        assert len(found.rows) + len(found.proposals.rows) == CONFIG.anchor_samples
        assert found.proposals.statistics.mean() > 5 * found.statistics.mean()
        rows = plain(one, CONFIG, seed)
        without = replace(found, rows=rows, statistics=one.score(rows), proposals=None)
        errors.append([one.errors(some, CONFIG, seed) for some in (without, found)])
    before, after = np.mean(errors, axis=0)
    assert (after < 0.95 * before).all()


def test_auto_changes_no_bit_where_nothing_is_rare() -> None:
    one = world_with((3,))
    config = replace(CONFIG, anchor_samples=512)
    assert 0.15 < one.world.mean(one.world.law, one.f) < 0.85
    found = one.sampled(config, 3)
    rows = plain(one, config, 3)
    assert found.proposals is None
    assert found.rows == rows
    np.testing.assert_array_equal(found.statistics, one.score(rows))


@pytest.mark.parametrize(("rate", "violates"), [(0.02, True), (0.98, False), (0.3, None), (0.0, None)])
def test_the_rarer_side(rate: float, violates: bool | None) -> None:
    group = world_with((3,)).group()
    side = rarest(group, (np.arange(500) < 500 * rate).astype(float)[:, None], CONFIG)
    assert (None if side is None else side.violates) is violates
    if side is not None:
        seeking, nearest = log_potentials(side, 0.01)
        assert seeking[side.bins].max() == 0 > seeking[~side.bins].max()
        assert nearest[0] == 0 > nearest[1]  # the second bin violates


def test_proposals_travel_with_their_weights() -> None:
    one = world_with((3,))
    found = one.sampled(replace(CONFIG, anchor_samples=256, proposals="tilted", auxiliary_steps=2), 0)
    (record, tensors) = from_bytes(to_bytes(*pack_measured([Measured(0, found, (), np.zeros(0), {})])))
    taken = unpack_measured(record, tensors)[0].found.proposals
    assert isinstance(taken, Proposals)
    assert found.proposals is not None
    assert taken.rows == found.proposals.rows
    np.testing.assert_array_equal(taken.weights, found.proposals.weights)
    np.testing.assert_array_equal(taken.statistics, found.proposals.statistics)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "vllm", "sampler_url": "http://127.0.0.1:1"}, "vllm"),
        ({"top_p": 0.9}, "top_p 0.9"),
        ({"anchor_samples": 255}, "4 batches"),
        ({"proposals": "some"}, "expected one of auto, none, tilted"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(CONFIG, **changes).check()


@pytest.mark.parametrize("words", [(), ("--schedule", "parallel")])
def test_both_schedules_take_them(world: World, tmp_path: Path, words: Sequence[str]) -> None:
    flags = world.flags(tmp_path / "run", proposals="tilted", sampling_batch_size=8, anchor="start")
    assert main(["train", *flags, *words]) == 0
    history = json.loads((tmp_path / "run/constraint/run.json").read_text())["history"]
    sizes = [value for record in history for key, value in record.items() if key.endswith("/proposal_ess")]
    assert sizes
    assert all(0 < size <= 24 for size in sizes)


def test_what_the_law_explains_is_measured_on_samples_even_where_none_is_held_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few sequences a tenth may be proposals alone, whose law is not the anchor's."""

    def last(data: Any, seed: int) -> torch.Tensor:
        return torch.arange(len(data.rows)) == len(data.rows) - 1

    monkeypatch.setattr(fitting, "heldout_sequences", last)
    trainer = make(
        world, tmp_path, proposals="tilted", anchor="start", max_steps=1, rounds=1, sampling_batch_size=16,
        anchor_samples=64,
    )  # fmt: skip
    trainer.train()
    (record,) = [one for one in trainer.state.log_history if one.get("round") == 0]
    assert record["chat/auxiliary/proposal_ess"] > 0
    assert record["chat/auxiliary/explained_share"] >= 0
