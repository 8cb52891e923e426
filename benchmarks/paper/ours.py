"""The rows that our own command trains: the start model, plain fine-tuning, filtering, and the policy in its settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from counting import CountedScorer, Stopwatch, count_lines, trained_tokens
from job import Job, Trained
from scales import TRAIN

from constraintc.progress import shown
from constraintlang_compiler.pipeline import compile_path
from constraintlang_runtime.checkpoint import newest_checkpoint
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.run_settings import RunSettings, defaults, settings
from constraintlang_runtime.scorers.binding import bind_scorers, parse_scorer_options
from constraintlang_runtime.train_run import train as run_train

SETTING: dict[str, Any] = {
    "rounds": 15, "warmup_fraction": 0.4, "verify_prompts": 896, "anchor_samples": 4096, "control_samples": 256,
}  # fmt: skip
UNCONTROLLED = {
    "rounds": 1,
    "control_samples": 1,
}  # nothing is controlled, so nothing need be measured on the way
SIZES = ("anchor_samples", "control_samples")  # a row may say `NAME_share` of the scale's
CORPUS_SCORED = 1_024  # rows of a group that every run scores to know the pull of the corpus


def base(job: Job) -> Trained:
    """The start model as it is."""
    job.folder.mkdir(parents=True, exist_ok=True)
    trained = Trained(job.start, 0.0, 0.0, 0, 0, 0)
    trained.write(job.folder)
    return trained


def train(job: Job) -> Trained:
    """One run of ``constraintc train``; ``job.options`` are its settings, over those that all rows share.

    The option ``policy`` is another policy text for this row. What is counted: the texts that the scorer was given
    (plain fine-tuning has some scored for its log, which steer nothing: they are in ``details`` alone), every token of
    every optimizer step, and the wall-clock from loading to saving. On a CPU the device seconds are the processor's
    where several threads worked.
    Raises: ConfigError when the settings may ask for more scored texts than the scale allows.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    output, oracle = job.folder / "model", job.folder / "oracle.jsonl"
    given = settings_of(job, output)
    policy_path = _policy(job)
    most = most_calls(given.config, rows_in_scope(job, given.config), job.scale.steps)
    if most > job.scale.oracle_calls:
        raise ConfigError(
            f"{job.system}: its settings may have {most:,} texts scored, the scale allows {job.scale.oracle_calls:,}",
            help="lower anchor_samples_share, control_samples_share or rounds in its configuration",
        )
    goes_on = (
        newest_checkpoint(output / "checkpoints") is not None or (output / "constraint" / "run.json").exists()
    )
    if not goes_on:
        oracle.write_text("")
    policy = compile_path(policy_path)
    with shown() as progress:
        watch = Stopwatch(job.folder / "spent.json", fresh=not goes_on, also=progress)
        bound = bind_scorers(policy.ir, parse_scorer_options(given.scorer), folder=policy_path.parent)
        scorers = {name: CountedScorer(scorer, oracle) for name, scorer in bound.items()}
        record = run_train(
            policy, given, folder=policy_path.parent, scorers=scorers, progress=watch,
            tell=lambda message: print(message, file=sys.stderr, flush=True),
        )  # fmt: skip
        watch.write()
    scored = count_lines(oracle)
    used = 0 if given.config["method"] == "plain" else scored
    on_cpu = job.scale.device == "cpu"
    trained = Trained(
        model=str(output),
        seconds=watch.seconds,
        device_seconds=max(watch.seconds, watch.processor_seconds) if on_cpu else watch.seconds,
        oracle_calls=used,
        steps=record["steps"],
        tokens=trained_tokens(record, given.config.get("gradient_accumulation_steps", 1)),
        details={
            "scored": scored, "training_seconds": record["seconds"], "processor_seconds": watch.processor_seconds,
            "rows": record["rows"], "rows_dropped": record["rows_dropped"], "groups": record["groups"],
            "command": record["command"], "settings": record["settings"],
        },
    )  # fmt: skip
    trained.write(job.folder)
    return trained


def settings_of(job: Job, output: Path) -> RunSettings:
    """The settings of a row: what all rows share, our tuned setting, the scale's, the row's own.

    The options ``anchor_samples_share`` and ``control_samples_share`` are parts of the scale's numbers, which are those of
    ``SETTING`` where the scale names none.
    """
    scale = job.scale
    shared = {
        "max_steps": scale.steps, "learning_rate": scale.learning_rate, "lr_scheduler_type": "cosine",
        "warmup_steps": min(10, max(1, scale.steps // 10)), "per_device_train_batch_size": scale.batch_size,
        "max_length": scale.max_length, "max_new_tokens": scale.max_new_tokens, "bf16": scale.bf16,
        "use_cpu": scale.device == "cpu", "save_strategy": "no", "seed": job.seed,
        "logging_steps": max(1, scale.steps // 15),
    }  # fmt: skip
    own = {name: value for name, value in job.options.items() if name != "policy"}
    method = own.get("method", "constraint")
    by_method = SETTING if method == "constraint" else UNCONTROLLED
    by_scale = {
        name: value
        for name, value in TRAIN[scale.name].items()
        if method == "constraint" or name not in SETTING
    }
    tuned = {**by_method, **by_scale}
    for name in SIZES:
        if (share := own.pop(f"{name}_share", None)) is not None:
            own[name] = round(share * tuned[name])
    merged = {
        "method": method, **shared, **tuned, **own,
        "model": job.start, "data": [str(job.rows)], "scorer": [scale.scorer], "output": str(output), "resume": True,
    }  # fmt: skip
    return settings(merged, defaults(ConstraintConfig))


def most_calls(config: dict[str, Any], num_rows: int, steps: int) -> int:
    """The most texts that a run of these settings may have scored: samples of all rounds, and rows of the corpus.

    A row that is scored for the pull of the corpus may be scored for the fit, too, and is then one call.
    """
    method = config["method"]
    if method == "plain":
        return 0
    if method == "filtering":
        return num_rows
    length = max(1, -(-steps // config["rounds"]))
    measured = -(-steps // length) + 1  # before every round and after the last step
    if config.get("anchor", "tuned") == "tuned":  # rounds that wait for the anchor measure nothing
        measured -= max(1, round(config["warmup_fraction"] * steps / length)) - 1
    anchor, control = config["anchor_samples"], config["control_samples"]
    corpus = CORPUS_SCORED
    if config.get("training_rows", "projected") == "projected":
        corpus += steps * config["per_device_train_batch_size"] * config.get("gradient_accumulation_steps", 1)
    if config.get("auxiliary_corpus_weight", 1.0) > 0:
        corpus += anchor
    return anchor + (measured - 1) * control + min(corpus, num_rows)


def rows_in_scope(job: Job, config: dict[str, Any]) -> int:
    """Training rows that the regularizer, or the filter, may have scored: those of ToxiGen, or all without domains."""
    return count_lines(job.rows if config.get("adaptive", "domain") == "none" else job.prompts)


def _policy(job: Job) -> Path:
    """The policy's file: the common one, or one of the row's own."""
    if "policy" not in job.options:
        return job.policy
    path = job.folder / "own.policy"
    path.write_text(str(job.options["policy"]).strip() + "\n")
    return path
