"""The paper's tables with every system in them: one command per table, all rows on the same data, steps and oracle budget.

    python benchmarks/paper/run.py toxigen --shared ../shared --work runs/paper --jobs 2
    python benchmarks/paper/run.py toxigen --list                     what is finished
    python benchmarks/paper/run.py winrate | jigsaw | ablations

Prints what every row may cost, then trains and measures the rows that are missing, each in a process of its own with its
log in its folder; what is finished stays, so that a killed run goes on where it was. A row that fails is reported and
the others go on. Writes results/TABLE-SCALE.json, every sample beside it, and a page; rows of an earlier run of the same
data that this one does not have, or has fewer seeds of, stay in the file, with the run that made them.

Needs the corpora and models beside the checkout (--shared).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import signal
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from context import Context
from earlier import in_order, key_of, rows_left, samples_left, start_models_left
from job import Job, config_of, write_whole
from measures import PROTOCOLS
from page import write_page
from plan import Row, plan_lines, rows_of, systems_of, without_configuration
from pretrain import RECORD, is_made
from row import MEASURES, function
from scales import NAMES
from stamps import left_to_measure, read_record, set_aside
from table import result_path, samples_of, table_rows, write_samples
from workers import Failure, Task, python, run_all, visible_gpus

TABLES = ("toxigen", "winrate", "jigsaw", "ablations")


def main() -> int:
    """Plan, run what is missing, write the results; exit code 1 when a row failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--scale", choices=NAMES, default="testbed")
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="folder with data/ and testbed/"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/paper"), help="where models, samples and logs go"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="SYSTEM", help="these rows and what they need"
    )
    parser.add_argument("--seeds", type=int, help="seeds of the headline rows (default: the scale's)")
    parser.add_argument(
        "--replace", action="store_true",
        help="replace rows of the result file that have more seeds than this run's; winrate: the whole file",
    )  # fmt: skip
    parser.add_argument("--architectures", nargs="+", metavar="NAME", help="default: all of the scale")
    parser.add_argument("--every", action="store_true", help="all seeds and architectures for all rows")
    parser.add_argument(
        "--judge_url", help="winrate: http://HOST:PORT of an OpenAI-compatible judge, none without"
    )
    parser.add_argument(
        "--later", nargs="+", default=[], choices=PROTOCOLS, metavar="PROTOCOL",
        help=f"do not measure these now; a run without it does ({', '.join(PROTOCOLS)})",
    )  # fmt: skip
    parser.add_argument("--judge_model", help="winrate: its name there")
    parser.add_argument("--judge_rate", type=float, help="winrate: requests in a second")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    parser.add_argument(
        "--list", action="store_true", help="print the plan and what is finished, run nothing"
    )
    args = parser.parse_args()
    if args.table == "winrate":  # judged are the completions of ToxiGen prompts alone
        args.later = list(dict.fromkeys([*args.later, "rtp", "choices"]))
    try:
        context = Context.of(args.scale, args.shared, args.work)
        rows = rows_of(
            args.table, context.setting.scale, only=args.only, seeds=args.seeds, architectures=args.architectures,
            every=args.every,
        )  # fmt: skip
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the rows' processes are ended, too
    for line in plan_lines(rows, context.job, most_calls, args.jobs, args.later):
        print(line, flush=True)
    lost = (
        [] if args.only else [Failure(name, why) for name, why in without_configuration(args.table).items()]
    )
    for failure in lost:
        print(f"FAILED {failure.key}: {failure.why}")
    if args.list:
        return 0
    with (context.work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"error: another run, or rows that one left behind, work in {context.work}; wait, or name another --work",
                file=sys.stderr,
            )
            return 2
        failures = [*lost, *run_rows(args, context, rows, lock.fileno())]
        write_results(args, context, rows, failures)
    for failure in failures:
        print(f"FAILED {failure.key}: {failure.why}")
    return 1 if failures else 0


