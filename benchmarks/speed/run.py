"""What the regularizer costs: steps, rounds, whole runs, decoding, masks and checkers against their plain counterparts.

One command for a CPU or a GPU. It prints a plan with the expected time of every part, runs the parts one after the
other, keeps each as soon as it is done (a second call goes on with the next), and writes ``results/DEVICE.json`` and
``results/DEVICE.html``. All ratios are of systems measured in turns in one process or one series of processes.

    python benchmarks/speed/run.py --shared ../shared                  # CPU: the testbed model
    python benchmarks/speed/run.py --shared ../shared --scale 1 --only run
    python benchmarks/speed/run.py --device cuda                       # GPU: the 7b shape at V = 32k and 128k
    python benchmarks/speed/run.py --small                             # a minute, nothing is stored
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
PARTS = (
    "step",
    "lora",
    "memory",
    "parts",
    "vocabulary",
    "length",
    "run",
    "decode",
    "masks",
    "checkers",
    "gpu",
)
GPU_COMMAND = "python benchmarks/speed/run.py --device cuda"


@dataclass(frozen=True)
class Part:
    """A part of the benchmark: its name, the minutes that two quiet cores need, and what runs it."""

    name: str
    minutes: float
    run: Callable[[], list[dict[str, Any]]]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="folder with data/ and testbed/"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/speed"), help="where finished parts are kept")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be repeated")
    parser.add_argument("--again", action="store_true", help="measure parts again that are kept already")
    parser.add_argument("--small", action="store_true", help="tiny sizes, nothing is stored")
    parser.add_argument(
        "--shape", help="testbed, tiny, 125m, 1b or 7b; testbed on a CPU, 7b on a GPU by default"
    )
    parser.add_argument("--vocab", type=int, nargs="+", help="vocabularies, such as 32000 128000 152000")
    parser.add_argument("--length", type=int, nargs="+", help="lengths of rows for the cost against length")
    parser.add_argument("--batch", type=int, help="rows of a step")
    parser.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, default=True, help="bfloat16 autocast"
    )
    parser.add_argument("--options", help="main, all, or names with semicolons between them")
    parser.add_argument("--repeats", type=int, help="rounds of A B C for steps and parts")
    parser.add_argument("--runs", type=int, default=1, help="rounds of A B C for whole runs")
    parser.add_argument("--scale", type=float, help="share of the fixed workload of whole runs")
    parser.add_argument("--epochs", type=int, nargs="+", help="of whole runs; 1, and on a GPU 1 and 3")
    parser.add_argument(
        "--schedules", nargs="+", choices=("sequential", "parallel"), default=["sequential", "parallel"],
        help="schedules of whole runs",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--plain-run", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Plan, run what is missing, write the results."""
    args = arguments()
    if args.one:
        return one_process(args)
    if args.plain_run:
        from rounds import plain_run

        given = json.loads(Path(args.plain_run).read_text())
        Path(args.plain_run).with_suffix(".seconds").write_text(str(plain_run(given)))
        return None
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch
    from about import about
    from page import write_page
    from shapes import has_testbed
    from workload import COMMON, SETTINGS, Workload, control_samples_of, setting_hash

    from constraintlang_runtime.versions import versions

    torch.set_num_threads(args.threads)
    on_gpu = args.device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch finds no GPU here")
    kind = device_kind(args.device)
    shape = args.shape or ("tiny" if args.small else "7b" if on_gpu else "testbed")
    if shape == "testbed" and not has_testbed(args.shared):
        print(
            f"SKIPPED: no testbed at {args.shared.resolve()}; give --shared, or --shape tiny. Only masks and checkers run."
        )
    vocab = args.vocab or ([2000] if args.small else [32_000, 128_000] if on_gpu else [8_192])
    length = 64 if args.small else 4096 if on_gpu else 96
    batch = args.batch or (4 if args.small else 1 if on_gpu else 32)
    work = Workload(
        shape, vocab[-1], length, batch, args.device, args.bf16 and not on_gpu, on_gpu, 0,
        16 if args.small else 64 if on_gpu else 24, 0.5, args.seed, str(args.shared.resolve()),
    )  # fmt: skip
    parts = planned(args, work, vocab, on_gpu, shape != "testbed" or has_testbed(args.shared))
    common = COMMON | control_samples_of(args.device)
    hashes = {name: setting_hash({**common, **setting}) for name, setting in SETTINGS.items()}
    print(f"settings: {', '.join(f'{name} {found}' for name, found in hashes.items())}")
    print("Ratios hold for a quiet machine; other work on it makes them loose.")
    total = sum(part.minutes for part in parts)
    print(
        f"plan, about {total:.0f} minutes on two quiet cores: "
        + ", ".join(f"{p.name} {p.minutes:g}" for p in parts)
    )
    rows: list[dict[str, Any]] = []
    commands: dict[str, str] = {}
    for part in parts:
        rows += kept_or_run(part, args, work, vocab)
    if args.small:
        return None
    stored = HERE / "results" / f"{kind}.json"
    if args.only and stored.exists():  # the other parts stand as they were
        measured = {measurement(row) for row in rows if "not_measured" not in row or row["part"] == "gpu"}
        before = json.loads(stored.read_text())
        commands = before.get("commands", {})
        rows = [row for row in before["rows"] if measurement(row) not in measured] + rows
    origin = about("speed/run.py", [], args.seed)
    words = shlex.join(
        word for word in sys.argv[1:] if "/" not in word and word not in ("--shared", "--work")
    )
    command = f"python benchmarks/speed/run.py {words}".strip()
    commands |= dict.fromkeys((part.name for part in parts), command)
    record = {
        "device_kind": kind, "headline_ratios": headlines(rows), "rows": rows,
        "command": command,
        "commands": commands, "versions": versions(), "seeds": [args.seed],
        "machine": origin["machine"], "commit": origin["commit"], "threads": args.threads, "setting_hashes": hashes,
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }  # fmt: skip
    stored.parent.mkdir(exist_ok=True)
    stored.write_text(json.dumps(record, indent=1) + "\n")
    write_page(record, stored.with_suffix(".html"))
    print(f"headlines: {record['headline_ratios']}; {stored} and {stored.with_suffix('.html').name}")
    return None


