"""Every fault of ``tests/faults_table.py`` is made to happen through the command, and has the outcome written there."""

from __future__ import annotations

import ast
import errno
import json
import os
import random
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from faults_table import AFTER, COMMAND, FAULTS, PAGE, Fault, page
from rank_process import run_command
from safetensors.torch import load_file, save_file
from tiny_models import World, tiny_llama, word_tokenizer, write_jsonl
from warm_process import started

from constraintc.main import main
from constraintlang_runtime import anchor_weights, checkpoint, evaluation, rounds, train_run
from constraintlang_runtime.demo import language
from constraintlang_runtime.scorers import pool
from constraintlang_runtime.scorers.lexicon import LexiconScorer
from constraintlang_runtime.trainer import ConstraintTrainer

# Checkpoints at 2, 4 and 6, of which two are kept; the regularizer acts from step 4.
LONGER = {"max_steps": 8, "rounds": 4, "save_steps": 2}
STOPPED_AT = 7
RESULT = ("model.safetensors", "constraint/constraint.safetensors", "constraint/constraint.json")
TIME_OUT = 60


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the run may catch it."""


@dataclass
class Case:
    """One fault: a world of its own, patches that ``repair`` takes back, and a run that was killed at step 7."""

    world: World
    folder: Path
    patch: pytest.MonkeyPatch
    stopped: Path
    repairs: list[Callable[[], None]] = field(default_factory=list)
    in_round: Path | None = None  # the mark of a process of its own, which hangs there until it is ended

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def newest(self) -> Path:
        """The newest checkpoint of the stopped run."""
        return self.output / "checkpoints" / "checkpoint-6"

    def train(self, **changes: Any) -> list[str]:
        """A run from the beginning."""
        return ["train", *self.world.flags(self.output, **LONGER | changes)]

    def resume(self, **changes: Any) -> list[str]:
        """The stopped run, to be resumed."""
        if not self.output.exists():
            shutil.copytree(self.stopped, self.output)
        return [*self.train(**changes), "--resume"]

    def eval(self, **changes: Any) -> list[str]:
        """An evaluation into a folder that holds an older one."""
        old = self.folder / "eval"
        old.mkdir()
        for name in ("verdict.json", "samples.jsonl"):
            (old / name).write_text("older\n")
        flags = {
            "model": self.world.model, "prompts": self.world.prompts, "output": old, "max_new_tokens": 10, **changes,
        }  # fmt: skip
        words = (str(word) for key, value in flags.items() for word in (f"--{key}", value))
        return ["eval", str(self.world.policy), "--overwrite", *words]

    def report(self) -> list[str]:
        """A page over an evaluation."""
        command = self.eval()
        assert main([*command, "--quiet"]) in (0, 1)
        page = self.folder / "page.html"
        page.write_text("older\n")
        return [
            "report", str(self.world.policy), "--system", f"model={self.folder / 'eval'}", "--output", str(page)
        ]  # fmt: skip

    def on_call(self, owner: Any, name: str, number: int, act: Callable[..., Any]) -> None:
        """Replace the ``number``-th call of a function by ``act(original, *arguments)``."""
        original, calls = getattr(owner, name), [0]

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            return act(original, *args, **kwargs) if calls[0] == number else original(*args, **kwargs)

        self.patch.setattr(owner, name, counted)

    def slow_scorer(self) -> None:
        """The word list stands for a scorer of any kind: called by itself, and remembered."""
        self.patch.setattr(pool, "is_quick", lambda scorer: False)

    def scorer(self, result: Callable[[int], Any], number: int = 2) -> None:
        """The scorer gives ``result(number of texts)`` in its ``number``-th call."""
        self.slow_scorer()
        self.on_call(
            LexiconScorer, "__call__", number, lambda original, self, **given: result(len(given["completions"]))
        )  # fmt: skip

    def full_disk(self, owner: Any, name: str, number: int = 1) -> None:
        """In one call of a function the system itself refuses to write files of more than 100 bytes."""

        def limited(original: Any, *args: Any, **kwargs: Any) -> Any:
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
            try:
                return original(*args, **kwargs)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

        self.on_call(owner, name, number, limited)

    def own_model(self, name: str = "model") -> Path:
        """A copy of the world's model that a fault may harm."""
        model = self.folder / name
        shutil.copytree(self.world.model, model)
        return model

    def change(self, path: Path, content: bytes | None) -> None:
        """Overwrite or (None) remove a file until the repair."""
        before = path.read_bytes()
        self.repairs.append(lambda: void(path.write_bytes(before)))
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    def repair(self) -> None:
        """Take the fault back."""
        self.patch.undo()
        for step in self.repairs:
            step()


