"""One optimizer step of plain and of regularized fine-tuning: time in turns, peak memory, and both against the floor."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from floors import Counts, Floor, Peak, Sizes, auxiliary_flops, measured_peak, plain_floor, regularized_floor
from timing import OUT_OF_MEMORY, interleaved, peak, reset_peak, summary
from workload import CHEAP, Bench, Workload, one_step

PLAIN, LIGER = "plain (transformers)", "plain (Liger)"
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "cheap": CHEAP,
    "default, corpus rows": {"prefixes": "corpus"},
    "default, both kinds of rows": {"prefixes": "mixed"},
    "default, rows as given": {"training_rows": "given"},
    "default, 2 sampled rows": {"regularizer_rows": 2},
    "default, 16 sampled rows": {"regularizer_rows": 16},
    "default, start anchor": {"anchor": "start"},
    "default, current anchor": {"anchor": "current"},
    "default, forward": {"divergence": "forward"},
    "default, js": {"divergence": "js"},
    "default, alpha": {"divergence": "alpha"},
    "default, loss plain": {"loss": "plain"},
    "default, loss chunked": {"loss": "chunked"},
    "cheap, loss plain": {**CHEAP, "loss": "plain"},
    "default, auxiliary transformer": {"auxiliary": "transformer"},
    "default, auxiliary adapter": {"auxiliary": "adapter"},
    "default, packing": {"packing": True},
}
MAIN = ("default", "cheap", "default, corpus rows", "default, 16 sampled rows")
CACHE = "anchor_cache_gib"  # the setting of the cache of a frozen anchor's states, 0 for none


def options(names: str) -> dict[str, dict[str, Any]]:
    """The options of ``main``, ``all``, or a list with semicolons between the names."""
    from constraintlang_runtime.config import ConstraintConfig

    known = {field.name for field in fields(ConstraintConfig)}
    every = OPTIONS | ({"default, anchor not cached": {CACHE: 0.0}} if CACHE in known else {})
    if names == "all":
        return every
    wanted = MAIN if names == "main" else tuple(name.strip() for name in names.split(";"))
    return {name: every[name] for name in wanted}


def liger_reason(device: str) -> str | None:
    """Why Liger's fused loss cannot be measured here; None when it can."""
    if find_spec("liger_kernel") is None:
        return "liger_kernel is not installed"
    return None if device.startswith("cuda") else "its kernels need a GPU"


def counts_of(trainer: Any, batch: dict[str, Any]) -> Counts:
    """The tokens of a step on a batch."""
    from constraintlang_runtime.data import IGNORED_LABEL, Batch, prediction_sites
    from constraintlang_runtime.penalty import weighted_rows

    batch = {name: value.to(trainer.args.device) for name, value in batch.items() if name != "weight"}
    corpus = Batch(batch["input_ids"], batch["attention_mask"], batch["labels"], batch["region"])
    labels = float((corpus.labels[:, 1:] != IGNORED_LABEL).sum())
    whole = trainer._micro_batch(corpus, corpus.labels, batch, labels)
    config = trainer.constraint.regularizer
    sites = 0.0
    for part in whole.groups:
        rows = weighted_rows(
            part.group, whole.joined, part.corpus_rows, part.sampled_rows, part.corpus_tokens, config
        )
        sites += sum(float(prediction_sites(whole.joined.region[which]).sum()) for which, _ in rows)
    real = float(corpus.attention_mask.sum())
    return Counts(
        real, float(whole.joined.attention_mask.sum()) - real, labels, sites,
        float(whole.sites(config).sum()) if whole.groups else labels, float(corpus.input_ids.shape[1]),
    )  # fmt: skip


def mean_counts(found: list[Counts]) -> Counts:
    """Of a mean batch."""
    return Counts(*(sum(getattr(one, f.name) for one in found) / len(found) for f in fields(Counts)))