def most_calls(job: Job) -> int:
    """The oracle calls that a row may make: counted from its settings where our command trains it, else the scale's."""
    train = config_of(job.system)["train"]
    if train == "ours:base":
        return 0
    if train == "jigsaw:train":
        from jigsaw import as_ours

        job = as_ours(job)  # its files may not be there yet
    elif train != "ours:train":
        return job.scale.oracle_calls
    from ours import most_calls as of_settings
    from ours import rows_in_scope, settings_of

    config = settings_of(job, job.folder / "model").config
    rows = job.scale.oracle_calls if train == "jigsaw:train" else rows_in_scope(job, config)
    return of_settings(config, rows, job.scale.steps)


def run_rows(args: argparse.Namespace, context: Context, rows: list[Row], lock: int) -> list[Failure]:
    """Run what is missing: models that are made on the spot, then rows. Their processes hold the lock, too."""
    for where in dict.fromkeys(config_of(row.system).get("prepare", "measures:prepare") for row in rows):
        function(where)(context.shared, context.setting.scale, context.work)
    places = ("--scale", args.scale, "--shared", str(context.shared), "--work", str(args.work.resolve()))
    tasks, finished, ready = [], set[str](), set[str]()
    made = [
        name for name in dict.fromkeys(row.architecture for row in rows) if name in context.setting.pretrain
    ]
    for name in made:
        folder = Path(context.setting.scale.models[name])
        tasks.append(Task(f"start model {name}", python("pretrain.py", *places, name), folder / "log.txt"))
        if is_made(context.setting.pretrain[name], folder):
            finished.add(f"start model {name}")
    for row in rows:
        job = context.job(row)
        folder = job.folder
        if (aside := set_aside(job)) is not None:
            print(f"{row.key} was made with other options; what it was is in {aside}")
        start = (f"start model {row.architecture}",) if row.architecture in made else ()
        later = ("--later", *args.later) if args.later else ()
        command = python("row.py", *places, row.system, row.architecture, str(row.seed), *later)
        tasks.append(Task(row.key, command, folder / "log.txt", (*start, *row.needed), row.cores))
        record = read_record(job)
        if record is not None:  # trained, and measured but for what an earlier run left for later
            (ready if left_to_measure(record, args.later) else finished).add(row.key)
    return run_all(
        tasks, finished, args.jobs, lambda message: print(message, flush=True), ready=ready,
        gpus=_gpus(context.setting.scale.device), inherited=(lock,),
    )  # fmt: skip


def write_results(
    args: argparse.Namespace, context: Context, rows: list[Row], failures: list[Failure]
) -> None:
    """The JSON, the samples, the page."""
    sys.path.append(str(Path(__file__).parents[1]))  # what all benchmarks share
    from about import commit

    from constraintlang_runtime.versions import versions

    systems = [system for system in systems_of(args.table) if any(row.system == system for row in rows)]
    made = {
        name: json.loads((Path(path) / RECORD).read_text())
        for name, path in context.setting.scale.models.items()
        if (Path(path) / RECORD).exists()
    }
    wanted = [row for row in rows if row.system in systems]
    result: dict[str, Any] = {
        "rows": table_rows(args.table, context, wanted, systems),
        "failed": [{"row": one.key, "why": one.why} for one in failures],
        "command": shlex.join(["python", "benchmarks/paper/run.py", *_shown(sys.argv[1:])]),
        "commit": commit(), "scale": _scale(context), "files": context.files.hashes, "start_models": {},
        "versions": versions(), "device": _device(context.setting.scale.device), "jobs": args.jobs,
    }  # fmt: skip
    path = result_path(args.table, context)
    path.parent.mkdir(exist_ok=True)
    left = rows_left(path, result, replaces=args.replace)
    if args.table == "winrate":  # every row is judged against every other, so none of another run can stay
        if left and not args.replace and path.parent != context.work:
            print(f"{path} has rows or seeds that this run has not, and stays; --replace writes it anew")
            path = context.work / path.name
        left = []
        result["judges"] = judge(args, context, wanted, result["rows"])
    kept = {key_of(entry) for entry in left}
    for entry in result["rows"]:
        if key_of(entry) in kept:
            print(
                f"{entry['system']} ({entry['architecture']}) stays as it was, of more seeds; --replace takes this run's"
            )
    result["rows"] = [entry for entry in result["rows"] if key_of(entry) not in kept]
    own = {entry["architecture"] for entry in result["rows"]}
    result["start_models"] = {name: record for name, record in made.items() if name in own}
    result["start_models"] |= start_models_left(path, result, left)
    named = [config_of(system).get("name", system) for system in systems_of(args.table)]
    result["rows"] = in_order([*result["rows"], *left], list(context.setting.scale.models), named)
    samples = path.with_suffix(".samples.jsonl.zst")
    new = (sample for sample in samples_of(context, wanted) if key_of(sample) not in kept)
    every = chain(new, samples_left(samples, left))
    result["samples"] = {"file": samples.name, "count": write_samples(samples, every)}
    text = json.dumps(result, indent=1)
    for folder, name in (
        (context.work, "WORK"),
        (context.shared, "SHARED"),
    ):  # commands name folders of this machine
        text = text.replace(str(folder), name)
    write_whole(path, text + "\n")
    page = write_page(path.with_suffix(".html"), args.table, json.loads(text))
    if left:
        print(f"{len(left)} rows of an earlier run stay as they were")
    print(f"wrote {path}, {samples.name} ({result['samples']['count']:,} samples) and {page.name}")


