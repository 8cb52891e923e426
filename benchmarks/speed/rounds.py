"""Whole fine-tuning runs by the public command, sampling, scoring and fits included, against transformers' own trainer."""

from __future__ import annotations

import gc
import json
import math
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from shapes import make_model, make_tokenizer
from timing import summary
from workload import COMMON, POLICY, SETTINGS, Workload, control_samples_of, setting_hash, testbed_rows

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = ("constraintlang", "compiler", "runtime", "policies")
PLAIN = "plain (transformers)"
LISTED = 'attribute toxicity: score in [0, 1] lower_is_better { backend = lexicon("words.tsv") }\n'
RANDOM_POLICY = f"edition 1\n{LISTED}toxicity < 0.1 for domain=toxigen under tolerance=10%\n"


def prepare(work: Workload, folder: Path, epoch_tokens: float) -> dict[str, Any]:
    """Model, rows and policy of a workload as files; what a run's configuration says of them, and tokens of a row.

    The testbed has its own rows; of random ones there are as many as an epoch of ``epoch_tokens`` has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shared = Path(work.shared)
    if work.shape == "testbed":
        rows = testbed_rows(shared, folder)
        (folder / "speed.policy").write_text(POLICY)
        model = str((shared / "testbed" / "lm").resolve())
        more = {"scorer": [f"toxicity={(shared / 'testbed' / 'toxicity-classifier').resolve()}#toxic"]}
        tokenizer = make_tokenizer(work.shape, work.vocab, shared)
        tokens = sum(len(tokenizer(row["text"])["input_ids"]) + 2 for row in rows) / len(rows)
        return {"model": model, "data": [str(folder / "train.jsonl")], **more, "tokens": tokens}
    from workload import random_rows

    model_folder = folder / "model"
    if not (model_folder / "config.json").exists():
        import torch

        made = make_model(
            work.shape,
            work.vocab,
            work.length,
            device=torch.device(work.device),
            half=work.half,
            shared=shared,
        )
        part = model_folder.with_suffix(".part")  # a call that is cut off leaves no model
        made.save_pretrained(part)
        make_tokenizer(work.shape, work.vocab, shared).save_pretrained(part)
        shutil.rmtree(model_folder, ignore_errors=True)
        part.rename(model_folder)
        del made
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    rows = random_rows(work, max(64, math.ceil(epoch_tokens / work.length)))
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = random.Random(0).sample(range(3, work.vocab), (work.vocab - 3) // 2)
    # half of the words are listed; a sample violates with so many of them as about a quarter of the samples have
    weight = 0.1 / round(work.new_tokens / 2 + 0.35 * work.new_tokens**0.5) + 1e-9
    (folder / "words.tsv").write_text("".join(f"w{word}\t{weight:.9f}\n" for word in sorted(words)))
    (folder / "speed.policy").write_text(RANDOM_POLICY)
    return {"model": str(model_folder), "data": [str(folder / "train.jsonl")], "tokens": float(work.length)}


def settings_of(work: Workload, name: str, steps: int, scale: float, epochs: int) -> dict[str, Any]:
    """The settings of a run: the workload's, those of a named setting, all counts of samples and fits by ``scale``.

    Each epoch has the workload's number of rounds.
    """
    from constraintlang_runtime.config import ConstraintConfig

    standard = {
        field: ConstraintConfig.__dataclass_fields__[field].default
        for field in ("anchor_samples", "auxiliary_steps")
    }
    one = {**COMMON, **standard, **control_samples_of(work.device), **SETTINGS[name]}
    one["rounds"] *= epochs
    for key in ("control_samples", "anchor_samples", "auxiliary_steps"):
        one[key] = max(32, round(one[key] * scale))
    return {
        **one, "max_steps": steps, "per_device_train_batch_size": work.batch, "max_length": max(96, work.length),
        "max_new_tokens": work.new_tokens, "bf16": work.bf16 or work.half, "use_cpu": work.device == "cpu",
        "train_dtype": "stored" if work.half else "float32", "seed": work.seed, "lora_r": work.lora_r,
    }  # fmt: skip


def call(words: list[str], threads: int) -> tuple[float, float]:
    """Wall-clock and processor seconds of one command in a process of its own."""
    folders = [str(ROOT / package) for package in PACKAGES]
    path = os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], env=os.environ | own, capture_output=True, text=True, check=False
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:4])}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def plain_run(given: dict[str, Any]) -> float:
    """Seconds of transformers' own trainer, with its own loss, on the rows of a run; in a process of its own."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    from constraintlang_runtime.adapters import with_adapter
    from constraintlang_runtime.batching import pad_token
    from constraintlang_runtime.config import ConstraintConfig
    from constraintlang_runtime.data import collate, encode_rows

    setting = given["settings"]
    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    dtype = "auto" if setting["train_dtype"] == "stored" else torch.float32  # the same for all systems
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=dtype)
    if setting["lora_r"]:
        config = ConstraintConfig(
            output_dir=given["output"], lora_r=setting["lora_r"], use_cpu=setting["use_cpu"]
        )
        model = with_adapter(model, config, setting["seed"])
    rows = [json.loads(line) for line in Path(given["data"][0]).read_text().splitlines()]
    encoded = encode_rows(rows, tokenizer, max_length=setting["max_length"], seed=setting["seed"])
    pad = pad_token(tokenizer)

    def together(some: Any) -> dict[str, torch.Tensor]:
        batch = collate(some, pad)
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}

    names = ("max_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "per_device_train_batch_size", "bf16",
             "use_cpu", "seed", "save_strategy")  # fmt: skip
    training = TrainingArguments(
        output_dir=given["output"], disable_tqdm=True, report_to="none", logging_steps=10, remove_unused_columns=False,
        **{name: setting[name] for name in names},
    )  # fmt: skip
    trainer = Trainer(model, training, train_dataset=encoded, data_collator=together)
    began = time.perf_counter()
    trainer.train()
    return time.perf_counter() - began


