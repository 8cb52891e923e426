"""The kept checkpoint: its order, its prompts, what a run records of it, and that a killed run chooses the same."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_models import POLICY, World
from tiny_trainer import compiled, make, weights
from transformers import TrainerCallback

from constraintc.main import main
from constraintlang_runtime import rounds, selection
from constraintlang_runtime.data import encode_rows
from constraintlang_runtime.demo import language
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.holdout import split
from constraintlang_runtime.loading import load_tokenizer
from constraintlang_runtime.run_settings import RunSettings
from constraintlang_runtime.sampling import completion_texts, prompt_texts
from constraintlang_runtime.selection import best_step
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.trainer import ConstraintTrainer

LONGER = {
    "max_steps": 8,
    "rounds": 4,
    "save_steps": 2,
    "keep": "best",
    "selection_prompts": 12,
    "anchor": "start",
}
PRESERVING = POLICY + "same: preserve mean(perplexity) <= 1.02 * base for domain=kitchen\n"


def entry(step: int, loss: float | None, *excesses: tuple[float, int, str]) -> dict[str, Any]:
    clauses = [{"excess": e, "priority": p, "strength": s, "weight": 1.0} for e, p, s in excesses]
    return {"step": step, "utility_loss": loss, "clauses": clauses}


# ------------------------------------------------------------ the order
def test_clauses_come_before_loss_and_priorities_before_each_other() -> None:
    need, wish, later = (0, "require"), (0, "prefer"), (1, "require")
    table = [
        ([entry(1, 1.0, (0.1, *need)), entry(2, 9.0, (0.0, *need))], 2),
        ([entry(1, 1.0, (0.0, *need)), entry(2, 9.0, (0.0, *need))], 1),
        ([entry(1, 1.0, (0.0, *need), (9.0, *later)), entry(2, 1.0, (0.1, *need), (0.0, *later))], 1),
        ([entry(1, 1.0, (0.0, *later), (9.0, *wish)), entry(2, 1.0, (0.1, *later), (0.0, *wish))], 1),
        ([entry(1, 1.0, (9.0, *wish)), entry(2, 5.0, (0.0, *wish))], 2),
        ([entry(1, 1.0, (0.0, *need), (9.0, *wish)), entry(2, 1.0, (0.1, *need), (0.0, *wish))], 1),
        ([entry(1, 1.0, (0.2, *need), (0.2, *need)), entry(2, 1.0, (0.3, *need), (0.0, *need))], 2),
        ([entry(1, 1.0), entry(2, 1.0)], 2),
        ([entry(1, None), entry(2, 1.0)], 2),
        ([], None),
    ]
    for records, expected in table:
        assert best_step(records) == expected
        assert best_step(records[::-1]) == expected


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.5]), st.floats(1, 5)), min_size=1, max_size=6))
def test_no_candidate_that_meets_all_clauses_has_less_loss_than_the_chosen(
    found: list[tuple[float, float]],
) -> None:
    records = [entry(n, loss, (excess, 0, "require")) for n, (excess, loss) in enumerate(found)]
    excess, loss = found[best_step(records) or 0]
    meeting = [own for e, own in found if e == 0]
    assert (excess == 0) == bool(meeting)
    assert not meeting or loss == min(meeting)


# ------------------------------------------------------------ the prompts
def test_selection_prompts_are_apart_from_training(world: World) -> None:
    rows = encode_rows(list(language.training_rows(7, 400)), load_tokenizer(str(world.model)), max_length=64)
    best = ConstraintSettings(keep="best", selection_prompts=9, heldout_rows=5)
    found = split(compiled(POLICY).ir, rows, None, best, 0)
    trained, sampled, chosen = (
        {row.prompt for row in part} for part in (found.rows, found.prompts, found.selection)
    )
    assert len(chosen) == 9
    assert {row.tags["domain"] for row in found.selection} == {"chat"}
    assert not chosen & (trained | sampled)
    assert len(found.rows) + len(found.heldout) == len(rows)
    assert not {row.ids for row in found.heldout} & {row.ids for row in found.rows}
    given = split(compiled(POLICY).ir, rows, found.prompts, best, 0, selection=found.selection)
    assert {row.prompt for row in given.prompts} == sampled
    assert not {row.prompt for row in given.rows} & chosen
    many = split(compiled(POLICY).ir, rows, None, ConstraintSettings(keep="best", selection_prompts=10**6), 0)
    everything = {row.prompt for row in rows if row.tags["domain"] == "chat"}
    assert 0.08 * len(everything) < len({row.prompt for row in many.selection}) <= 0.1 * len(everything)


def test_a_word_that_many_rows_begin_with_does_not_take_them_along(world: World) -> None:
    texts = [{"text": f"mia asks {word}", "domain": "chat"} for word in language.vocabulary()]
    others = [row for row in language.training_rows(7, 200) if row["domain"] == "chat"]
    rows = encode_rows([*texts, *others], load_tokenizer(str(world.model)), max_length=64)
    common = rows[0].prompt
    assert sum(row.prompt == common for row in rows) == len(texts)
    for seed in range(10):
        best = ConstraintSettings(keep="best", selection_prompts=20, heldout_rows=1)
        found = split(compiled(POLICY).ir, rows, None, best, seed)
        assert len({row.prompt for row in found.selection}) > 5
        assert common not in {row.prompt for row in found.selection}
        assert len(found.heldout) < len(texts)


def test_selection_prompts_without_a_choice_are_refused(world: World, tmp_path: Path) -> None:
    prompts = [{"prompt": "mia asks", "domain": "chat"}]
    with pytest.raises(ConfigError, match=r"^selection: the last checkpoint is kept"):
        make(world, tmp_path, selection=prompts)
    with pytest.raises(ConfigError, match="chooses among checkpoints"):
        make(world, tmp_path, keep="best", save_strategy="no")
    with pytest.raises(DataError, match="a single one"):
        make(world, tmp_path, keep="best", save_strategy="steps", prompts=prompts)


# ------------------------------------------------------------ a run
@pytest.fixture(scope="module")
def kept(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps its best checkpoint, under a policy with a budget; two checkpoints are left of four."""
    folder = tmp_path_factory.mktemp("kept")
    for name in ("words.tsv",):
        (folder / name).write_bytes((world.root / name).read_bytes())
    (folder / "p.policy").write_text(PRESERVING)
    assert main(["train", *flags(world, folder, folder / "whole")]) == 0
    return folder