def floor_of(trainer: Any, sizes: Sizes, counts: Counts) -> Floor:
    """The floor of a regularized step as the trainer is set."""
    config, head = trainer.constraint, trainer.groups[0].head
    layers, site = auxiliary_flops(head, int(trainer.model.get_output_embeddings().weight.shape[0]))
    if config.auxiliary == "adapter":
        layers, site = 2.0 * sizes.layers_weights, 2.0 * sizes.head
    cached = has_cache(trainer)
    return regularized_floor(
        sizes, counts, anchor=config.anchor, auxiliary=layers, per_site=site, cached=cached
    )


def has_cache(trainer: Any) -> bool:
    """Whether the anchor's hidden states are kept between steps under this trainer's settings."""
    return getattr(trainer.constraint, CACHE, 0.0) > 0 and trainer.constraint.anchor in ("tuned", "start")


def step_times(work: Workload, wanted: dict[str, dict[str, Any]], repeats: int) -> list[dict[str, Any]]:
    """A row of each system: seconds of a step, ratio to plain fine-tuning round by round, floor, measured / floor."""
    bench = Bench(work)
    dtype = torch.bfloat16 if work.bf16 or work.half else torch.float32
    top = measured_peak(bench.device, dtype)
    trainers: dict[str, Any] = {PLAIN: bench.plain()}
    for name, changes in wanted.items():
        trainers[name] = bench.trainer(changes)
    first = next(iter(wanted))
    batches = bench.collated(trainers[first])
    slim = [{key: batch[key] for key in ("input_ids", "attention_mask", "labels")} for batch in batches]

    def stepper(name: str) -> Any:
        trainer = trainers[name]
        own = slim if name == PLAIN else batches

        def call(number: int) -> None:
            trainer.state.global_step += name != PLAIN
            one_step(trainer, own[number % len(own)], bench.optimizer)

        return call

    seconds = interleaved(
        {name: stepper(name) for name in trainers}, repeats, bench.device, warm_up=len(batches)
    )
    sizes = Sizes.of(bench.model)
    rows: list[dict[str, Any]] = []
    for name, trainer in trainers.items():
        row: dict[str, Any] = {"part": "step", "system": name, **summary(seconds[name], seconds[PLAIN])}
        if name == PLAIN:
            counts = mean_counts([counts_of(trainers[first], batch) for batch in batches])
            floor = plain_floor(sizes, counts)
            usual = counts, floor
        else:
            if "seconds" in row and not any(key.startswith("loss_regularizer") for key in trainer._term_sums):
                raise RuntimeError(f"{name}: the regularizer did not act")
            counts = mean_counts([counts_of(trainer, batch) for batch in batches])
            floor = floor_of(trainer, sizes, counts)
            row |= {"settings": wanted[name]}
        rows.append(row | (_against(row["seconds"], floor, top, counts) if "seconds" in row else {}))
    del bench, trainers, trainer
    reason = liger_reason(work.device)
    if reason is None:
        try:
            row = {"part": "step", "system": LIGER, **summary(liger_seconds(work, repeats), seconds[PLAIN])}
            rows.insert(
                1, row | _against(row["seconds"], usual[1], top, usual[0]) if "seconds" in row else row
            )
        except torch.OutOfMemoryError:
            reason = OUT_OF_MEMORY
    if reason is not None:
        rows.insert(1, {"part": "step", "system": LIGER, "not_measured": reason})
    for row in rows:
        if "floor_gflop" in row and "floor_gflop" in rows[0]:
            row["floor_ratio"] = round(row["floor_gflop"] / rows[0]["floor_gflop"], 4)
    return [row | {"workload": work.to_json(), "peak": asdict(top)} for row in rows]