def runs(
    work: Workload, folder: Path, script: Path, *, tokens: float, scale: float, repeats: int, threads: int,
    schedules: tuple[str, ...] = ("sequential", "parallel"), epochs: int = 1, commit: str | None = None,
    again: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row of each system: seconds of training (rounds included) and their ratio to plain fine-tuning, in turns.

    Each run is kept in ``folder`` when it ends, so that a call of the same ``commit`` that was interrupted goes on,
    unless it is to be measured ``again``. A system without room on the GPU has a row that says so.
    """
    given = prepare(work, folder, tokens * scale)
    row_tokens = given.pop("tokens")
    steps = max(16, round(tokens * scale * epochs / (row_tokens * work.batch)))
    plain = settings_of(work, "default", steps, scale, epochs)
    systems: dict[str, dict[str, Any]] = {}
    for schedule in schedules:
        for name in SETTINGS:
            own = settings_of(work, name, steps, scale, epochs)
            systems[f"{name}, {schedule}"] = own | (
                {"schedule": "parallel"} if schedule == "parallel" else {}
            )
    name_of = setting_hash({**plain, "scale": scale, "threads": threads, "commit": commit})
    kept = folder / f"runs-{name_of}.json"
    if again or (commit or "+").endswith("+"):  # a checkout with changes says nothing of the code that ran
        kept.unlink(missing_ok=True)
    found: dict[str, list[dict[str, Any]]] = json.loads(kept.read_text()) if kept.exists() else {}
    found = {name: found.get(name, []) for name in (PLAIN, *systems)} | found
    failed: dict[str, str] = {}
    for turn in range(repeats):
        for name in (PLAIN, *systems):
            if len(found[name]) > turn or name in failed:
                continue
            try:
                one = one_run(name, {**given, **systems.get(name, plain)}, work, folder, script, threads)
            except RuntimeError as error:
                said = [line for line in str(error).splitlines() if "out of memory" in line.lower()]
                if not said:
                    raise
                failed[name] = said[-1][-300:]
                print(f"  {name}: {failed[name]}", flush=True)
                continue
            found[name].append(one)
            kept.write_text(json.dumps(found))
            print(f"  {name}: {one['seconds']:.1f} s", flush=True)
    base = [one["seconds"] for one in found[PLAIN][:repeats]]
    about = {"scale": scale, "epochs": epochs, "threads": threads, "workload": work.to_json()}
    rows: list[dict[str, Any]] = []
    for name in (PLAIN, *systems):
        row: dict[str, Any] = {"part": "run", "system": name, **about}
        if name in systems:
            row |= {"settings": systems[name], "setting_hash": setting_hash(systems[name])}
        own = found[name][:repeats]
        if name in failed or PLAIN in failed:
            rows.append(row | {"not_measured": failed.get(name) or failed[PLAIN]})
            continue
        rows.append(
            row | summary([one["seconds"] for one in own], base) | {
                "repeats": repeats, "command_seconds": [round(one["wall"], 2) for one in own],
                "processor_seconds": [round(one["processor"], 2) for one in own],
                "stage_seconds": own[-1]["stages"], "steps": steps, "tokens": round(steps * work.batch * row_tokens),
            }
        )  # fmt: skip
    return rows


def one_run(
    name: str, setting: dict[str, Any], work: Workload, folder: Path, script: Path, threads: int
) -> dict[str, Any]:
    """Seconds of one run of a system in a process of its own, and those of its stages."""
    if name == PLAIN:
        files = ("model", "data", "scorer")
        plain = {key: setting[key] for key in files if key in setting} | {
            "settings": {key: value for key, value in setting.items() if key not in files},
            "output": str(folder / "plain"),
        }
        file = folder / "plain.json"
        file.write_text(json.dumps(plain))
        wall, processor = call([str(script), "--plain-run", str(file)], threads)
        seconds = float(file.with_suffix(".seconds").read_text())
        return {"seconds": seconds, "wall": wall, "processor": processor, "stages": {}}
    output = folder / "model-out"
    shutil.rmtree(output, ignore_errors=True)
    (folder / "run.yaml").write_text(json.dumps({**setting, "output": str(output)}))
    words = ["train", str(folder / "speed.policy"), "--config", str(folder / "run.yaml"), "--quiet"]
    allowed = ["--allow_path"] if work.shape == "testbed" else []
    lanes = 1 if setting.get("schedule") == "parallel" else threads
    wall, processor = call(["-m", "constraintc", *words, *allowed], lanes)
    record = json.loads((output / "constraint" / "run.json").read_text())
    return {
        "seconds": record["seconds"], "wall": wall, "processor": processor, "stages": _stages(record["history"]),
    }  # fmt: skip


def _stages(history: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of sampling, scoring, fitting and waiting over all rounds."""
    total: dict[str, float] = {}
    for entry in history:
        for key, value in entry.items():
            if "/seconds/" in key:
                stage = key.rpartition("/")[2]
                total[stage] = round(total.get(stage, 0.0) + float(value), 3)
    return total
