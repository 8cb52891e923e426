"""One round by the published research code's procedure and one of ours at the same sizes: seconds of every phase.

Same model, prompts, samples per prompt, new tokens, classifier, optimizer steps and rows per step. Theirs is
``research_procedure.py``; ours is one run of `constraintc train` with one round (`--anchor start`), by default and in
its cheap form (`--anchor current --prefixes corpus --training_rows given`, all rows under the policy). Ours trains on corpus
rows with a language-model loss as well, which theirs does not: `ratio` has that in our seconds, `ratio_beyond_plain` takes
plain fine-tuning on the same rows out of them. Theirs is timed as it was described, with the graph of base and second
network kept, and without. Repeats take turns.

    python benchmarks/speed/research_round.py --shared ../shared
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from research_procedure import (
    SecondNetwork,
    fit_second_network,
    sample_by_prompt,
    score_by_prompt,
    tune_student,
)

from constraintlang_compiler.pipeline import compile_path
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import encode_rows, prompt_rows
from constraintlang_runtime.integrations.policy import Policy
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.run_settings import defaults, settings
from constraintlang_runtime.train_run import train
from constraintlang_runtime.versions import versions

HERE = Path(__file__).parent
PHASES = ("sampling", "scoring", "fitting", "training")
POLICY = "toxicity < 0.5 for domain=toxigen under tolerance=10%\n"
PLAIN = "plain fine-tuning on our rows"
OURS: dict[str, dict[str, Any]] = {
    PLAIN: {"method": "plain"},
    "ours": {"anchor": "start"},
    "ours, cheap": {"anchor": "current", "prefixes": "corpus", "training_rows": "given"},
}
THEIRS = {"research code's procedure": True, "research code's procedure, graph not kept": False}


def main() -> None:
    """Time the systems in turns, print the JSON and store it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="folder with data/ and testbed/"
    )
    parser.add_argument("--model", help="folder or hub id; the testbed's model when not given")
    parser.add_argument("--classifier", help="PATH#LABEL; the testbed's when not given")
    parser.add_argument("--prompts", type=int, default=64, help="prompts of the round")
    parser.add_argument("--samples", type=int, default=32, help="completions of each prompt")
    parser.add_argument("--new_tokens", type=int, default=24, help="length cap of a completion")
    parser.add_argument("--batch", type=int, default=32, help="rows of an optimizer step")
    parser.add_argument(
        "--layers", type=int, help="of their second network; a quarter of the base's when not given"
    )
    parser.add_argument(
        "--auxiliary_steps",
        type=int,
        default=defaults(ConstraintConfig)["auxiliary_steps"],
        help="of our fit; the command's default",
    )
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each system")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "research_round.json")
    args = parser.parse_args()
    if not (args.shared / "data" / "toxigen.parquet").is_file():
        print(f"SKIPPED: no corpora at {args.shared.resolve()}; give --shared")
        return
    torch.set_num_threads(args.threads)
    statements = read_statements(args.shared)
    model = args.model or str(args.shared / "testbed" / "lm")
    classifier = args.classifier or f"{args.shared / 'testbed' / 'toxicity-classifier'}#toxic"
    result = measure(model, classifier, statements, args)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def read_statements(shared: Path) -> list[str]:
    """The annotated ToxiGen statements, in an order of their own."""
    import pyarrow.parquet as parquet

    rows = parquet.read_table(shared / "data" / "toxigen.parquet").to_pylist()
    return sorted({row["text"].strip() for row in rows if row["source"] == "annotated"} - {""})


