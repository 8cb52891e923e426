"""A frozen anchor run once per row: the same features and logits as without a cache, in bounded files of its own."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import World, tiny_llama
from tiny_trainer import make, weights
from torch import Tensor

from constraintlang_runtime import cached_anchor, state_file
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.cached_anchor import AnchorStates, CachedAnchor, row_hashes
from constraintlang_runtime.data import Batch, TokenRow, collate, prediction_sites
from constraintlang_runtime.state_file import RECORD, Room, StateFile
from constraintlang_runtime.weight_hash import weight_hash

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in peft
LENGTHS = ((3, 5), (2, 9), (6, 1), (1, 4), (4, 7), (2, 2))
PASSES_DIFFER = 1e-5  # float32 states of another batch, relative to their size


def some_rows(count: int = 6, seed: int = 0) -> list[TokenRow]:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for prompt, completion in [LENGTHS[i % len(LENGTHS)] for i in range(count)]:
        ids = torch.randint(2, 40, (prompt + completion,), generator=generator).tolist()
        rows.append(TokenRow(tuple(ids[:prompt]), tuple(ids[prompt:]), {}, False))
    return rows


def batch_of(rows: Sequence[TokenRow], **changes: Any) -> tuple[Batch, Tensor]:
    batch = replace(collate(rows, 0), **changes)
    return batch, prediction_sites(batch.region)


class Counting:
    """How many sequences a model was given."""

    def __init__(self, model: Any) -> None:
        self.rows = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _module: Any, _args: Any, options: dict[str, Any]) -> None:
        self.rows += len(options["input_ids"])

    def taken(self) -> int:
        found, self.rows = self.rows, 0
        return found


def cached(model: Any, folder: Path, limit: int = 1 << 30) -> tuple[CachedAnchor, AnchorStates]:
    states = AnchorStates(folder, limit)
    anchor = states.of(Anchor.snapshot(model))
    assert isinstance(anchor, CachedAnchor)
    states.use(anchor)
    return anchor, states


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_same_batch_has_the_same_bits_and_runs_the_model_once(
    tmp_path: Path, dtype: torch.dtype, autocast: bool
) -> None:
    model = tiny_llama(40).to(dtype)
    plain, (anchor, _) = Anchor.snapshot(model), cached(model, tmp_path)
    batch, sites = batch_of(some_rows())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        features, (logits, _) = plain.features(batch, sites), plain.read(batch, sites)
        ran = Counting(model)
        for _ in range(2):
            assert torch.equal(anchor.features(batch, sites), features)
            assert anchor.features(batch, sites).dtype == features.dtype
        assert ran.taken() == len(batch.input_ids)
        for passes in (len(batch.input_ids), 0):  # the first compares the head with the model's own logits
            found = anchor.read(batch, sites)
            assert torch.equal(found[0], logits)
            assert torch.equal(found[1], features)
            assert ran.taken() == passes
    (file,) = tmp_path.glob("*.states")  # nothing over the vocabulary, no running means, no padding
    assert file.stat().st_size == int(sites.sum()) * 16 * features.element_size()


@pytest.mark.parametrize("packs", [False, True])
def test_rows_are_found_in_any_order_beside_any_others(tmp_path: Path, packs: bool) -> None:
    model = tiny_llama(40)
    plain, (anchor, _) = Anchor.snapshot(model), cached(model, tmp_path)
    rows, more = some_rows(), some_rows(3, seed=1)
    anchor.features(*batch_of(rows, packs=packs))
    ran = Counting(model)
    for chosen, unknown in (
        ([rows[4], rows[0], rows[0]], 0),
        ([more[0], rows[1], more[1], rows[5]], 2),
        ([rows[3], more[1], more[0]], 0),
        ([more[2], more[2]], 2),
    ):
        batch, sites = batch_of(chosen, packs=packs)
        found, logits = anchor.features(batch, sites), anchor.read(batch, sites)[0]
        ran.taken()
        anchor.features(batch, sites)
        assert ran.taken() == 0
        expected, theirs = plain.features(batch, sites), plain.read(batch, sites)[0]
        torch.testing.assert_close(found, expected, rtol=PASSES_DIFFER, atol=PASSES_DIFFER)
        torch.testing.assert_close(logits, theirs, rtol=1e-4, atol=1e-4)
        assert unknown in (0, 2)


def test_only_the_unknown_rows_of_a_batch_are_run(tmp_path: Path) -> None:
    model = tiny_llama(40)
    anchor, _ = cached(model, tmp_path)
    rows, more = some_rows(4), some_rows(3, seed=1)
    ran = Counting(model)
    widths: list[int] = []
    model.register_forward_pre_hook(
        lambda _m, _a, options: widths.append(options["input_ids"].shape[1]), with_kwargs=True
    )
    anchor.features(*batch_of(rows))
    anchor.features(*batch_of([rows[1], more[0], more[2], rows[0]]))
    assert ran.taken() == 4 + 2
    assert widths == [11, 8]  # of the longest of all, then of the longest unknown one


def test_a_row_is_its_tokens_and_its_sites(tmp_path: Path) -> None:
    ids = (5, 6, 7, 8)
    rows = [
        TokenRow(ids[:1], ids[1:], {}, False), TokenRow(ids[:2], ids[2:], {}, False),
        TokenRow(ids, (), {}, False), TokenRow((5, 6), (7, 9), {}, False),
    ]  # fmt: skip
    hashes = row_hashes(*batch_of(rows))
    assert len(set(hashes)) == 4
    assert row_hashes(*batch_of([rows[1], TokenRow((1,), (1,) * 20, {}, False)]))[0] == hashes[1]
    anchor, _ = cached(tiny_llama(40), tmp_path)
    for _ in range(2):  # a row without a site has no features
        assert len(anchor.features(*batch_of([rows[2]]))) == 0
        assert len(anchor.features(*batch_of([rows[2], rows[0]]))) == 3


def test_another_anchor_never_finds_what_was_kept_and_the_old_file_goes(tmp_path: Path) -> None:
    model = tiny_llama(40)
    first, states = cached(model, tmp_path)
    batch, sites = batch_of(some_rows())
    before = first.features(batch, sites)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] += 0.5
    assert torch.equal(first.features(batch, sites), before)  # frozen
    second = states.of(Anchor.snapshot(model))
    assert isinstance(second, CachedAnchor)
    states.use(second)
    assert second.key != first.key
    after = second.features(batch, sites)
    assert torch.equal(after, Anchor.snapshot(model).features(batch, sites))
    assert not torch.allclose(after, before, atol=1e-3)
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {second.key}


def test_the_key_is_of_the_weights_that_were_frozen_whenever_it_is_made(tmp_path: Path) -> None:
    model = tiny_llama(40)
    early, late = (cached(model, tmp_path)[0] for _ in range(2))
    key = early.key
    with torch.no_grad():
        model.lm_head.weight.mul_(2.0)  # training goes on
    assert late.key == key != cached(model, tmp_path)[0].key


def test_the_start_and_the_tuned_model_keep_theirs_side_by_side(tmp_path: Path) -> None:
    model = tiny_llama(40)
    start, states = cached(model, tmp_path)
    batch, sites = batch_of(some_rows())
    kept = start.features(batch, sites)
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    tuned = states.of(Anchor.snapshot(model))
    assert tuned is not None
    states.use(tuned, start)
    tuned.features(batch, sites)
    ran = Counting(model)
    assert torch.equal(start.features(batch, sites), kept)
    assert ran.taken() == 0
    assert len(list(tmp_path.glob("*.states"))) == 2
    again = AnchorStates(tmp_path, 1 << 30)  # a run that is resumed with both
    again.at(1)
    other = again.of(Anchor(model, tuned.weights))
    mine = again.of(Anchor(model, start.weights))
    again.use(other, mine)
    assert mine is not None
    assert torch.equal(mine.features(batch, sites), kept)
    assert ran.taken() == 0


def test_the_key_is_of_every_bit_and_place() -> None:
    parts = [("a", torch.randn(7, 5)), ("b", torch.arange(40_000).float())]
    hashes = {weight_hash(parts)}
    assert hashes == {weight_hash([(name, part.clone()) for name, part in parts])}
    for change in (
        lambda a, b: [("a", a), ("b", b.flip(0))],
        lambda a, b: [("a", a.T), ("b", b)],
        lambda a, b: [("a", a), ("c", b)],
        lambda a, b: [("b", b), ("a", a)],
        lambda a, b: [("a", a), ("b", b.roll(1 << 14))],  # by a whole stretch
        lambda a, b: [("a", torch.nextafter(a, a + 1)), ("b", b)],
        lambda a, b: [("a", -a), ("b", b)],
        lambda a, b: [("a", a.to(torch.bfloat16)), ("b", b)],
    ):
        hashes.add(weight_hash(change(*(part for _, part in parts))))
    assert len(hashes) == 9


def test_an_adapters_anchor_is_known_by_its_base_too(world: World) -> None:
    from peft import LoraConfig, get_peft_model

    keys = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = get_peft_model(
                tiny_llama(40, seed), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
            )
        anchor, _ = cached(model, world.root)
        assert anchor.weights is not None
        assert all("lora_" in name for name in anchor.weights)
        keys.append(anchor.key)
    assert keys[0] == keys[1] != keys[2]


# ------------------------------------------------------------ files
def test_what_does_not_fit_is_computed_anew_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_llama(40)
    plain, (anchor, _) = Anchor.snapshot(model), cached(model, tmp_path, limit=10 * 16 * 4)
    for seed in range(3):
        batch, sites = batch_of(some_rows(seed=seed))
        for _ in range(2):
            torch.testing.assert_close(
                anchor.features(batch, sites), plain.features(batch, sites), rtol=1e-5, atol=1e-5
            )
    (file,) = tmp_path.glob("*.states")
    assert 0 < file.stat().st_size <= 10 * 16 * 4
    assert len([r for r in caplog.records if "anchor_cache_gib" in r.getMessage()]) == 1


def test_a_full_disk_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_llama(40)
    plain, (anchor, _) = Anchor.snapshot(model), cached(model, tmp_path)
    anchor.features(*batch_of(some_rows(2)))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state_file, "_write", full)
    batch, sites = batch_of(some_rows())
    for _ in range(2):
        found = anchor.features(batch, sites)
        torch.testing.assert_close(found, plain.features(batch, sites), rtol=1e-5, atol=1e-5)
    (said,) = [r.getMessage() for r in caplog.records if "anchor_cache_gib" in r.getMessage()]
    assert "No space left on device" in said


def test_half_of_the_free_disk_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = state_file.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(state_file.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert Room(tmp_path, 1 << 30, 2).left == 250
    assert Room(tmp_path, 100, 2).left == 50


def opened(folder: Path, step: int, rank: int = 0, num_ranks: int = 1, room: Room | None = None) -> StateFile:
    return StateFile(
        folder, "key-own", room or Room(folder, 1 << 20), step=step, rank=rank, num_ranks=num_ranks
    )


def state_of(value: float, sites: int = 2) -> Tensor:
    return torch.full((sites, 8), value)


def row(number: int) -> bytes:
    return number.to_bytes(16, "little")


def test_a_resumed_run_knows_what_was_kept_before_its_step(tmp_path: Path) -> None:
    file = opened(tmp_path, 0)
    for step in range(4):
        file.put(row(step), state_of(float(step), step + 1), step)
    again = opened(tmp_path, 2)
    places = again.find([row(i) for i in range(4)])
    assert [place is not None for place in places] == [True, True, False, False]
    assert torch.equal(again.read([p for p in places if p]), torch.cat([state_of(0, 1), state_of(1, 2)]))
    again.put(row(3), state_of(7.0), 2)  # another row than there was in its place
    last = opened(tmp_path, 3)
    (place,) = last.find([row(3)])
    assert place is not None
    assert torch.equal(last.read([place]), state_of(7.0))
    assert last.find([row(2)]) == [None]


@pytest.mark.parametrize("harm", ["torn", "cut", "torn index", "other index", "gone"])
def test_states_that_a_crash_has_harmed_are_not_used(tmp_path: Path, harm: str) -> None:
    file = opened(tmp_path, 0)
    for number in range(3):
        file.put(row(number), state_of(number + 1.0), 0)
    states, index = tmp_path / "key-own.0.states", tmp_path / "key-own.0.rows"
    content, records = bytearray(states.read_bytes()), index.read_bytes()
    if harm == "torn":  # the last page never reached the disk
        content[-64:] = bytes(64)
        states.write_bytes(content)
    elif harm == "cut":
        states.write_bytes(content[:-40])
    elif harm == "torn index":
        index.write_bytes(records[:-3])
    elif harm == "other index":
        index.write_bytes(b"x" * 200)
    else:
        states.unlink()
    again = opened(tmp_path, 1)
    places = again.find([row(i) for i in range(3)])
    known = 0 if harm in ("gone", "other index") else 2
    assert [place is not None for place in places] == [i < known for i in range(3)]
    again.put(row(2), state_of(9.0), 1)
    (place,) = again.find([row(2)])
    assert place is not None
    assert torch.equal(again.read([place]), state_of(9.0))
    for number, kept in enumerate(places[:known]):
        assert kept is not None
        assert torch.equal(again.read([kept]), state_of(number + 1.0))


def test_a_process_sees_the_others_rows_of_earlier_steps(tmp_path: Path) -> None:
    rooms = [Room(tmp_path, 1 << 20, 2) for _ in range(2)]
    mine, theirs = (opened(tmp_path, 0, rank, 2, rooms[rank]) for rank in range(2))
    mine.put(row(0), state_of(1.0), 0)
    theirs.put(row(0), state_of(2.0), 0)  # the same row in the same step
    theirs.put(row(1), state_of(3.0), 0)
    theirs.put(row(2), state_of(4.0), 1)  # it is a step ahead
    assert mine.find([row(1)]) == [None]
    mine.share(1)
    places = mine.find([row(0), row(1), row(2)])
    assert places[2] is None
    assert torch.equal(mine.read([p for p in places if p]), torch.cat([state_of(1.0), state_of(3.0)]))
    mine.share(2)
    (place,) = mine.find([row(2)])
    assert place is not None
    assert torch.equal(mine.read([place]), state_of(4.0))
    assert [room.left for room in rooms] == [(1 << 19) - 64, (1 << 19) - 3 * 64]


def test_no_bytes_beyond_the_states_and_forty_for_a_row(tmp_path: Path) -> None:
    file = opened(tmp_path, 0)
    for number in range(5):
        file.put(row(number), state_of(1.0), 0)
        file.put(row(number), state_of(2.0), 0)  # known already
    assert (tmp_path / "key-own.0.states").stat().st_size == 5 * 2 * 8 * 4
    assert (tmp_path / "key-own.0.rows").stat().st_size == 6 * RECORD.itemsize == 240


# ------------------------------------------------------------ training
EPOCHS = {"max_steps": 24, "rounds": 2, "anchor": "start"}  # two epochs


@pytest.mark.parametrize(
    "changes",
    [
        {"prefixes": "mixed", "loss": "chunked", "chunk_sites": 16, "gradient_accumulation_steps": 2, "max_steps": 12},
        {"prefixes": "mixed", "packing": True},
    ],
)  # fmt: skip
def test_training_is_the_same_with_and_without(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Within the rounding of the model's passes, for fewer of them; the folder goes with the end of the run."""
    found, ran = [], []
    original = Anchor._read

    def counted(self: Anchor, batch: Batch, *rest: Any) -> Any:
        ran[-1] += len(batch.input_ids)
        return original(self, batch, *rest)

    monkeypatch.setattr(Anchor, "_read", counted)
    for gib in (0.0, 1.0):
        ran.append(0)
        trainer = make(world, tmp_path / str(gib), anchor_cache_gib=gib, **EPOCHS | changes)
        trainer.train()
        found.append(weights(trainer))
        assert not (tmp_path / str(gib) / cached_anchor.FOLDER).exists()
    assert not torch.equal(found[0], weights(make(world, tmp_path / "start", **EPOCHS)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)
    assert ran[1] < 0.8 * ran[0]


def test_rows_of_the_last_epoch_are_not_written(world: World, tmp_path: Path) -> None:
    sizes = []
    for epochs in (1, 2):
        trainer = make(
            world, tmp_path / str(epochs), prefixes="corpus", auxiliary_corpus_weight=0.0, anchor="start",
            max_steps=12 * epochs, rounds=2,
        )  # fmt: skip
        states = trainer.engine.states
        assert states is not None
        rows: list[int] = []
        states.remove = lambda rows=rows, states=states: rows.extend(  # type: ignore[method-assign]
            len(file._places) for file in states._files.values()
        )
        trainer.train()
        sizes.append(rows[-1] if rows else 0)
    store = 48  # what the fit has read
    assert sizes[0] <= store < sizes[1] <= store + 48


def test_a_run_resumed_without_the_cache_computes_it_anew(world: World, tmp_path: Path) -> None:
    import shutil

    first = make(world, tmp_path, save_strategy="steps", save_steps=8, **EPOCHS)
    first.train()
    again = make(world, tmp_path, save_strategy="steps", save_steps=8, **EPOCHS)
    shutil.rmtree(tmp_path / cached_anchor.FOLDER, ignore_errors=True)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-16"))
    torch.testing.assert_close(weights(again), weights(first), rtol=1e-4, atol=1e-4)


def test_a_moving_anchor_keeps_nothing(world: World, tmp_path: Path) -> None:
    for anchor in ("current", "previous"):
        trainer = make(world, tmp_path, anchor=anchor)
        states = trainer.engine.states
        assert states is not None
        trainer.train()
        assert not isinstance(trainer.engine.anchor, CachedAnchor)
        assert not tmp_path.joinpath(cached_anchor.FOLDER).exists()


def test_no_room_is_no_cache(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path, anchor="start", anchor_cache_gib=0)
    assert trainer.engine.states is None
    assert type(trainer.engine.start_anchor) is Anchor
    assert np.isfinite(weights(trainer).numpy()).all()