def measurement(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a new row takes the place of: a part at one shape and vocabulary; of whole runs each by itself."""
    work = row.get("workload", {})
    found = (row["part"], *(work.get(key) for key in ("shape", "vocab", "lora_r") if isinstance(work, dict)))
    if row["part"] == "vocabulary":
        return (*found, row["vocab"])
    return (*found, row["system"], row.get("scale"), row.get("epochs", 1)) if row["part"] == "run" else found


def planned(
    args: argparse.Namespace, work: Any, vocab: list[int], on_gpu: bool, has_model: bool
) -> list[Part]:
    """The parts of this call, with what they take."""
    import decoding
    import masks
    import parts
    import rounds
    import steps
    import torch
    from about import about
    from timing import OUT_OF_MEMORY, freed

    script = Path(__file__).resolve()
    wanted = steps.options(args.options or ("main" if args.small else "all"))
    main = steps.options("main")
    if on_gpu:  # what an epoch costs in which no row comes twice
        main |= steps.options("default, anchor not cached")
        wanted = main if args.options == "main" else wanted
    repeats = args.repeats or (3 if args.small else 12)
    few = max(3, repeats // 3)
    scale = args.scale or (0.01 if args.small else 0.1)
    lengths = args.length or ([32, 64] if args.small else [512, 2048, 8192] if on_gpu else [128, 256, 512])
    every = [replace(work, vocab=size) for size in (vocab if work.shape != "testbed" else vocab[:1])]
    line = replace(
        work, shape="tiny" if not on_gpu else "1b", batch=2, vocab=8_000 if not on_gpu else 128_000
    )
    hidden = 4096 if on_gpu else 256
    sizes = vocab if args.small or args.vocab else [32_000, 128_000, 152_000]
    tokens = 3_000_000 if on_gpu else 2_000_000
    epochs = args.epochs or ([1, 3] if on_gpu and not args.small else [1])
    commit = about("", [], 0)["commit"]
    many_rows = (
        replace(work, batch=32) if on_gpu else work
    )  # sampling and decoding are not of a step's few rows

    def each(
        part: str, call: Callable[[Any], list[dict[str, Any]]], works: list[Any]
    ) -> list[dict[str, Any]]:
        found = []
        for one in works:
            try:
                found += [row | {"part": part} for row in call(one)]
            except torch.OutOfMemoryError:
                found.append(
                    {"part": part, "system": "all", "workload": one.to_json(), "not_measured": OUT_OF_MEMORY}
                )
            freed()  # trainers are held by cycles, and the next model may need the room
        return found

    def whole_runs(one: Any) -> list[dict[str, Any]]:
        folder = args.work.resolve() / f"run-{one.shape}-{one.vocab}"
        return [
            row for count in epochs for row in rounds.runs(
                one, folder, script, tokens=tokens, scale=scale, repeats=args.runs, threads=args.threads,
                schedules=tuple(args.schedules), epochs=count, commit=commit, again=args.again,
            )
        ]  # fmt: skip

    many = [replace(line, length=size) for size in lengths]
    adapted = [replace(one, lora_r=16) for one in every]
    found = [
        Part("step", 4, lambda: each("step", lambda one: steps.step_times(one, wanted, repeats), every)),
        Part("lora", 1.5, lambda: each("lora", lambda one: steps.step_times(one, main, repeats), adapted)),
        Part("memory", 2.5, lambda: each("memory", lambda one: steps.step_memory(one, main, script), [*every, *adapted])),
        Part("parts", 1, lambda: each("parts", lambda one: parts.round_parts(one, few), [many_rows])),
        Part("vocabulary", 1.5, lambda: parts.vocabulary_losses(sizes, hidden, args.device, True, few)),
        Part("length", 2, lambda: each("length", lambda one: steps.step_times(one, main, few), many)),
        Part("run", 90 * scale * sum(epochs) * len(every), lambda: each("run", whole_runs, every)),
        Part("decode", 1, lambda: each("decode", lambda one: decoding.decoding(one, few),
             [replace(many_rows, new_tokens=max(64, work.new_tokens))])),
    ] if has_model else []  # fmt: skip
    small = args.small
    found += [
        Part("masks", 0.5, lambda: masks.token_masks(5_000 if small else 128_000, 50 if small else 400, 8, args.seed)),
        Part("checkers", 1, lambda: masks.checkers(2_000 if small else 50_000, 3, args.seed)
             + masks.checkers_by_clauses([5, 10, 25, 50, 100], 1_000 if small else 10_000, 3, args.seed)),
    ]  # fmt: skip
    if not on_gpu:
        found.append(Part("gpu", 0, gpu_rows))
    return [part for part in found if args.only is None or part.name in args.only]


def gpu_rows() -> list[dict[str, Any]]:
    """What only a GPU can measure, as rows that say so."""
    measures = {
        "4,096-token rows: step and memory, beside Liger's fused loss": "--only step --only lora --only memory",
        "loss over the vocabulary against its floor": "--only vocabulary",
        "3M tokens, 8 rounds of 1,024 samples: whole run, default and cheap": "--only run --scale 1 --epochs 1",
        "three epochs of 3M tokens: whole run, default and cheap": "--only run --scale 1 --epochs 3",
    }
    return [
        {"part": "gpu", "system": f"7b shape, V = {size // 1000}k, {what}",
         "not_measured": f"no GPU in this machine; {GPU_COMMAND} --vocab {size} {words}"}
        for size in (32_000, 128_000) for what, words in measures.items()
    ]  # fmt: skip


def kept_or_run(part: Part, args: argparse.Namespace, work: Any, vocab: list[int]) -> list[dict[str, Any]]:
    """The rows of a part: those of an earlier call with the same arguments, or measured now and kept."""
    from timing import freed

    same = {key: value for key, value in vars(args).items() if key not in ("only", "again", "work", "shared")}
    name = hashlib.sha256(json.dumps([same, work.to_json(), vocab], sort_keys=True).encode()).hexdigest()[:12]
    path = args.work / f"{part.name}-{name}.json"
    if path.exists() and not args.again and not args.small:
        print(f"{part.name}: kept from an earlier call ({path.name}); --again measures it anew")
        return list(json.loads(path.read_text()))
    began = time.perf_counter()
    rows = part.run()
    freed()
    print(f"{part.name}: {time.perf_counter() - began:.0f} s")
    for row in rows:
        print("  " + told(row), flush=True)
    if not args.small:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
    return rows


def told(row: dict[str, Any]) -> str:
    """One row as a line."""
    if "not_measured" in row:
        return f"{row['system']}: not measured: {row['not_measured']}"
    shown = ("ratio", "ratio_q1", "ratio_q3", "seconds", "floor_ratio", "measured_over_floor", "peak_mib", "memory_ratio",
             "growth_ratio", "seconds_per_unit", "us", "speed_of_hand_written", "texts_per_second", "vocab")  # fmt: skip
    return f"{row['system']}: " + ", ".join(f"{key} {row[key]}" for key in shown if key in row)


def headlines(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Median ratios of the default setting to plain fine-tuning (of guided decoding to plain generate)."""

    def of(part: str, system: str, key: str) -> float | None:
        found = [row for row in rows if row["part"] == part and row["system"] == system and key in row]
        if not found:
            return None

        def place(row: dict[str, Any]) -> tuple[float, ...]:
            """All weights trained, the largest vocabulary, the largest share of the fixed workload, one epoch of it."""
            work = row.get("workload", {})
            return (-work.get("lora_r", 0), work.get("vocab", 0), row.get("scale", 0), -row.get("epochs", 1))

        return float(max(found, key=place)[key])

    return {
        "step": of("step", "default", "ratio"),
        "run": of("run", "default, sequential", "ratio"),
        "decode": of("decode", "guided", "ratio"),
        "memory": of("memory", "default", "memory_ratio"),
    }


def device_kind(device: str) -> str:
    """`cpu`, or the name of the GPU as the estimates know it."""
    if not device.startswith("cuda"):
        return "cpu"
    import torch

    from constraintlang_runtime.estimate.this_machine import table_name

    shown = torch.cuda.get_device_name()
    return table_name(shown) or shown.lower().replace(" ", "-")


def one_process(args: argparse.Namespace) -> None:
    """The peak memory of one system, printed as JSON."""
    import torch
    from steps import peak_of_one
    from workload import Workload

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    given = json.loads(args.one)
    print(json.dumps(peak_of_one(Workload(**given["work"]), given["name"], given["changes"])))


if __name__ == "__main__":
    main()