def flags(world: World, folder: Path, output: Path, **changes: Any) -> list[str]:
    own = LONGER | {"policy": folder / "p.policy", "prompts": None, "save_total_limit": 1}
    return world.flags(output, **own | changes)


def record_of(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "constraint" / "run.json").read_text()))


def test_the_record_names_the_choice_and_the_model_is_that_checkpoint(kept: Path) -> None:
    record = record_of(kept / "whole")
    found = record["selection"]
    assert [one["step"] for one in found] == [2, 4, 6, 8]
    (chosen,) = [one["step"] for one in found if one["chosen"]]
    assert chosen == best_step(found)
    for one in found:
        assert [clause["clause"] for clause in one["clauses"]] == ["kind", "same"]
        kind = one["clauses"][0]
        assert kind["samples"] == 12
        assert (kind["met"], kind["excess"] > 0) in ((True, False), (False, True))
        assert 0 < kind["limit"] <= kind["bound"] == 0.05
    assert record["rows_held_out"] > 0
    (budget,) = record["preserve"]
    assert budget["clause"] == "same"
    assert budget["bound"] == pytest.approx(1.02 * budget["base"])
    folder = kept / "whole" / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {f"checkpoint-{n}" for n in {chosen, 8}}
    saved, of_checkpoint = (
        load_file(path / "model.safetensors") for path in (kept / "whole", folder / f"checkpoint-{chosen}")
    )
    assert all((saved[name] == of_checkpoint[name]).all() for name in saved)
    in_checkpoint = json.loads((folder / "checkpoint-8" / "constraint.json").read_text())["selection"]
    assert in_checkpoint == [{k: v for k, v in one.items() if k != "chosen"} for one in found]


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("moment", ["between checkpoints", "measuring a candidate", "the last measurement"])
def test_a_killed_run_keeps_the_same_checkpoint(
    world: World, kept: Path, tmp_path: Path, moment: str
) -> None:
    output = tmp_path / "run"
    calls = itertools.count()

    def dying(original: Any, number: int) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == number:
                raise Killed
            return original(*args, **kwargs)

        return run

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        if moment == "between checkpoints":
            patch.setattr(ConstraintTrainer, "before_step", dying(ConstraintTrainer.before_step, 5))
        elif moment == "measuring a candidate":
            patch.setattr(selection, "measure", dying(rounds.measure, 2))
        else:
            patch.setattr(ConstraintTrainer, "finish", dying(ConstraintTrainer.finish, 0))
        main(["train", *flags(world, kept, output)])
    assert main(["train", *flags(world, kept, output), "--resume"]) == 0
    found, expected = record_of(output), record_of(kept / "whole")
    for name in ("selection", "preserve", "groups"):
        assert found[name] == expected[name], name
    for name in ("model.safetensors", "constraint/constraint.safetensors", "constraint/prompts.safetensors"):
        assert (output / name).read_bytes() == (kept / "whole" / name).read_bytes(), name