def void(value: object) -> None:
    """Nothing, for a lambda."""


def no_space(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# ------------------------------------------------------------ scorers
def raised(error: BaseException) -> Callable[[int], Any]:
    def result(count: int) -> Any:
        raise error

    return result


def scorer_raises(case: Case) -> list[str]:
    case.scorer(raised(ConnectionError("down")))
    return case.resume()


def scorer_nan(case: Case) -> list[str]:
    case.scorer(lambda count: [0.1] * (count - 1) + [float("nan")])
    return case.resume()


def scorer_infinite(case: Case) -> list[str]:
    case.scorer(lambda count: [float("inf")] * count)
    return case.resume()


def scorer_short(case: Case) -> list[str]:
    case.scorer(lambda count: [0.1] * (count - 1))
    return case.resume()


def scorer_out_of_range(case: Case) -> list[str]:
    case.scorer(lambda count: [1.5] * count)
    return case.resume()


def scorer_none(case: Case) -> list[str]:
    case.scorer(lambda count: [0.1] * (count - 1) + [None])
    return case.resume()


def scorer_garbage(case: Case) -> list[str]:
    drawn = random.Random(7)

    def garbage(self: Any, *, completions: Any, **given: Any) -> Any:
        wrong = ["?", float("nan"), -3.0, [], {"score": 1}, b"\xff", float("-inf")]
        return [drawn.choice(wrong) if drawn.random() < 0.2 else 0.3 for _ in completions]

    case.slow_scorer()
    case.patch.setattr(LexiconScorer, "__call__", garbage)
    return case.resume()


def hang(case: Case, number: int) -> None:
    over = threading.Event()
    case.repairs.append(over.set)
    case.scorer(lambda count: void(over.wait(TIME_OUT)), number)


def scorer_hangs(case: Case) -> list[str]:
    hang(case, 2)
    return case.resume(scorer_timeout=0.3)


def scorer_hangs_in_eval(case: Case) -> list[str]:
    hang(case, 1)
    return case.eval(scorer_timeout=0.3)


def scorer_hangs_in_generate(case: Case) -> list[str]:
    hang(case, 1)
    return [
        "generate", "--model", str(case.world.model), "--policy", str(case.world.policy), "--prompts",
        str(case.world.prompts), "--reject", "--scorer_timeout", "0.3", "--max_new_tokens", "5",
    ]  # fmt: skip


def scorer_exits(case: Case) -> list[str]:
    case.scorer(lambda count: sys.exit(0))
    return case.resume()


def scorer_dies_in_eval(case: Case) -> list[str]:
    from constraintlang_runtime.scorers import pool

    case.patch.setattr(pool.ScoringPool.__init__, "__kwdefaults__",
                       pool.ScoringPool.__init__.__kwdefaults__ | {"batch_size": 16})  # fmt: skip
    case.scorer(raised(ConnectionError("down")), 2)
    return case.eval()


# ------------------------------------------------------------ disk
def disk_full_weights(case: Case) -> list[str]:
    case.full_disk(ConstraintTrainer, "save_model", 1)
    return case.resume()


def disk_full_optimizer(case: Case) -> list[str]:
    case.full_disk(ConstraintTrainer, "_save_optimizer_and_scheduler", 1)
    return case.resume()


def disk_full_state(case: Case) -> list[str]:
    case.full_disk(checkpoint, "save_file", 1)
    return case.resume()


def disk_full_anchor(case: Case) -> list[str]:
    case.full_disk(anchor_weights, "save_file", 1)
    return case.resume()


def disk_full_publish(case: Case) -> list[str]:
    case.on_call(checkpoint, "publish", 1, no_space)
    return case.resume()


def disk_full_final(case: Case) -> list[str]:
    case.full_disk(ConstraintTrainer, "save_model", 2)
    return case.resume()


def disk_full_record(case: Case) -> list[str]:
    original = train_run.write_atomic

    def full(path: Path, text: str) -> None:
        if path.name == "run.json":
            no_space()
        original(path, text)

    case.patch.setattr(train_run, "write_atomic", full)
    return case.resume()


def disk_full_eval(case: Case) -> list[str]:
    case.on_call(evaluation, "write_whole", 1, no_space)
    return case.eval()


def output_unwritable(case: Case) -> list[str]:
    return case.train(output="/proc/nowhere/out")


def report_unwritable(case: Case) -> list[str]:
    return [*case.report()[:-1], "/proc/nowhere/page.html"]


# ------------------------------------------------------------ checkpoints
def truncated_state(case: Case) -> list[str]:
    command = case.resume()
    halve(case.newest / "constraint.safetensors")
    return command


def truncated_anchor(case: Case) -> list[str]:
    command = case.resume()
    halve(case.newest / "anchor.safetensors")
    return command


def missing_anchor(case: Case) -> list[str]:
    command = case.resume()
    (case.newest / "anchor.safetensors").unlink()
    return command


def truncated_weights(case: Case) -> list[str]:
    command = case.resume()
    halve(case.newest / "model.safetensors")
    return command


def missing_weights(case: Case) -> list[str]:
    command = case.resume()
    (case.newest / "model.safetensors").unlink()
    return command


def fewer_weights(case: Case) -> list[str]:
    command = case.resume()
    weights = load_file(case.newest / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, case.newest / "model.safetensors", {"format": "pt"})
    return command


def missing_trainer_state(case: Case) -> list[str]:
    command = case.resume()
    (case.newest / "trainer_state.json").unlink()
    return command


def corrupt_trainer_state(case: Case) -> list[str]:
    command = case.resume()
    halve(case.newest / "trainer_state.json")
    return command


def corrupt_state(case: Case) -> list[str]:
    command = case.resume()
    halve(case.newest / "constraint.json")
    return command


def foreign_state(case: Case) -> list[str]:
    command = case.resume()
    (case.newest / "constraint.json").write_text(
        f'{{"version": {checkpoint.VERSION}, "groups": [{{"title": "chat"}}]}}'
    )
    return command


def older_state(case: Case) -> list[str]:
    command = case.resume()
    path = case.newest / "constraint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": checkpoint.VERSION - 1}))
    return command


