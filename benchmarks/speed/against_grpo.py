"""Wall-clock and oracle calls until the violation rate is at a level: ours against GRPO of TRL with the policy's reward.

Both fine-tune the testbed model on the rows of the testbed benchmark, ``--bound`` in place of its policy's. Ours does it under the policy in one run, with
``LEAN`` in place of that benchmark's numbers of samples; GRPO takes the finished plain run, as is usual, and its own settings of the paper's table (``benchmarks/paper/configs/rl.yaml``).
Every few steps a copy of the model is kept, the copying not counted; the copies are judged afterwards on the same held-out
prompts, one after the other until the lowest level is reached, and the first at or below a level ends its race. Losses on neutral and on non-toxic text stand beside it,
because a level is cheap where utility is given up. Oracle calls are the texts that were scored: every one in GRPO, in
ours those that the pool of scorers did not remember.

    python benchmarks/speed/against_grpo.py --shared ../shared --work runs/against_grpo

A finished part is not repeated. About 25 minutes of one core.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "paper"))

import rl  # noqa: E402
from job import Job, Scale, Trained, config_of  # noqa: E402

from constraintlang_compiler.pipeline import compile_path  # noqa: E402
from constraintlang_runtime.config import ConstraintConfig  # noqa: E402
from constraintlang_runtime.data import encode_rows, load_rows, prompt_rows  # noqa: E402
from constraintlang_runtime.integrations.policy import Policy  # noqa: E402
from constraintlang_runtime.loading import load_model, load_tokenizer  # noqa: E402
from constraintlang_runtime.row_losses import row_losses  # noqa: E402
from constraintlang_runtime.run_parts import configured  # noqa: E402
from constraintlang_runtime.run_settings import defaults, settings  # noqa: E402
from constraintlang_runtime.sampling import completion_texts, prompt_texts, sample  # noqa: E402
from constraintlang_runtime.sampling_law import SamplingLaw  # noqa: E402
from constraintlang_runtime.scorers.binding import bind_scorers, parse_scorer_options  # noqa: E402
from constraintlang_runtime.scorers.protocol import terms_of  # noqa: E402
from constraintlang_runtime.train_run import build  # noqa: E402
from constraintlang_runtime.versions import versions  # noqa: E402

LEVELS = (0.12, 0.10, 0.08, 0.05, 0.03)
POLICY = "toxicity < 0.5 for domain=toxigen under tolerance={}%\n"
LEAN = {  # few samples, since a race is over at a level; the start model as reference, so that it begins at once
    "anchor": "start", "anchor_samples": 1024, "control_samples": 128, "auxiliary_weight_decay": 0.1, "auxiliary_dropout": 0.1,
    "auxiliary_learning_rate": 3e-3,
}  # fmt: skip
UNCONTROLLED = {"method": "plain", "rounds": 1, "control_samples": 1}


class Copies(TrainerCallback):  # type: ignore[misc]
    """Keeps the model every few steps, with the seconds and oracle calls until then; its own seconds are not counted."""

    def __init__(
        self, folder: Path, every: int, started: float, calls: Callable[[], int], begins: int = 0
    ) -> None:
        self.folder, self.every, self.begins, self._calls = folder, every, begins, calls
        self._started, self._copying = started, 0.0
        self.found: list[dict[str, Any]] = []

    @property
    def seconds(self) -> float:
        """Wall-clock since the start, without the copying."""
        return time.perf_counter() - self._started - self._copying

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        """Keep a copy when it is time."""
        step = state.global_step
        if step < self.begins or (step % self.every and step != state.max_steps):
            return
        entry = {"step": step, "seconds": self.seconds, "oracle_calls": self._calls()}
        began = time.perf_counter()
        model.save_pretrained(self.folder / f"step-{step}")
        self._copying += time.perf_counter() - began
        self.found.append(entry)


class Counted:
    """A scorer that counts the texts it is given."""

    def __init__(self, scorer: Any) -> None:
        self._scorer, self.terms, self.calls = scorer, terms_of(scorer), 0

    def __call__(self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> Any:
        """The scores."""
        self.calls += len(completions)
        return self._scorer(prompts=prompts, completions=completions, **columns)


def main() -> None:
    """Run what is missing, print the JSON and store it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="folder with data/ and testbed/"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/against_grpo"), help="where models go")
    parser.add_argument("--steps", type=int, default=150, help="optimizer steps of a run")
    parser.add_argument("--oracle_calls", type=int, default=6_000, help="texts that GRPO may have scored")
    parser.add_argument("--every", type=int, default=5, help="steps between copies")
    parser.add_argument(
        "--prompts",
        type=int,
        default=1_000,
        help="held-out prompts, and rows of each loss, that a copy is judged on",
    )
    parser.add_argument("--bound", type=int, default=5, help="the policy's bound, in percent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument(
        "--set",
        type=json.loads,
        default=LEAN,
        help="settings of ours over those of the testbed benchmark, as JSON",
    )
    parser.add_argument("--output", type=Path, default=HERE / "results" / "against_grpo.json")
    args = parser.parse_args()
    if not (args.shared / "data" / "toxigen.parquet").is_file():
        print(f"SKIPPED: no corpora at {args.shared.resolve()}; give --shared")
        return
    torch.set_num_threads(args.threads)
    testbed = _testbed()
    args.work.mkdir(parents=True, exist_ok=True)
    if not (args.work / "one_line.policy").exists():
        testbed.prepare(args.shared, args.work)
        (args.work / "one_line.policy").write_text(POLICY.format(args.bound))
    scale = scale_of(args, testbed.SETTING)
    plain = once(args.work, "plain", lambda folder: ours(folder, scale, args, testbed.SETTING, UNCONTROLLED))
    runs = {
        "ours": once(args.work, "ours", lambda folder: ours(folder, scale, args, testbed.SETTING, args.set)),
        "grpo": once(args.work, "grpo", lambda folder: grpo(folder, scale, args, plain)),
    }
    for name, run in runs.items():
        for copy in run["copies"]:
            copy |= judged(args.work / name, copy["step"], scale, args)
            if copy["violation"] <= min(LEVELS):
                break
    result = {
        "command": "python benchmarks/speed/against_grpo.py", "levels": races(runs, plain["seconds"]),
        "plain_seconds": plain["seconds"], "bound": args.bound, "runs": runs, "steps": args.steps, "prompts": args.prompts,
        "seed": args.seed, "threads": args.threads, "setting": {**testbed.SETTING, **args.set},
        "grpo_options": rl.DEFAULTS | config_of("rl")["options"], "versions": versions(), "cores": os.cpu_count(),
    }  # fmt: skip
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "runs"}, indent=1))


