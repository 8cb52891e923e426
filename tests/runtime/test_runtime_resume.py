"""A killed run goes on to the same bits: weights, duals and auxiliary models, wherever the kill fell."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rank_process import run_command
from tiny_models import World
from warm_process import started

from constraintc.main import main
from constraintlang_runtime import checkpoint, fit_once, rounds, train_run
from constraintlang_runtime.trainer import ConstraintTrainer

ANCHORS = ("start", "tuned", "previous", "current")
# two epochs, two micro-batches a step, checkpoints that fall beside (3) and on (6) a round, attention dropout
LONGER = {"max_steps": 8, "rounds": 4, "save_steps": 3, "gradient_accumulation_steps": 2}


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the run may catch it."""


@pytest.fixture(scope="module")
def noisy(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The tiny world with attention dropout, so that the random state matters."""
    model = tmp_path_factory.mktemp("noisy") / "model"
    shutil.copytree(world.model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.2}))
    return World(world.root, model, world.policy, world.data, world.prompts)


@pytest.fixture(scope="module")
def whole(noisy: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The output of an uninterrupted run per anchor."""
    folder = tmp_path_factory.mktemp("whole")

    def of(anchor: str) -> Path:
        if not (folder / anchor).exists():
            assert main(["train", *noisy.flags(folder / anchor, anchor=anchor, **LONGER)]) == 0
        return folder / anchor

    return of


def assert_same_result(found: Path, expected: Path) -> None:
    """Weights and the constraint's state, bit by bit; what was measured in the last round too."""
    for name in ("model.safetensors", "constraint/constraint.safetensors", "constraint/constraint.json"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    records = [json.loads((path / "constraint" / "run.json").read_text()) for path in (found, expected)]
    assert records[0]["groups"] == records[1]["groups"]
    assert records[0]["steps"] == records[1]["steps"]
    rounds_of = [
        [
            {key: value for key, value in entry.items() if "/seconds/" not in key}
            for entry in record["history"]
            if "round" in entry
        ]
        for record in records
    ]
    assert rounds_of[0] == rounds_of[1]
    assert not (found / "checkpoints" / checkpoint.STAGING).exists()


def kill_at_step(step: int) -> Callable[[pytest.MonkeyPatch], None]:
    def arm(patch: pytest.MonkeyPatch) -> None:
        original = ConstraintTrainer.before_step

        def dying(self: ConstraintTrainer, now: int) -> None:
            if now == step:
                raise Killed
            original(self, now)

        patch.setattr(ConstraintTrainer, "before_step", dying)

    return arm


def kill_in_call(owner: Any, name: str, number: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Die in the ``number``-th call of a function, before it does anything."""

    def arm(patch: pytest.MonkeyPatch) -> None:
        original, calls = getattr(owner, name), [0]

        def dying(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == number:
                raise Killed
            return original(*args, **kwargs)

        patch.setattr(owner, name, dying)

    return arm


def kill_in_checkpoint(number: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Die half-way through the ``number``-th checkpoint: its JSON is there, its tensors are cut short."""

    def arm(patch: pytest.MonkeyPatch) -> None:
        original, calls = checkpoint.save_groups, [0]

        def dying(folder: Path, groups: Any, extra: Any) -> None:
            original(folder, groups, extra)
            calls[0] += 1
            if calls[0] == number:
                tensors = folder / checkpoint.TENSOR_FILE
                tensors.write_bytes(tensors.read_bytes()[:40])
                raise Killed

        patch.setattr(checkpoint, "save_groups", dying)

    return arm


EVERYWHERE = {
    "sampling of round 0": kill_in_call(rounds, "sample", 1),
    "before any checkpoint": kill_at_step(2),
    "right after a checkpoint": kill_at_step(3),
    "sampling of the activating round": kill_in_call(rounds, "sample", 2),
    "the fit": kill_in_call(fit_once, "fit_auxiliary", 1),
    "the controllers' start": kill_in_call(fit_once, "start_controllers", 1),
    "between checkpoints": kill_at_step(5),
    "inside the second checkpoint": kill_in_checkpoint(2),
    "publishing the second checkpoint": kill_in_call(checkpoint, "publish", 2),
    "dropping old checkpoints": kill_in_call(ConstraintTrainer, "_drop_old", 2),
    "after the checkpoint of an active regularizer": kill_at_step(7),
    "the last measurement": kill_in_call(rounds, "sample", 4),
    "saving the model": kill_in_call(ConstraintTrainer, "save_model", 4),
    "saving the constraint's state": kill_in_call(train_run, "save_groups", 1),
}
SOME = ("before any checkpoint", "between checkpoints", "inside the second checkpoint")
CASES = [("tuned", moment) for moment in EVERYWHERE]
CASES += [(anchor, moment) for anchor in ANCHORS if anchor != "tuned" for moment in SOME]


@pytest.mark.parametrize(("anchor", "moment"), CASES)
def test_a_killed_run_ends_in_the_same_bits(
    noisy: World, whole: Callable[[str], Path], tmp_path: Path, anchor: str, moment: str
) -> None:
    output = tmp_path / "run"
    flags = noisy.flags(output, anchor=anchor, **LONGER)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        EVERYWHERE[moment](patch)
        main(["train", *flags])
    assert not (output / "constraint" / "run.json").exists()
    assert main(["train", *flags, "--resume"]) == 0
    assert_same_result(output, whole(anchor))


@pytest.mark.parametrize(
    "changes",
    [
        {
            "auxiliary": "transformer",
            "auxiliary_layers": 1,
            "vargrad_weight": 0.1,
            "anchor_samples": 80,
            "control_samples": 80,
        },
        {"auxiliary": "adapter", "lora_r": 2},
    ],
    ids=lambda changes: changes["auxiliary"],
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in peft
def test_every_form_of_the_auxiliary_model_survives_a_kill(
    noisy: World, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Under a moving anchor, so that the resumed run fits further what the checkpoint held."""
    options = {
        "anchor": "previous", "max_steps": 4, "rounds": 4, "save_steps": 1, "warmup_fraction": 0.25,
        "auxiliary_steps": 8, "auxiliary_batch_size": 64,
    } | changes  # fmt: skip
    assert main(["train", *noisy.flags(tmp_path / "whole", **options)]) == 0
    flags = noisy.flags(tmp_path / "run", **options)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at_step(3)(patch)
        main(["train", *flags])
    assert main(["train", *flags, "--resume"]) == 0
    for name in ("constraint/constraint.safetensors", "constraint/constraint.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    records = [json.loads((tmp_path / f / "constraint" / "run.json").read_text()) for f in ("run", "whole")]
    fits = [[e for e in record["history"] if "chat/auxiliary/reliability" in e] for record in records]
    assert len(fits[0]) > 1
    for found, expected in zip(*fits, strict=True):
        assert found["chat/auxiliary/reliability"] == expected["chat/auxiliary/reliability"]
        assert found["chat/auxiliary/heldout_loss"] == expected["chat/auxiliary/heldout_loss"]
        assert all(0 <= p <= 1 and 0 <= a <= 1 and n > 0 for p, a, n in found["chat/auxiliary/reliability"])


def test_the_last_measurement_is_in_the_precision_of_the_run(noisy: World, tmp_path: Path) -> None:
    """Of a run that was killed before its final save: under --bf16 the model passes in bfloat16 there, too."""
    more: dict[str, Any] = {"bf16": True, "use_cpu": True, "max_steps": 4, "rounds": 2, "save_steps": 2}
    (tmp_path / "words.tsv").write_bytes((noisy.root / "words.tsv").read_bytes())
    policy = tmp_path / "p.policy"
    same = "same: preserve mean(perplexity) <= 1.5 * base for domain=kitchen\n"
    policy.write_text(noisy.policy.read_text() + same)
    flags = {name: noisy.flags(tmp_path / name, policy=policy, **more) for name in ("whole", "killed")}
    assert main(["train", *flags["whole"]]) == 0
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_in_call(train_run, "save_groups", 1)(patch)
        main(["train", *flags["killed"]])
    assert main(["train", *flags["killed"], "--resume"]) == 0
    assert_same_result(tmp_path / "killed", tmp_path / "whole")


def test_a_half_written_checkpoint_is_ignored(noisy: World, tmp_path: Path) -> None:
    output = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        EVERYWHERE["inside the second checkpoint"](patch)
        main(["train", *noisy.flags(output, **LONGER)])
    assert checkpoint.newest_checkpoint(output / "checkpoints") == output / "checkpoints" / "checkpoint-3"
    half = output / "checkpoints" / checkpoint.STAGING / "checkpoint-6"
    assert (half / checkpoint.STATE_FILE).exists()  # so the test above resumed past a real half


def test_a_run_killed_twice(noisy: World, whole: Callable[[str], Path], tmp_path: Path) -> None:
    output = tmp_path / "run"
    flags = noisy.flags(output, **LONGER)
    for moment, more in (("between checkpoints", []), ("the last measurement", ["--resume"])):
        number = {"between checkpoints": kill_at_step(5), "the last measurement": kill_at_step(7)}[moment]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            number(patch)
            main(["train", *flags, *more])
    assert main(["train", *flags, "--resume"]) == 0
    assert_same_result(output, whole("tuned"))


def test_sigkill_of_a_real_process(noisy: World, whole: Callable[[str], Path], tmp_path: Path) -> None:
    output = tmp_path / "run"
    flags = noisy.flags(output, **LONGER)
    mark = tmp_path / "struck"
    process = started(
        tmp_path, "killed", run_command, ["train", *flags], str(mark), "training", 9
    )  # of step 4
    process.send_signal_at(mark, signal.SIGKILL)
    assert process.ended(60) == -signal.SIGKILL
    assert (output / "checkpoints" / "checkpoint-3").exists()
    assert main(["train", *flags, "--resume"]) == 0
    assert_same_result(output, whole("tuned"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def finished(noisy: World, whole: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a finished run, which a test may try to harm."""
    output = tmp_path / "finished"
    shutil.copytree(whole("tuned"), output)
    return output


def test_resuming_a_finished_run_does_nothing(
    noisy: World, finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(finished)
    monkeypatch.setattr(train_run, "build", lambda *args, **kwargs: pytest.fail("it was loaded again"))
    assert main(["train", *noisy.flags(finished, **LONGER), "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().err
    assert files(finished) == before


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 1e-3}, {"anchor": "start"}, {"adam_beta2": 0.9}, {"data": "chat"}, {"optim": "sgd"}],
    ids=lambda change: next(iter(change)),
)
def test_resuming_with_other_settings_is_refused(
    noisy: World, finished: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    before = files(finished)
    if "data" in change:
        change = {"data": f"chat={noisy.data}"}
    assert main(["train", *noisy.flags(finished, **LONGER | change), "--resume"]) == 2
    assert "another" in capsys.readouterr().err
    assert files(finished) == before


def test_resuming_with_another_policy_is_refused(
    noisy: World, finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "words.tsv").write_bytes((noisy.root / "words.tsv").read_bytes())
    (tmp_path / "other.policy").write_text(noisy.policy.read_text().replace("< 0.1", "< 0.2"))
    flags = noisy.flags(finished, **LONGER, policy=tmp_path / "other.policy")
    assert main(["train", *flags, "--resume"]) == 2
    assert "another policy" in capsys.readouterr().err


def test_how_often_it_logs_and_saves_may_change_on_resume(noisy: World, finished: Path) -> None:
    changed = LONGER | {"save_steps": 5, "logging_steps": 3}
    assert main(["train", *noisy.flags(finished, **changed), "--resume"]) == 0


@pytest.mark.parametrize("setting", ["save_only_model", "ignore_data_skip"])
def test_settings_that_would_break_a_resume_are_refused(
    noisy: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    assert main(["train", *noisy.flags(tmp_path / "run", **{setting: True})]) == 2
    assert setting in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_neither_resumed_nor_overwritten(
    noisy: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that came from elsewhere, or a home folder, must not be cleared by a slip."""
    foreign = tmp_path / "foreign"
    shutil.copytree(noisy.model, foreign)
    before = files(foreign)
    for switch in ("--resume", "--overwrite"):
        assert main(["train", *noisy.flags(foreign), switch]) == 2
        assert "not the output of" in capsys.readouterr().err
        assert files(foreign) == before


def test_overwriting_the_start_model_is_refused(
    noisy: World, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(finished)
    assert main(["train", *noisy.flags(finished, model=finished), "--overwrite"]) == 2
    assert "start model" in capsys.readouterr().err
    assert files(finished) == before


def test_overwriting_a_run_starts_over(noisy: World, finished: Path, whole: Callable[[str], Path]) -> None:
    (finished / "model.safetensors").write_bytes(b"old")
    assert main(["train", *noisy.flags(finished, **LONGER), "--overwrite"]) == 0
    assert_same_result(finished, whole("tuned"))


def test_another_run_is_told_by_what_differs(
    noisy: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert main(["train", *noisy.flags(output, max_steps=4, rounds=2)]) == 0
    (output / "constraint" / "run.json").unlink()
    capsys.readouterr()
    flags = noisy.flags(output, max_steps=4, rounds=2, learning_rate=0.007, control_samples=9)
    assert main(["train", *flags, "--resume"]) == 2
    error = capsys.readouterr().err
    assert "belongs to a run with another" in error
    assert "learning_rate: " in error
    assert "0.007 here" in error
    assert "9 here" in error