def missing_optimizer(case: Case) -> list[str]:
    command = case.resume()
    (case.newest / "optimizer.pt").unlink()
    return command


def truncated_optimizer(case: Case) -> list[str]:
    command = case.resume()
    halve(case.newest / "optimizer.pt")
    return command


class Hostile:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def hostile_optimizer(case: Case) -> list[str]:
    command, mark = case.resume(), case.folder / "code ran"
    torch.save({"state": Hostile(mark)}, case.newest / "optimizer.pt")

    def did_not_run() -> None:
        assert not mark.exists()

    case.repairs.append(did_not_run)
    return command


def missing_random_state(case: Case) -> list[str]:
    command = case.resume()
    (case.newest / "rng_state.pth").unlink()
    return command


def other_policy(case: Case) -> list[str]:
    command = case.resume()
    case.change(case.world.policy, case.world.policy.read_bytes().replace(b"< 0.1", b"< 0.2"))
    return command


def other_rows(case: Case) -> list[str]:
    command = case.resume()
    lines = case.world.data.read_bytes().split(b"\n")
    case.change(case.world.data, b"\n".join([*lines[1:-1], lines[0], b""]))
    return command


def other_start_model(case: Case) -> list[str]:
    command = case.resume()
    weights = case.world.model / "model.safetensors"
    changed = {name: weight * 1.001 for name, weight in load_file(weights).items()}
    before = weights.read_bytes()
    case.change(weights, before)
    save_file(changed, weights, {"format": "pt"})
    assert weights.stat().st_size == len(before)
    return command


def other_model_size(case: Case) -> list[str]:
    command = case.resume()
    tiny_llama(20).save_pretrained(case.newest)
    return command


def word_list_changed(case: Case) -> list[str]:
    command = case.resume()
    words = case.world.root / "words.tsv"
    case.change(words, words.read_bytes() + b"turnip\t0.9\n")
    return command


def word_list_gone(case: Case) -> list[str]:
    command = case.resume()
    case.change(case.world.root / "words.tsv", None)
    return command


# ------------------------------------------------------------ stops
def sigterm(case: Case) -> list[str]:
    case.in_round = case.folder / "in the round"
    return case.resume()


