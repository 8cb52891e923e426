"""The parallel schedule: the same bits whatever its lanes' timing, bounded staleness, resume, and lanes that fail."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_process import two_ranks
from tiny_models import World
from tiny_trainer import make

from constraintc.main import main
from constraintlang_runtime import fit_once, rounds
from constraintlang_runtime.auxiliary import AuxiliaryHead
from constraintlang_runtime.auxiliary.head import leading_directions
from constraintlang_runtime.cached_anchor import AnchorStates
from constraintlang_runtime.draws import own_draws
from constraintlang_runtime.errors import ConfigError, TrainingError
from constraintlang_runtime.integrations.guide import fit_guide
from constraintlang_runtime.loading import load_model
from constraintlang_runtime.sampling import seeded
from constraintlang_runtime.schedule.lanes import Dropped, Lane, wait_for
from constraintlang_runtime.schedule.work import Workbench
from constraintlang_runtime.settings import ConstraintSettings, delay_factor
from constraintlang_runtime.trainer import ConstraintTrainer

# a checkpoint after every step; enough samples that the duals move
LONGER: dict[str, Any] = {
    "max_steps": 10, "rounds": 5, "save_steps": 1, "save_total_limit": 20, "schedule": "parallel",
    "control_samples": 120, "gradient_accumulation_steps": 2,
}  # fmt: skip
RESULT = ("model.safetensors", "constraint/constraint.safetensors", "constraint/constraint.json")


@pytest.fixture(scope="module")
def noisy(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The tiny world with attention dropout, so that the training lane's random state matters."""
    model = tmp_path_factory.mktemp("noisy") / "model"
    shutil.copytree(world.model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.2}))
    return World(world.root, model, world.policy, world.data, world.prompts)