def liger_seconds(work: Workload, repeats: int) -> list[float]:
    """Seconds of plain steps with Liger's fused loss, which is put into the model for good: so with one of its own, after."""
    gc.collect()
    torch.cuda.empty_cache()
    bench = Bench(work)
    trainer = bench.plain(liger=True)
    keys = ("input_ids", "attention_mask", "labels")
    batches = [{key: batch[key] for key in keys} for batch in bench.collated(_Collating(bench))]

    def call(number: int) -> None:
        one_step(trainer, batches[number % len(batches)], bench.optimizer)

    return interleaved({LIGER: call}, repeats, bench.device, warm_up=len(batches))[LIGER]


def _against(seconds: float, floor: Floor, top: Peak, counts: Counts) -> dict[str, Any]:
    return {
        "tokens": {key: round(value, 1) for key, value in asdict(counts).items()},
        "tokens_per_second": round(counts.corpus / seconds),
        "floor_gflop": round(floor.flops / 1e9, 4),
        "floor_gib": round(floor.bytes / 2**30, 4),
        "floor_seconds": float(f"{floor.seconds(top):.4g}"),
        "measured_over_floor": round(seconds / floor.seconds(top), 3),
    }


# ------------------------------------------------------------ memory
def peak_of_one(work: Workload, name: str, changes: dict[str, Any]) -> dict[str, float]:
    """MiB at the peak of three steps of one system, and before its model was there; in a process of its own."""
    import transformers  # noqa: F401 - what a process holds before its model

    import constraintlang_runtime.trainer  # noqa: F401

    before = reset_peak(torch.device(work.device))
    bench = Bench(work)
    trainer = bench.plain(liger=name == LIGER) if name in (PLAIN, LIGER) else bench.trainer(changes)
    source = trainer if name not in (PLAIN, LIGER) else None
    batches = bench.collated(source or _Collating(bench))
    if source is None:
        batches = [{key: b[key] for key in ("input_ids", "attention_mask", "labels")} for b in batches]
    for batch in batches[:1]:
        one_step(trainer, batch, bench.optimizer)  # the optimizer's states
    reset_peak(bench.device)
    for batch in batches:
        one_step(trainer, batch, bench.optimizer)
    return {"before_mib": before, "peak_mib": peak(bench.device)}


class _Collating:
    """The part of a constraint trainer that makes batches, without its other state."""

    def __init__(self, bench: Bench) -> None:
        from constraintlang_runtime.batching import pad_token
        from constraintlang_runtime.data import collate, encode_rows

        rows = encode_rows(
            bench.rows, bench.tokenizer, max_length=max(96, bench.work.length), seed=bench.work.seed
        )
        pad = pad_token(bench.tokenizer)
        self.train_dataset = rows
        self._collate = lambda some: vars(collate(some, pad))


def step_memory(work: Workload, wanted: dict[str, dict[str, Any]], script: Path) -> list[dict[str, Any]]:
    """A row of each system: MiB of its process at the peak, and their growth over an empty process."""
    systems: dict[str, dict[str, Any]] = {PLAIN: {}, **wanted}
    if liger_reason(work.device) is None:
        systems[LIGER] = {}
    rows = []
    own = {
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
    }  # freed memory goes back at once
    for name, changes in systems.items():
        words = json.dumps({"work": asdict(work), "name": name, "changes": changes})
        done = subprocess.run(
            [sys.executable, str(script), "--one", words], capture_output=True, text=True, check=False,
            env=os.environ | own,
        )  # fmt: skip
        if done.returncode:
            rows.append({"system": name, "not_measured": done.stderr.strip().splitlines()[-1][-300:]})
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        rows.append({"system": name, **found, "growth_mib": found["peak_mib"] - found["before_mib"]})
    base = rows[0]
    for row in rows:
        if "peak_mib" in row and "peak_mib" in base:
            row |= {
                "memory_ratio": round(row["peak_mib"] / base["peak_mib"], 4),
                "growth_ratio": round(row["growth_mib"] / base["growth_mib"], 4),
            }
            row |= {key: round(row[key], 1) for key in ("before_mib", "peak_mib", "growth_mib")}
    return [{"part": "memory", **row, "workload": work.to_json()} for row in rows]