def test_the_step_of_checkpoints_may_not_change_when_they_are_chosen_from(
    world: World, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *flags(world, kept, kept / "whole", save_steps=3), "--resume"]) == 2
    assert "another policy, word list, model, data or settings" in capsys.readouterr().err


def with_dropout(trainer: ConstraintTrainer) -> None:
    """Attention dropout, so that the global random state matters."""
    for layer in trainer.model.model.layers:
        layer.self_attn.attention_dropout = 0.2


def test_a_choice_does_not_disturb_training(world: World, kept: Path, tmp_path: Path) -> None:
    """The run that keeps its last checkpoint, on the rows and prompts that the other was left with."""
    best = make(
        world, tmp_path / "a", save_strategy="steps", **LONGER, policy=PRESERVING, save_total_limit=None
    )
    with_dropout(best)
    best.train()
    kept_step = best.selection.best if best.selection is not None else None
    last = tmp_path / "a" / "checkpoint-8" / "model.safetensors"
    quiet = make(world, tmp_path / "b", save_strategy="steps", **LONGER, policy=PRESERVING)
    quiet.selection = None
    with_dropout(quiet)
    quiet.train()
    trained, seen = (
        load_file(path) for path in (tmp_path / "b" / "checkpoint-8" / "model.safetensors", last)
    )
    assert all((trained[name] == seen[name]).all() for name in trained)
    chosen = load_file(tmp_path / "a" / f"checkpoint-{kept_step}" / "model.safetensors")
    assert (best.model.state_dict()["model.embed_tokens.weight"] == chosen["model.embed_tokens.weight"]).all()
    assert len(weights(best)) == len(weights(quiet))


def test_an_earlier_checkpoint_is_kept_and_its_state_with_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        selection,
        "best_step",
        lambda records: min((r["step"] for r in records if r["step"] >= 4), default=None),
    )
    trainer = make(world, tmp_path, save_strategy="steps", **LONGER, save_total_limit=1)
    trainer.train()
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-4", "checkpoint-8"}
    saved, last = (load_file(tmp_path / f"checkpoint-{n}" / "model.safetensors") for n in (4, 8))
    own = trainer.model.state_dict()
    assert all((own[name] == saved[name]).all() for name in saved)
    assert any((own[name] != last[name]).any() for name in saved)
    state = json.loads((tmp_path / "checkpoint-4" / "constraint.json").read_text())
    assert [c.to_dict()["value"] for c in trainer.groups[0].controllers] == [
        c["value"] for c in state["groups"][0]["controllers"]
    ]
    assert trainer.selection is not None
    assert [one["step"] for one in trainer.selection.report() if one["chosen"]] == [4]
    assert [one["step"] for one in trainer.selection.records] == [2, 4, 6, 8]


def test_a_run_that_a_callback_ends_keeps_its_best_too(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == 7

    monkeypatch.setattr(
        selection, "best_step", lambda records: min((r["step"] for r in records), default=None)
    )
    trainer = make(
        world, tmp_path, save_strategy="steps", **LONGER, callbacks=[Stop()],
        save_total_limit=None,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 7
    saved = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    own = trainer.model.state_dict()
    assert all((own[name] == saved[name]).all() for name in saved)


def test_plain_training_chooses_among_all_its_checkpoints(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path, save_strategy="steps", **LONGER | {"method": "plain"})
    trainer.train()
    assert trainer.selection is not None
    assert [one["step"] for one in trainer.selection.records] == [2, 4, 6, 8]


def test_before_the_regularizer_acts_there_is_no_candidate(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path, save_strategy="steps", **LONGER | {"anchor": "tuned"})
    trainer.train()
    assert trainer.selection is not None
    assert [one["step"] for one in trainer.selection.records] == [6, 8]


def test_no_rows_have_no_texts(world: World) -> None:
    """Of fewer rows than processes some process has none; transformers decodes an empty batch to one text."""
    tokenizer = load_tokenizer(str(world.model))
    assert prompt_texts([], tokenizer) == completion_texts([], tokenizer) == []


def test_files_of_rows_and_prompts_are_settings_of_a_run() -> None:
    found = RunSettings(model="m", data=("d",), output="o", heldout=("h",), selection=("s",))
    assert (found.heldout, found.selection) == (("h",), ("s",))