@pytest.fixture(scope="module")
def whole(noisy: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The output of an uninterrupted run per anchor and staleness, with what it kept of its anchor until the end."""
    folder = tmp_path_factory.mktemp("whole")

    def of(anchor: str, staleness: int) -> Path:
        output = folder / f"{anchor}{staleness}"
        if not output.exists():
            flags = noisy.flags(output, anchor=anchor, staleness=staleness, **LONGER)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(AnchorStates, "remove", lambda states: None)
                assert main(["train", *flags]) == 0
        return output

    return of


def history(output: Path) -> list[dict[str, Any]]:
    records = json.loads((output / "constraint" / "run.json").read_text())["history"]
    return [
        {key: value for key, value in record.items() if "/seconds/" not in key}
        for record in records
        if "round" in record
    ]


def assert_same_result(found: Path, expected: Path) -> None:
    for name in RESULT:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    assert history(found) == history(expected)


# ------------------------------------------------------------ values
@pytest.mark.parametrize(("anchor", "staleness"), [("tuned", 1), ("previous", 2)])
def test_no_delay_of_a_lane_changes_a_bit(
    noisy: World, whole: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    anchor: str, staleness: int,
) -> None:  # fmt: skip
    expected = whole(anchor, staleness)
    drawn = random.Random(5)
    for owner, name in ((rounds, "sample"), (fit_once, "fit_auxiliary"), (ConstraintTrainer, "compute_loss")):
        original = getattr(owner, name)

        def late(*args: Any, original: Any = original, **kwargs: Any) -> Any:
            time.sleep(drawn.choice((0.0, 0.0, 0.0, 0.1)))
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, late)
    output = tmp_path / "late"
    assert main(["train", *noisy.flags(output, anchor=anchor, staleness=staleness, **LONGER)]) == 0
    assert_same_result(output, expected)


@pytest.mark.parametrize(
    ("anchor", "staleness"), [("start", 1), ("tuned", 1), ("tuned", 2), ("previous", 2), ("current", 1)]
)
def test_everything_is_stamped_and_no_older_than_the_staleness(
    whole: Callable[..., Path], anchor: str, staleness: int
) -> None:
    records, num_rounds = history(whole(anchor, staleness)), LONGER["rounds"]
    starts = 2 if anchor == "tuned" else 0  # half the steps, at the nearest round
    acts = starts + staleness if starts else 0
    idle = set(range(1, acts + 1)) - {starts} if starts else set()  # the regularizer has not acted on these
    assert [record["round"] for record in records] == sorted(set(range(num_rounds + 1)) - idle)
    for record in records:
        number, applied = record["round"], record["chat/stamp/applied"]
        if number == 0 and starts == 0:
            assert applied == 0
        else:
            assert applied == min(number + staleness, num_rounds)
        if number < starts:
            assert "chat/stamp/auxiliary" not in record
            continue
        assert record["chat/stamp/samples"] == number
        assert record["chat/stamp/duals"] == (number if number > acts else starts)
        if anchor in ("start", "tuned"):
            assert record["chat/stamp/auxiliary"] == starts
        else:
            used = number + staleness < num_rounds or number == 0
            assert record["chat/stamp/auxiliary"] == (number if used else num_rounds - staleness - 1)


def test_the_duals_move_and_training_is_regularized(whole: Callable[..., Path]) -> None:
    """Else the comparisons above would compare nothing."""
    records = history(whole("start", 1))
    assert len({record["constraint/kind/dual"] for record in records}) > 1
    everything = json.loads((whole("tuned", 1) / "constraint" / "run.json").read_text())["history"]
    steps = [record["step"] for record in everything if "loss_regularizer/chat" in record]
    assert min(steps) == 7  # activated at round 2 (step 4), published a round later (step 6)


def test_a_late_measurement_lowers_the_gain() -> None:
    assert [round(delay_factor(n), 3) for n in range(4)] == [1.0, 0.5, 0.309, 0.223]
    late = ConstraintSettings(schedule="parallel", staleness=2, control_gain=0.4)
    assert late.regularizer.gain == pytest.approx(0.4 * 0.309, abs=1e-3)
    assert ConstraintSettings(control_gain=0.4).regularizer.gain == 0.4


def test_own_draws_are_those_of_the_seed_and_leave_the_common_state() -> None:
    embeddings = torch.randn(40, 12)
    found = []
    before = torch.get_rng_state()
    for context in (seeded, own_draws):
        with context(11):
            head = AuxiliaryHead(24, 40, 3, rank=4, width=8, embeddings=embeddings).train()
            law = head.all_tokens(torch.ones(5, 24)).exp()
            drawn = torch.multinomial(law[0].detach(), 1)
        found.append((torch.cat([p.flatten() for p in head.state_dict().values()]), law, drawn))
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    for matrix in (embeddings, embeddings.T.contiguous()):
        with seeded(3):
            left, singular, _ = torch.svd_lowrank(matrix, q=4)
        assert torch.equal(left * singular, leading_directions(matrix, 4, 3))


def test_own_dropout_is_of_the_seed_and_keeps_its_rate() -> None:
    values, found = torch.ones(200, 500), []
    before = torch.get_rng_state()
    for seed in (3, 3, 4):
        with own_draws(seed):
            found.append(torch.nn.functional.dropout(values, 0.3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    kept = found[0] > 0
    assert torch.allclose(found[0][kept], torch.tensor(1 / 0.7))
    assert abs(kept.double().mean() - 0.7) < 5 * (0.3 * 0.7 / values.numel()) ** 0.5


WORLD_RUN = Path(__file__).parents[2] / "benchmarks" / "world" / "run.py"


@pytest.mark.slow
def test_both_schedules_reach_the_level() -> None:
    """On the enumerable world, whose rates are exact: no sampling error but that of the controller's own samples."""
    spec = importlib.util.spec_from_file_location("world_run", WORLD_RUN)
    assert spec is not None
    assert spec.loader is not None
    world_run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(world_run)
    setting = world_run.Setting(0)
    smaller = {"anchor": "start", "anchor_samples": 1024, "auxiliary_steps": 60}

    def ends(**choice: Any) -> float:
        return world_run.train(setting, 0, 96, 16, 0.05, **smaller, **choice)["rates"][-1]

    plain, sequential = ends(method="plain"), ends()
    assert plain > 0.3
    assert sequential < 0.05  # the bound
    for staleness in (1, 3):
        assert abs(ends(schedule="parallel", staleness=staleness) - sequential) < 0.015


# ------------------------------------------------------------ resume
@pytest.mark.parametrize(
    ("anchor", "staleness", "steps"), [("tuned", 2, (1, 5, 6, 8, 10)), ("previous", 2, (2, 3, 7))]
)
def test_a_run_resumes_from_its_checkpoints_to_the_same_bits(
    noisy: World,
    whole: Callable[..., Path],
    tmp_path: Path,
    anchor: str,
    staleness: int,
    steps: tuple[int, ...],
) -> None:
    """Checkpoints before, at and after rounds, with results of lanes still out."""
    expected = whole(anchor, staleness)
    flags = {"anchor": anchor, "staleness": staleness} | LONGER
    pending = []
    for step in steps:
        output = tmp_path / f"from {step}"
        shutil.copytree(expected, output)
        for path in (output / "checkpoints").glob("checkpoint-*"):
            if int(path.name.split("-")[-1]) > step:
                shutil.rmtree(path)
        newest = output / "checkpoints" / f"checkpoint-{step}"
        pending.append(len(json.loads((newest / "pending.json").read_text())["rounds"]))
        (output / "constraint" / "run.json").unlink()
        (output / "model.safetensors").unlink()
        assert main(["train", *noisy.flags(output, **flags), "--resume"]) == 0
        assert_same_result(output, expected)
    assert max(pending) == (staleness if anchor == "previous" else 1)


def test_a_checkpoint_without_the_lanes_results_is_damaged(
    noisy: World, whole: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    shutil.copytree(whole("tuned", 1), output)
    (output / "constraint" / "run.json").unlink()
    (output / "checkpoints" / "checkpoint-10" / "pending.json").unlink()
    flags = noisy.flags(output, anchor="tuned", staleness=1, **LONGER)
    assert main(["train", *flags, "--resume"]) == 4
    assert "damaged: the lanes' results cannot be read" in capsys.readouterr().err
    shutil.rmtree(output / "checkpoints" / "checkpoint-10")
    assert main(["train", *flags, "--resume"]) == 0
    assert_same_result(output, whole("tuned", 1))


# ------------------------------------------------------------ lanes that fail
def fails_in(owner: Any, name: str, number: int, act: Callable[[], Any], patch: pytest.MonkeyPatch) -> None:
    original, calls = getattr(owner, name), [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            act()
        return original(*args, **kwargs)

    patch.setattr(owner, name, counted)


def crash() -> None:
    raise ValueError("a lane broke")


@pytest.mark.parametrize(
    ("owner", "name", "number", "lane"),
    [
        (rounds, "sample", 2, "sampling lane failed in round 2"),
        (fit_once, "fit_auxiliary", 1, "fitting lane failed in round 2"),
    ],
)  # fmt: skip
def test_an_error_in_a_lane_ends_the_run(
    noisy: World, whole: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    owner: Any, name: str, number: int, lane: str,
) -> None:  # fmt: skip
    output = tmp_path / "run"
    flags = noisy.flags(output, anchor="tuned", staleness=1, **LONGER)
    with pytest.MonkeyPatch.context() as patch:
        fails_in(owner, name, number, crash, patch)
        assert main(["train", *flags]) == 4
    error = capsys.readouterr().err
    assert f"{lane}: ValueError: a lane broke" in error
    assert "Traceback" not in error
    assert main(["train", *flags, "--resume"]) == 0
    assert_same_result(output, whole("tuned", 1))


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    """What a hanging lane waits for; set at the end, so that no thread outlives its test."""
    over = threading.Event()
    yield over
    over.set()


def test_a_lane_that_hangs_is_noticed(
    noisy: World, whole: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, hung: threading.Event,
) -> None:  # fmt: skip
    output = tmp_path / "run"
    flags = noisy.flags(output, anchor="tuned", staleness=1, **LONGER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("constraintlang_runtime.schedule.lanes.CLOSING_SECONDS", 0.1)
        fails_in(rounds, "sample", 2, lambda: hung.wait(60), patch)
        assert main(["train", *flags, "--lane_timeout", "1"]) == 4
    assert "the sampling lane hangs: round 2 said nothing for" in capsys.readouterr().err
    hung.set()
    assert main(["train", *flags, "--resume"]) == 0
    assert_same_result(output, whole("tuned", 1))


def test_a_closed_lane_drops_its_jobs() -> None:
    lane, begun, going_on = Lane("test", 5.0), threading.Event(), threading.Event()

    def long() -> None:
        begun.set()
        while not going_on.wait(0.01):
            lane.beat()

    lane.submit("long", long)
    later = lane.submit("later", lambda: 1)
    assert begun.wait(5)
    lane.close()
    assert isinstance(lane.error, Dropped)
    assert not later.is_given()
    with pytest.raises(TrainingError, match="make another ConstraintTrainer"):
        lane.submit("after the end", lambda: 1)


def test_a_result_of_a_lane_that_failed_is_not_waited_for() -> None:
    lane = Lane("test", 5.0)
    promise = lane.submit("a job", crash)
    with pytest.raises(TrainingError, match="the test lane failed in a job: ValueError: a lane broke"):
        wait_for(promise, [lane])
    lane.close()


# ------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--schedule", "parallel", "--staleness", "4"], "staleness: got 4, expected 1, 2 or 3"),
        (["--staleness", "2"], "the sequential schedule has neither"),
        (["--schedule", "parallel", "--lane_ranks", "3"], "lane_ranks: got 3"),
        (["--schedule", "parallel", "--lane_timeout", "0"], "lane_timeout: got 0"),
        (["--schedule", "parallel", "--staleness", "3", "--rounds", "4"], "the policy would never act"),
    ],
)
def test_settings_that_are_refused(
    noisy: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    assert main(["train", *noisy.flags(tmp_path / "run"), *flags]) == 2
    assert says in capsys.readouterr().err


def test_a_guide_has_no_schedule() -> None:
    with pytest.raises(ConfigError, match="nothing is trained"):
        fit_guide(None, None, None, [], schedule="parallel")  # type: ignore[arg-type]


# ------------------------------------------------------------ ranks
PARALLEL: dict[str, Any] = {**LONGER, "use_cpu": True, "anchor": "tuned", "staleness": 1}


@pytest.mark.slow
def test_a_lane_rank_gives_the_bits_of_threads(
    noisy: World, whole: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "two"
    codes, both = two_ranks(tmp_path, ["train", *noisy.flags(output, **PARALLEL)])
    assert codes == [0, 0], [rank.err.read_text()[-2000:] for rank in both]
    assert [rank.out.read_text().count("trained 10 steps") for rank in both] == [1, 0]  # one of them speaks
    assert_same_result(output, whole("tuned", 1))


STRUCK = [
    ("sampling", 3, "kill", [4, -signal.SIGKILL], "rank 1) is gone"),
    ("fitting", 1, "kill", [4, -signal.SIGKILL], "rank 1) is gone"),
    ("training", 10, "kill", [-signal.SIGKILL, 4], "gone"),
    ("sampling", 3, "hang", [4, 0], "the sampling lane hangs: round 4"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "number", "what", "codes", "says"), STRUCK, ids=lambda value: str(value)[:8]
)
def test_a_rank_that_is_killed_or_hangs_ends_the_run(
    noisy: World, whole: Callable[..., Path], tmp_path: Path, where: str, number: int, what: str, codes: list[int],
    says: str,
) -> None:  # fmt: skip
    """Without a launcher that would end the other process; the run goes on from its last checkpoint, with threads."""
    output, mark = tmp_path / "run", tmp_path / "struck"
    flags = noisy.flags(output, **PARALLEL, lane_timeout=6)
    found, both = two_ranks(tmp_path, ["train", *flags], str(mark), where, number, what)
    logs = [rank.err.read_text() for rank in both]
    assert mark.exists(), logs
    assert found == codes, logs
    assert says in logs[codes.index(4)], logs
    assert "Traceback" not in logs[codes.index(4)]
    assert main(["train", *flags, "--resume"]) == 0
    assert_same_result(output, whole("tuned", 1))


# ------------------------------------------------------------ precision
def test_a_lane_fits_in_float32_and_passes_in_the_precision_of_training(world: World, tmp_path: Path) -> None:
    """Under --bf16 a fit learns what it learns in the sequential schedule; autocast is inside the model alone."""
    trainer = make(world, tmp_path, bf16=True, use_cpu=True)
    seen = []

    class Probe(Workbench):
        def probe(self) -> None:
            weights = {name: p.detach() for name, p in self._model.named_parameters()}
            with self._at_work(weights, lambda: None):
                ids = torch.ones(1, 3, dtype=torch.long)
                layer = self._model.model.layers[0].mlp
                handle = layer.register_forward_hook(lambda *args: seen.append(args[2].dtype))
                logits = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
                handle.remove()
                seen.extend([logits.dtype, torch.is_autocast_enabled("cpu")])

    model = load_model(str(world.model))
    before = model.forward
    Probe(trainer.engine, model).probe()
    assert seen == [torch.bfloat16, torch.float32, False]
    assert model.forward == before


def test_a_fit_in_a_lane_is_that_of_the_sequential_schedule(noisy: World, tmp_path: Path) -> None:
    def explained(name: str, **flags: Any) -> float:
        output = tmp_path / name
        own = {"anchor": "start", "bf16": True, "use_cpu": True, "anchor_samples": 64, "auxiliary_steps": 60}
        words = noisy.flags(output, **own, **flags)
        assert main(["train", *words]) == 0
        first = json.loads((output / "constraint" / "run.json").read_text())["history"]
        return next(record["chat/auxiliary/heldout_loss"] for record in first if "round" in record)

    assert explained("lanes", schedule="parallel") == pytest.approx(explained("alone"), rel=1e-3)