def judge(
    args: argparse.Namespace, context: Context, rows: list[Row], entries: list[dict[str, Any]]
) -> dict[str, Any]:
    """Win rates of the finished rows of each architecture, by judge; each row's rate against all others joins its entry."""
    from judge import winrate

    from constraintlang_runtime.scorers.judge_settings import JudgeSettings

    endpoint = JudgeSettings(args.judge_url, args.judge_model, args.judge_rate)
    found: dict[str, Any] = {}
    for architecture in dict.fromkeys(row.architecture for row in rows):
        folders: dict[str, list[Path]] = {}
        for row in rows:
            own = context.job(row)
            if row.architecture == architecture and read_record(own) is not None:
                folders.setdefault(row.system, []).append(own.folder / MEASURES)
        if len(folders) < 2:
            continue
        judged = winrate(folders, context.setting.scale, context.work, endpoint=endpoint)
        found[architecture] = judged
        for entry in entries:
            if entry["architecture"] == architecture and entry["system"] in folders:
                for name, key in (("likelihood", "win_rate"), ("llm", "win_rate_llm")):
                    if judged[name]["measured"]:
                        entry[key] = judged[name]["all"][entry["system"]]
                entry["win_rate_spoken"] = judged["likelihood"]["spoken"]["all"][entry["system"]]
    return found


def _scale(context: Context) -> dict[str, Any]:
    """The scale as the page shows it, without folders of this machine."""
    from dataclasses import asdict

    found = asdict(context.setting.scale)
    found["models"] = {name: Path(path).name for name, path in found["models"].items()}
    found["classifier"] = Path(found["classifier"]).name
    return found


def _shown(arguments: list[str]) -> list[str]:
    """The arguments as anyone would write them: folders of this machine are left out."""
    found, skip = [], False
    for word in arguments:
        if skip:
            skip = False
        elif word in ("--shared", "--work"):
            skip = True
        elif not word.startswith(("--shared=", "--work=")):
            found.append(word)
    return found


def _gpus(device: str) -> list[str]:
    """The GPUs that rows of a scale run on; none where it computes on the processor."""
    if device == "cpu":
        return []
    import torch

    return visible_gpus(os.environ, torch.cuda.device_count())


def _device(device: str) -> dict[str, Any]:
    """What computed."""
    import platform

    found: dict[str, Any] = {"device": device, "cores": os.cpu_count(), "processor": platform.processor()}
    if device != "cpu":
        import torch

        found["name"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found


if __name__ == "__main__":
    sys.exit(main())
