"""Broken policies by the million against the properties of the front end: what a test of minutes cannot reach.

Every input follows from the seed and its number. The counts are written to a log after every 1,000 inputs; a run that
is started again with the same log goes on where it stopped. A failure does not stop the run: it is listed with its
number, from which ``--show`` makes the input again. A later run judges the listed inputs once more, with the code as it
is then; those that pass stand under ``repaired``.

    python benchmarks/language/fuzz.py --inputs 1000000 --seed 1
    python benchmarks/language/fuzz.py --seed 1 --show 4711
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests")]

from about import about  # noqa: E402
from policy_mutations import fuzz_input  # noqa: E402
from policy_oracle import judge  # noqa: E402

EVERY = 1_000
MAX_FAILURES = 100


def run(num_inputs: int, seed: int, log: Path, arguments: list[str]) -> dict[str, Any]:
    """Judge the inputs that the log does not have yet; returns the log."""
    state: dict[str, Any] = {
        "seed": seed,
        "inputs": 0,
        "endings": {},
        "codes": {},
        "failures": [],
        "slowest": [0, 0.0],
    }
    state["processor_seconds"] = 0.0
    if log.is_file():
        state = json.loads(log.read_text(encoding="utf-8"))
        if state["seed"] != seed:
            raise SystemExit(f"{log} is of seed {state['seed']}, not {seed}: choose another --log")
    state["about"] = about("language/fuzz.py", arguments, seed)
    again = state["failures"]
    state["failures"] = [failure for failure in again if not passes(seed, failure["input"])]
    state.setdefault("repaired", []).extend(failure for failure in again if failure not in state["failures"])
    save(state, log)
    while state["inputs"] < num_inputs:
        started = time.process_time()
        for index in range(state["inputs"], min(state["inputs"] + EVERY, num_inputs)):
            one(state, seed, index)
        state["inputs"] = min(state["inputs"] + EVERY, num_inputs)
        state["processor_seconds"] = round(state["processor_seconds"] + time.process_time() - started, 2)
        save(state, log)
        rate = state["inputs"] / state["processor_seconds"]
        print(f"{state['inputs']} inputs, {len(state['failures'])} failures, {rate:.0f}/s", flush=True)
    return state


def one(state: dict[str, Any], seed: int, index: int) -> None:
    """Judge one input and count how it ended."""
    content = fuzz_input(seed, index)
    started = time.process_time()
    try:
        verdict = judge(content)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        if len(state["failures"]) < MAX_FAILURES:
            found = f"{type(error).__name__} in {place.name}: {str(error)[:300]}"
            state["failures"].append({"input": index, "found": found})
        count(state["endings"], "failed")
    else:
        count(state["endings"], verdict.ending)
        for code in verdict.codes:
            count(state["codes"], code)
    seconds = time.process_time() - started
    if seconds > state["slowest"][1]:
        state["slowest"] = [index, round(seconds, 3)]


def passes(seed: int, index: int) -> bool:
    """Whether an input meets every property now."""
    try:
        judge(fuzz_input(seed, index))
    except Exception:
        return False
    return True


def count(counts: dict[str, int], key: str) -> None:
    """Add one."""
    counts[key] = counts.get(key, 0) + 1


def save(state: dict[str, Any], log: Path) -> None:
    """Write the log in one step, so that a stopped run leaves a whole one."""
    log.parent.mkdir(parents=True, exist_ok=True)
    fresh = log.with_suffix(".new")
    fresh.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    fresh.replace(log)


def main() -> int:
    """Run, or show one input; 1 when a property failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, default=HERE / "results" / "fuzz.json")
    parser.add_argument("--show", type=int, metavar="INPUT", help="print one input instead")
    args = parser.parse_args()
    if args.show is not None:
        print(repr(fuzz_input(args.seed, args.show)))
        return 0
    state = run(args.inputs, args.seed, args.log, sys.argv[1:])
    print(
        json.dumps(
            {key: state[key] for key in ("inputs", "endings", "failures", "repaired", "slowest")}, indent=1
        )
    )
    return 1 if state["failures"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