def interrupt(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


def control_c(case: Case) -> list[str]:
    case.on_call(rounds, "sample", 1, interrupt)
    return case.resume()


def control_c_in_checkpoint(case: Case) -> list[str]:
    case.on_call(checkpoint, "save_file", 1, interrupt)
    return case.resume()


def at_step(case: Case, step: int, act: Callable[[ConstraintTrainer], Any]) -> None:
    """Do something in the loss of a step."""
    original = ConstraintTrainer.compute_loss

    def loss(self: ConstraintTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step:
            act(self)
        return original(self, *args, **kwargs)

    case.patch.setattr(ConstraintTrainer, "compute_loss", loss)


def device_memory(case: Case) -> list[str]:
    at_step(case, 7, lambda trainer: raised(torch.OutOfMemoryError("tried to allocate 2 GiB"))(0))
    return case.resume()


# ------------------------------------------------------------ numbers
def nan_batch(case: Case) -> list[str]:
    original, calls = ConstraintTrainer._step_loss, [0]

    def nan(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        found = original(*args, **options)
        return replace(found, total=found.total * float("nan")) if calls[0] == 2 else found

    case.patch.setattr(ConstraintTrainer, "_step_loss", nan)
    return case.resume()


def poisoned(model: Path) -> Path:
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    return model


def nan_weights(case: Case) -> list[str]:
    return case.train(model=poisoned(case.own_model("poisoned")))


def nan_weights_in_eval(case: Case) -> list[str]:
    return case.eval(model=poisoned(case.own_model("poisoned")))


def nan_checkpoint(case: Case) -> list[str]:
    def poison(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            self.model.model.norm.weight[3] = float("nan")
        return original(self, *args, **kwargs)

    case.on_call(ConstraintTrainer, "_save_checkpoint", 1, poison)
    return case.resume()


def diverges(case: Case) -> list[str]:
    return case.train(learning_rate="1e30", save_steps=1)


# ------------------------------------------------------------ models
def no_end_token(case: Case) -> list[str]:
    model = case.own_model()
    (model / "tokenizer.json").unlink()
    word_tokenizer(language.vocabulary(), eos_token=None).save_pretrained(model)
    return case.train(model=model)


def no_weights(case: Case) -> list[str]:
    model = case.own_model()
    (model / "model.safetensors").unlink()
    return case.train(model=model)


def pickled_weights(case: Case) -> list[str]:
    model = case.own_model()
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    return case.train(model=model)


def torn_weights(case: Case) -> list[str]:
    model = case.own_model("torn")
    halve(model / "model.safetensors")
    return case.train(model=model)


# ------------------------------------------------------------ rows and prompts
def no_prompts(case: Case) -> list[str]:
    (case.folder / "none.jsonl").touch()
    return case.train(prompts=case.folder / "none.jsonl")


def no_prompt_in_domain(case: Case) -> list[str]:
    prompts = write_jsonl(case.folder / "kitchen.jsonl", [{"prompt": "to cook a pie :", "domain": "kitchen"}])
    return case.train(prompts=prompts)


def long_prompt(case: Case) -> list[str]:
    prompts = write_jsonl(case.folder / "long.jsonl", [{"prompt": "pie " * 70, "domain": "chat"}])
    return case.train(prompts=prompts)


def rows_with_mark(case: Case) -> list[str]:
    case.change(case.world.data, b"\xef\xbb\xbf" + case.world.data.read_bytes())
    return case.train()


def empty_completions(case: Case) -> list[str]:
    from constraintlang_runtime import sampling

    case.patch.setattr(sampling, "_trim", lambda ids, eos, limit: (1,))
    return case.train()


# ------------------------------------------------------------ reports
def truncated_samples(case: Case) -> list[str]:
    command = case.report()
    halve(case.folder / "eval" / "samples.jsonl")
    return command


def truncated_verdict(case: Case) -> list[str]:
    command = case.report()
    halve(case.folder / "eval" / "verdict.json")
    return command


def foreign_verdict(case: Case) -> list[str]:
    command = case.report()
    (case.folder / "eval" / "verdict.json").write_text('{"result": "fine"}')
    return command


def samples_gone(case: Case) -> list[str]:
    command = case.report()
    (case.folder / "eval" / "samples.jsonl").unlink()
    return command


# ------------------------------------------------------------ what must be true afterwards
def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same_result(found: Path, expected: Path) -> None:
    for name in RESULT:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    assert not (found / "checkpoints" / checkpoint.STAGING).exists()


def goes_on(case: Case, whole: Path, fault: Fault, survivor: str) -> None:
    """A checkpoint is as it was, byte for byte; for some faults the run is really resumed from what they left."""
    kept = case.output / "checkpoints" / survivor
    assert files(kept) == files(case.stopped / "checkpoints" / survivor)
    if fault.name in RESUMED:
        assert main(case.resume()) == 0
        same_result(case.output, whole)


def resumes(case: Case, whole: Path, fault: Fault) -> None:
    goes_on(case, whole, fault, "checkpoint-6")


def older(case: Case, whole: Path, fault: Fault) -> None:
    shutil.rmtree(case.newest)
    assert checkpoint.newest_checkpoint(case.output / "checkpoints") == case.newest.with_name("checkpoint-4")
    goes_on(case, whole, fault, "checkpoint-4")


def refused(case: Case, whole: Path, fault: Fault) -> None:
    assert not case.output.exists()


def finite(case: Case, whole: Path, fault: Fault) -> None:
    for path in case.output.rglob("*.safetensors"):
        assert all(bool(torch.isfinite(weight).all()) for weight in load_file(path).values()), path


def works(case: Case, whole: Path, fault: Fault) -> None:
    assert (case.output / "constraint" / "run.json").exists()


OUTCOMES = {"resumes": resumes, "older": older, "refused": refused, "finite": finite, "works": works}
# A resumed run starts from bytes that the other faults leave alike; one of each family is enough to show it.
RESUMED = frozenset({
    "scorer_hangs", "disk_full_weights", "disk_full_publish", "disk_full_final", "disk_full_record",
    "truncated_weights", "word_list_gone", "sigterm", "control_c_in_checkpoint", "nan_checkpoint",
})  # fmt: skip
NEW = [fault for fault in FAULTS if not fault.test]


# ------------------------------------------------------------ the tests
@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run without a fault."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert main(["train", *world.flags(output, **LONGER)]) == 0
    return output


@pytest.fixture(scope="module")
def places(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world that a fault may harm and the repair makes whole again: a run remembers its paths."""
    root = tmp_path_factory.mktemp("faults")
    shutil.copytree(world.root, root, dirs_exist_ok=True)
    return World(root, root / "model", root / "kind.policy", root / "train.jsonl", root / "prompts.jsonl")


@pytest.fixture(scope="module")
def stopped(places: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run killed at step 7, with the checkpoints 4 and 6."""
    output = tmp_path_factory.mktemp("stopped") / "out"
    original = ConstraintTrainer.before_step

    def dying(self: ConstraintTrainer, step: int) -> None:
        if step == STOPPED_AT:
            raise Killed
        original(self, step)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ConstraintTrainer, "before_step", dying)
        main(["train", *places.flags(output, **LONGER)])
    assert sorted(p.name for p in (output / "checkpoints").glob("checkpoint-*")) == [
        "checkpoint-4",
        "checkpoint-6",
    ]
    return output


@pytest.fixture
def case(places: World, stopped: Path, tmp_path: Path) -> Iterator[Case]:
    with pytest.MonkeyPatch.context() as patch:
        yield Case(places, tmp_path, patch, stopped)


def outcome(case: Case, command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and standard error of a command, in this process or, where the fault is a signal, in its own."""
    if case.in_round is None:
        capsys.readouterr()
        begun = time.monotonic()
        code = main(command)
        assert time.monotonic() - begun < TIME_OUT / 2
        return code, capsys.readouterr().err
    process = started(case.folder, "stopped", run_command, command, str(case.in_round), "sampling")
    process.send_signal_at(case.in_round, signal.SIGTERM)
    code_of_signal = process.ended(TIME_OUT)
    assert code_of_signal is not None
    return code_of_signal, process.err.read_text()


@pytest.mark.parametrize("fault", NEW, ids=[fault.name for fault in NEW])
def test_a_fault_has_its_outcome(
    case: Case, whole: Path, fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    command = globals()[fault.name](case)
    before = files(case.folder)
    try:
        code, err = outcome(case, command, capsys)
        after = files(case.folder)
    finally:
        case.repair()
    assert code == fault.code, err
    said = err if code in (0, 130) else err[err.find("error:") :]
    for part in fault.says:
        assert part in said
    assert "Traceback" not in err
    assert "internal error" not in err
    assert len([line for line in err.splitlines() if line.startswith("error")]) <= 1
    if fault.after == "kept":
        assert after == before
    else:
        OUTCOMES[fault.after](case, whole, fault)


def test_a_run_without_a_fault_resumes(case: Case, whole: Path) -> None:
    """So that the table's outcomes are about the faults."""
    assert main(case.resume()) == 0
    same_result(case.output, whole)
    assert json.loads((case.output / "constraint" / "run.json").read_text())["resumed"] is True


# ------------------------------------------------------------ the table itself
def test_the_page_shows_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"run {COMMAND}"


def test_every_record_has_its_fault() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 40
    assert set(names) >= RESUMED
    assert {fault.after for fault in FAULTS} == set(AFTER)
    for fault in FAULTS:
        if not fault.test:
            assert callable(globals()[fault.name])
            continue
        file, name = fault.test.split("::")
        tree = ast.parse((PAGE.parents[1] / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, fault.test
