"""One row in a process of its own: train what is not trained, measure what is not measured, say what it took."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from context import Context
from job import Job, Trained, config_of, write_whole
from measures import wanted
from plan import Row
from stamps import row_stamp, stamp

MEASURES = "measures"  # the folder of a row's measures, of the same name in all rows


def function(where: str) -> Callable[..., Any]:
    """``module:function`` of this folder. Raises: ValueError for another form."""
    module, colon, name = where.partition(":")
    if not colon:
        raise ValueError(f"got `{where}`, expected module:function")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def run(job: Job, later: Sequence[str] = ()) -> dict[str, Any]:
    """Train and measure a row, without the protocols of ``later``; a finished stage is not repeated.

    Returns and writes ``row.json``.
    """
    config = config_of(job.system)
    stamp(job)
    started = time.perf_counter()
    if (job.folder / "trained.json").exists():
        trained = Trained.read(job.folder)
    else:
        trained = function(config["train"])(job)
        if not (job.folder / "trained.json").exists():
            trained.write(job.folder)
    free_memory()
    middle = time.perf_counter()
    more = {"protocols": config["protocols"]} if "protocols" in config else {}
    if later and "measure" not in config:
        more["protocols"] = [name for name in more.get("protocols") or wanted(job) if name not in later]
    function(config.get("measure", "measures:measure"))(job, trained, job.folder / MEASURES, **more)
    own = trained.details.get("stage_seconds", trained.seconds)
    record = {
        "stamp": row_stamp(job), "system": job.system, "architecture": job.architecture, "seed": job.seed, "train_seconds": own,
        "measure_seconds": round(time.perf_counter() - middle, 1), "this_process": round(time.perf_counter() - started, 1),
        "later": sorted(later),
    }  # fmt: skip
    write_whole(job.folder / "row.json", json.dumps(record, indent=1) + "\n")
    return record


def free_memory() -> None:
    """Give back what training left: trainers refer to themselves, and a device keeps the room of what is gone."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()  # nothing where CUDA was not used


def main() -> None:
    """``python row.py --scale ... SYSTEM ARCHITECTURE SEED``, as the runner calls it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("system")
    parser.add_argument("architecture")
    parser.add_argument("seed", type=int)
    parser.add_argument("--later", nargs="+", default=[])
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    job = Context.of(args.scale, args.shared, args.work).job(Row(args.system, args.architecture, args.seed))
    record = run(job, args.later)
    print(f"finished {job.folder}: {record['this_process']} s in this process", file=sys.stderr)


if __name__ == "__main__":
    main()
