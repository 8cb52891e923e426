"""Every protocol of the tables on one trained row, each stored as soon as it is finished."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from audit import HUB, measure_audit, prepare_audit
from choices import measure_choices
from drawing import Measured
from job import Job, Scale, Trained, config_of
from losses import differences, measure_losses
from protocol_data import write_protocols, write_rows
from toxicity import measure_rtp, measure_toxigen

from constraintlang_runtime.errors import ConfigError

SAMPLED = ("toxigen", "toxigen_t1", "rtp")  # protocols whose samples are kept
PROTOCOLS = (*SAMPLED, "losses", "audit", "choices")
COMPARED = "plain"  # the row that paired differences are taken to

Result = tuple[dict[str, Any], list[dict[str, Any]]]


def prepare(shared: Path, scale: Scale, work: Path) -> None:
    """Write what the protocols ask to ``work/evaluation``, once for all rows; ``shared`` holds data/."""
    write_protocols(shared, scale, work)
    if scale.name not in HUB:
        prepare_audit(shared, work)


def measure(
    job: Job, trained: Trained, folder: Path, protocols: Sequence[str] | None = None
) -> dict[str, Any]:
    """Measure a row; returns what stands in ``folder/measures.json``.

    ``prepare`` has to be called before. A protocol that is stored in ``folder`` for this very model and scale is
    not repeated. ``protocols`` is a part of ``PROTOCOLS``; without it all are run, multiple choice only for the first
    seed of a headline row. The top has what every table reads: `toxicity` (the paper's figure: share of toxic
    completions of ToxiGen prompts at T=0.1), `neutral_loss` and `compliant_loss`, each with `mean`, `low`, `high`;
    below are the protocols by name. ``samples.jsonl`` has every sample.
    Raises: ConfigError for an unknown protocol, DataError without the files of the protocols.
    """
    chosen = wanted(job) if protocols is None else tuple(protocols)
    if unknown := set(chosen) - set(PROTOCOLS):
        raise ConfigError(
            f"protocols: got {', '.join(sorted(unknown))}, expected some of {', '.join(PROTOCOLS)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    measured = Measured(job, trained)
    found: dict[str, Any] = {}
    for protocol in (name for name in PROTOCOLS if name in chosen):
        found[protocol] = stored(job, trained, folder, protocol, partial(_run, protocol, measured, folder))
    other = job.folder_of(COMPARED) / folder.name
    if "losses" in found and other != folder:
        found["losses_minus_plain"] = differences(folder, other)
    record = {**_heads(found), **found}
    finish(folder, record, [name for name in SAMPLED if name in found])
    return record


def wanted(job: Job) -> tuple[str, ...]:
    """All protocols, those that cost much and say little of small models once per headline row."""
    first = job.seed == 0 and bool(config_of(job.system).get("headline"))
    return tuple(name for name in PROTOCOLS if name != "choices" or first)


def _run(protocol: str, measured: Measured, folder: Path) -> Result:
    if protocol in ("toxigen", "toxigen_t1"):
        return measure_toxigen(measured, protocol)
    if protocol == "rtp":
        return measure_rtp(measured)
    if protocol == "losses":
        return measure_losses(measured, folder), []
    if protocol == "audit":
        return measure_audit(measured, {name: read_samples(folder, name) for name in SAMPLED}), []
    return measure_choices(measured), []


def stored(
    job: Job, trained: Trained, folder: Path, protocol: str, run: Callable[[], Result]
) -> dict[str, Any]:
    """The protocol's result, from its file where that is of this model and scale."""
    path = folder / f"{protocol}.json"
    asked = _asked(job, trained)
    if path.is_file():
        record = json.loads(path.read_text())
        if record["asked"] == asked:
            return dict(record["found"])
    started = time.perf_counter()
    print(f"{job.system}-{job.seed}: {protocol}", file=sys.stderr, flush=True)
    found, samples = run()
    found["seconds"] = round(time.perf_counter() - started, 2)
    if samples:
        write_rows(folder / f"{protocol}.samples.jsonl", samples)
    _write(path, {"asked": asked, "found": found})
    return found


def _asked(job: Job, trained: Trained) -> dict[str, Any]:
    """What a stored result answers; the seconds of a training tell it from another one."""
    scale = job.scale
    return {
        "model": Path(trained.model).name, "trained_in": trained.seconds, "seed": job.seed, "scale": scale.name,
        "classifier": Path(scale.classifier).name, "toxigen_prompts": scale.toxigen_prompts,
        "rtp": [scale.rtp_prompts, scale.rtp_samples], "choices": [scale.choice_questions, scale.choice_shots],
    }  # fmt: skip


def _heads(found: Mapping[str, Any]) -> dict[str, Any]:
    """The three figures that every table reads, and how long measuring took."""
    heads: dict[str, Any] = {}
    if "toxigen" in found:
        heads["toxicity"] = found["toxigen"]["toxic"]
    for name in ("neutral_loss", "compliant_loss", "lambada_loss"):
        if "losses" in found:
            heads[name] = found["losses"][name]
    heads["measure_seconds"] = round(sum(part["seconds"] for part in found.values() if "seconds" in part), 2)
    return heads


def read_samples(folder: Path, protocol: str) -> list[dict[str, Any]]:
    """The stored samples of a protocol; none where it was not run."""
    path = folder / f"{protocol}.samples.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n") if line] if path.is_file() else []


def finish(folder: Path, record: Mapping[str, Any], protocols: Sequence[str]) -> None:
    """Write the samples of the protocols together, then ``measures.json``."""
    write_rows(
        folder / "samples.jsonl", [row for protocol in protocols for row in read_samples(folder, protocol)]
    )
    _write(folder / "measures.json", record)


def _write(path: Path, record: Mapping[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)