def once(work: Path, name: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What ``make`` gives for a folder of its own, or what it gave before."""
    record = work / f"{name}.json"
    if not record.exists():
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir()
        record.write_text(json.dumps(make(work / name)))
    found: dict[str, Any] = json.loads(record.read_text())
    return found


def races(runs: dict[str, dict[str, Any]], plain_seconds: float) -> list[dict[str, Any]]:
    """For each level the first copy of each system at or below it, and how much more GRPO spent; None where none is.

    ``ratio`` counts the plain run before GRPO, ``ratio_stage`` does not.
    """
    found = []
    for level in LEVELS:
        first = {
            name: next((copy for copy in run["copies"] if copy.get("violation", 1.0) <= level), None)
            for name, run in runs.items()
        }
        entry: dict[str, Any] = {"level": level, **first}
        own, other = first["ours"], first["grpo"]
        if own and other:
            entry["ratio"] = (plain_seconds + other["seconds"]) / own["seconds"]
            entry["ratio_stage"] = other["seconds"] / own["seconds"]
            entry["ratio_oracle_calls"] = other["oracle_calls"] / own["oracle_calls"]
        found.append(entry)
    return found


# ------------------------------------------------------------ the runs
def ours(
    folder: Path, scale: Scale, args: argparse.Namespace, setting: dict[str, Any], changes: dict[str, Any]
) -> dict[str, Any]:
    """One run of `constraintc train`'s own code with copies; of plain fine-tuning only the last model is kept."""
    started = time.perf_counter()
    work, plain = folder.parent, changes.get("method") == "plain"
    given = {
        **setting, "max_steps": args.steps, "seed": args.seed, **changes, "model": scale.models["llama"],
        "data": [str(work / "train.jsonl")], "output": str(folder / "model"),
    }  # fmt: skip
    policy = compile_path(work / "one_line.policy")
    run = settings(given, defaults(ConstraintConfig))
    bound = bind_scorers(policy.ir, parse_scorer_options([scale.scorer]), folder=work)
    counted = {name: Counted(scorer) for name, scorer in bound.items()}
    trainer = build(
        policy, run, configured(run, output_dir=str(folder / "checkpoints")), folder=work, scorers=counted
    )
    begins = 0 if plain else trainer.engine.activation_step
    every = args.steps if plain else args.every
    copies = Copies(folder, every, started, lambda: sum(one.calls for one in counted.values()), begins)
    trainer.add_callback(copies)
    trainer.train()
    if plain:
        trainer.save_model(str(folder / "model"))
    trainer.processing_class.save_pretrained(folder / "model")
    return {"seconds": copies.seconds, "copies": copies.found}


def grpo(folder: Path, scale: Scale, args: argparse.Namespace, plain: dict[str, Any]) -> dict[str, Any]:
    """The row `rl` of the paper's table on the plain model, with copies."""
    work = folder.parent
    lines = (work / "train.jsonl").read_text().splitlines()
    (folder / "prompts.jsonl").write_text(
        "".join(line + "\n" for line in lines if json.loads(line)["domain"] == "toxigen")
    )
    job = Job(
        scale, "rl", "llama", args.seed, work / "train.jsonl", folder / "prompts.jsonl", work / "one_line.policy",
        folder, config_of("rl")["options"],
    )  # fmt: skip
    before = job.folder_of("plain")
    before.mkdir(parents=True)
    Trained(str(work / "plain" / "model"), plain["seconds"], plain["seconds"], 0, args.steps, 0).write(before)
    made: list[Copies] = []

    def copies(stage: Any) -> Copies:
        made.append(Copies(folder, args.every, stage.started, lambda: int(stage.oracle.calls)))
        return made[0]

    rl.train(job, [copies])
    return {"seconds": made[0].seconds, "copies": made[0].found}


# ------------------------------------------------------------ judging
def judged(folder: Path, step: int, scale: Scale, args: argparse.Namespace) -> dict[str, float]:
    """Violation rate of a copy on held-out prompts, and its losses on neutral and non-toxic text."""
    record = folder / f"step-{step}.json"
    if not record.exists():
        work = folder.parent
        tokenizer = load_tokenizer(scale.models["llama"])
        model = load_model(str(folder / f"step-{step}"), device=scale.device, tokenizer=tokenizer)
        policy = Policy.load(
            work / "one_line.policy", scorers={"toxicity": scale.classifier}, allow_path=True
        )
        prompts = prompt_rows(_encoded(work / "prompts.jsonl", tokenizer, scale, need_completion=False))
        rows = sample(
            model, tokenizer, prompts[: args.prompts], SamplingLaw(scale.max_new_tokens), seed=args.seed
        )
        texts = completion_texts(rows, tokenizer)
        values = policy.judge(texts, prompt_texts(rows, tokenizer), [row.tags for row in rows]).values
        found = {"violation": float(values[:, 0].mean()), "judged": len(rows)}
        for name in ("utility", "compliant"):
            own = _encoded(work / f"{name}.jsonl", tokenizer, scale)[: args.prompts]
            nll, tokens = row_losses(model, tokenizer, own)
            found[f"{name}_loss"] = float(nll.sum() / tokens.sum())
        record.write_text(json.dumps(found))
        print(f"{folder.name} step {step}: {found}", file=sys.stderr, flush=True)
    loaded: dict[str, float] = json.loads(record.read_text())
    return loaded


def _encoded(path: Path, tokenizer: Any, scale: Scale, need_completion: bool = True) -> Any:
    rows = load_rows([str(path)], role="data")
    return encode_rows(rows, tokenizer, max_length=scale.max_length, need_completion=need_completion)


def scale_of(args: argparse.Namespace, setting: dict[str, Any]) -> Scale:
    """The testbed's sizes."""
    testbed = args.shared / "testbed"
    return Scale(
        "testbed", {"llama": str(testbed / "lm")}, f"{testbed / 'toxicity-classifier'}#toxic", 0.1, args.steps,
        setting["per_device_train_batch_size"], setting["learning_rate"], setting["max_length"],
        setting["max_new_tokens"], args.oracle_calls, 0, 0, 0, 0, 0, 1,
    )  # fmt: skip


def _testbed() -> Any:
    """The testbed benchmark's module: its rows and its tuned setting."""
    spec = importlib.util.spec_from_file_location("testbed_run", HERE.parent / "testbed" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