def measure(model: str, classifier: str, statements: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every phase and system: medians over the repeats, and the ratio of the rounds."""
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in (*THEIRS, *OURS)}
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), statements, args)
        for number in range(args.repeats + 1):  # the first warms up and is not kept
            for name in seconds:
                started = time.perf_counter()
                if name in THEIRS:
                    found = their_round(model, classifier, files, args, THEIRS[name])
                else:
                    found = our_round(model, classifier, files, args, OURS[name])
                print(f"{name}: {time.perf_counter() - started:.1f} s, {_rounded(found)}", file=sys.stderr)
                if number:
                    seconds[name].append(found)
    systems = {name: summary(rounds) for name, rounds in seconds.items()}
    theirs = next(iter(THEIRS))
    return {
        "command": "python benchmarks/speed/research_round.py", "model": model, "device": str(args.device),
        "sizes": {
            "prompts": args.prompts, "samples_per_prompt": args.samples, "new_tokens": args.new_tokens,
            "batch": args.batch, "steps": args.prompts * args.samples // args.batch, "passes": 1,
            "auxiliary_steps": args.auxiliary_steps,
            "second_network_layers": args.layers or "a quarter of the base's",
        },
        "repeats": args.repeats, "threads": args.threads, "systems": systems,
        "ratio": {name: systems[theirs]["round"] / systems[name]["round"] for name in OURS if name != PLAIN},
        "ratio_beyond_plain": {
            name: systems[theirs]["round"] / (systems[name]["round"] - systems[PLAIN]["round"])
            for name in OURS if name != PLAIN
        },
        "versions": versions(), "cores": os.cpu_count(),
    }  # fmt: skip


def summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over rounds of each phase and of their sum, the least and most of the sum."""
    totals = [sum(one.values()) for one in rounds]
    phases = {phase: statistics.median(one[phase] for one in rounds) for phase in PHASES}
    return phases | {"round": statistics.median(totals), "least": min(totals), "most": max(totals)}


def write_files(folder: Path, statements: list[str], args: argparse.Namespace) -> dict[str, Path]:
    """Policy, corpus rows for every step, and the prompts of the round: beginnings of four words."""
    beginnings = list(dict.fromkeys(" ".join(text.split()[:4]) for text in statements))[: args.prompts]
    rows = statements[: args.prompts * args.samples]
    files = {name: folder / name for name in ("one.policy", "rows.jsonl", "prompts.jsonl", "run")}
    files["one.policy"].write_text(POLICY)
    files["rows.jsonl"].write_text(_lines({"text": text} for text in rows))
    files["prompts.jsonl"].write_text(_lines({"prompt": text} for text in beginnings))
    return files


def our_round(
    model: str, classifier: str, files: dict[str, Path], args: argparse.Namespace, changes: dict[str, Any]
) -> dict[str, float]:
    """One run of the command's own code with one round; its seconds of every phase, as its record has them."""
    count = args.prompts * args.samples
    shutil.rmtree(files["run"], ignore_errors=True)
    given = {
        "max_steps": count // args.batch, "rounds": 1, "anchor_samples": count, "control_samples": 1,
        "max_new_tokens": args.new_tokens, "max_length": 96, "per_device_train_batch_size": args.batch, "seed": 0,
        "auxiliary_steps": args.auxiliary_steps, "bf16": True, "use_cpu": args.device == "cpu", "save_strategy": "no", "regularizer_rows": args.batch,
        "model": model, "data": [str(files["rows.jsonl"])], "prompts": [str(files["prompts.jsonl"])],
        "scorer": [f"toxicity={classifier}"], "output": str(files["run"]), **changes,
    }  # fmt: skip
    if changes.get("prefixes") == "corpus":
        del given["regularizer_rows"]
    policy = compile_path(files["one.policy"])
    run = settings(given, defaults(ConstraintConfig))
    record = train(policy, run, folder=files["one.policy"].parent)
    spent = {"sampling": 0.0, "scoring": 0.0, "fitting": 0.0}
    for entry in record["history"]:
        for key, value in entry.items():
            stage = key.rpartition("/seconds/")[2] if "/seconds/" in key else ""
            if stage in spent:
                spent[stage] += value
    return spent | {"training": record["seconds"] - sum(spent.values())}


def their_round(
    model: str, classifier: str, files: dict[str, Path], args: argparse.Namespace, keeps_graph: bool
) -> dict[str, float]:
    """Sample, score, fit, train by their procedure; loading is not counted, as it is not in ours."""
    tokenizer = load_tokenizer(model)
    base, student = (load_model(model, device=args.device, tokenizer=tokenizer) for _ in range(2))
    base.requires_grad_(False)
    layers = args.layers or -(-base.config.num_hidden_layers // 4)
    network = SecondNetwork(base, layers).to(args.device)
    policy = Policy.load(files["one.policy"], scorers={"toxicity": classifier})
    prompts = encode_rows(
        [{**json.loads(line), "domain": "toxigen"} for line in files["prompts.jsonl"].read_text().splitlines()],
        tokenizer, max_length=96, need_completion=False,
    )  # fmt: skip
    autocast = torch.autocast(torch.device(args.device).type, torch.bfloat16)
    clock = _Phases(args.device)
    torch.manual_seed(0)
    rows = sample_by_prompt(base, tokenizer, prompt_rows(prompts), args.samples, args.new_tokens)
    clock.lap("sampling")
    labels = score_by_prompt(
        rows, tokenizer, lambda p, c: policy.pool.score(p, c)["toxicity"].tolist(), args.samples
    )
    clock.lap("scoring")
    fit_second_network(network, rows, labels, pad_token(tokenizer), args.batch, autocast)
    clock.lap("fitting")
    tune_student(
        student, base, network, rows, pad_token(tokenizer), args.batch, autocast, keeps_graph=keeps_graph
    )
    clock.lap("training")
    return clock.seconds


class _Phases:
    """Seconds between laps, the device's work included."""

    def __init__(self, device: str) -> None:
        self._device, self.seconds = device, dict[str, float]()
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[phase], self._last = now - self._last, now


def _lines(rows: Any) -> str:
    return "".join(json.dumps({**row, "domain": "toxigen"}, ensure_ascii=False) + "\n" for row in rows)


def _rounded(found: dict[str, float]) -> dict[str, float]:
    return {phase: round(value, 2) for phase, value in found.items()}


if __name__ == "__main__":
    main()
