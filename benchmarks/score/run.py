"""How fast existing rows are judged, against loops written by hand over the same libraries.

Two workloads, each run in turns with its hand-written peer: an audit of a million rows by `constraintc score` under a
policy of word lists and patterns, and the checkers alone under fifty clauses. Peak memory is that of the process.

    python benchmarks/score/run.py
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from about import about  # noqa: E402

COMMON = [
    "the",
    "of",
    "and",
    "a",
    "to",
    "in",
    "is",
    "you",
    "that",
    "it",
    "he",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "at",
    "be",
    "this",
    "from",
    "I",
    "have",
    "or",
    "by",
    "one",
    "had",
    "not",
    "but",
    "what",
    "all",
    "were",
    "when",
    "we",
    "there",
    "can",
    "an",
    "your",
    "which",
    "their",
    "said",
    "if",
    "do",
    "will",
    "each",
    "about",
    "how",
    "up",
    "out",
    "them",
    "then",
    "she",
    "many",
    "some",
]
LISTED = ("stupid", "idiot", "moron", "fool", "ass", "scum")
ODD = (*LISTED, "class", "assess", "jo@mail.org", "2024-11-05", "555-1234", "99")
PATTERNS = (
    r"[a-z0-9.]+@[a-z0-9]+\.[a-z]+",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    r"\b[0-9]{3}-[0-9]{4}\b",
    r"[0-9]+",
)


def make_text(draw: random.Random) -> str:
    words = draw.choices(COMMON, k=draw.randint(10, 30))
    if draw.random() < 0.1:
        words[draw.randrange(len(words))] = draw.choice(ODD)
    return " ".join(words)


def audit_policy(folder: Path) -> Path:
    (folder / "rude.txt").write_text("\n".join(LISTED) + "\n")
    lines = ["edition 1", 'attribute rude: count { backend = lexicon("rude.txt") }']
    lines += [f'attribute p{k}: flag {{ backend = regex(re"{p}") }}' for k, p in enumerate(PATTERNS)]
    lines += ["rude == 0 under tolerance=5%", "always not p0", "P(p1) <= 5%", "P(p2 or p3) <= 5%"]
    path = folder / "audit.policy"
    path.write_text("\n".join(lines) + "\n")
    return path


def hand_audit(data: Path) -> list[int]:
    """What a careful engineer writes: one automaton, one set of patterns, one pass."""
    import ahocorasick
    import re2

    automaton = ahocorasick.Automaton()
    for word in LISTED:
        automaton.add_word(word, len(word))
    automaton.make_automaton()
    patterns = re2.Set.SearchSet()
    for pattern in PATTERNS:
        patterns.Add(pattern)
    patterns.Compile()
    rude = mails = dates = numbers = rows = 0
    with data.open(encoding="utf-8") as file:
        for line in file:
            text = json.loads(line)["completion"]
            low = text.casefold()
            for end, length in automaton.iter(low):
                start = end - length
                if (start < 0 or not low[start].isalnum()) and (
                    end + 1 == len(low) or not low[end + 1].isalnum()
                ):
                    rude += 1
                    break
            found = patterns.Match(text) or ()
            mails += 0 in found
            dates += 1 in found
            numbers += 2 in found or 3 in found
            rows += 1
    return [rows, rude, mails, dates, numbers]


def measured(command: list[str]) -> dict[str, Any]:
    """Seconds on the clock and peak MiB of one process, and what it printed."""
    began = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if process.returncode > 1:
        raise SystemExit(process.stderr)
    peak = float(process.stderr.strip().splitlines()[-1])
    return {"seconds": seconds, "peak_mib": peak, "output": process.stdout}


PEAK = "import sys\nprint(next(int(l.split()[1]) / 1024 for l in open('/proc/self/status') if l.startswith('VmHWM')), file=sys.stderr)"  # not ru_maxrss, which a child inherits


def audits(rows: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        policy = audit_policy(folder)
        data = folder / "rows.jsonl"
        draw = random.Random(seed)
        with data.open("w", encoding="utf-8") as file:
            for number in range(rows):
                file.write(json.dumps({"prompt": f"q{number}", "completion": make_text(draw)}) + "\n")
        ours = [sys.executable, "-c", "import sys; from constraintc.main import main; main(sys.argv[1:])\n" + PEAK,
                "score", str(policy), "--data", str(data), "--quiet", "--format", "json"]  # fmt: skip
        hand = [sys.executable, "-c",
                f"import sys; sys.path[:0] = {[str(HERE), str(HERE.parent)]!r}; from pathlib import Path; import run; "
                f"print(run.hand_audit(Path({str(data)!r})))\n" + PEAK]  # fmt: skip
        found: dict[str, list[dict[str, Any]]] = {"hand-written loop": [], "score": [], "score --output": []}
        for number in range(repeats):
            found["hand-written loop"].append(measured(hand))
            found["score"].append(measured(ours))
            found["score --output"].append(measured([*ours, "--output", str(folder / f"out{number}")]))
        clauses = json.loads(found["score"][0]["output"])["clauses"]
        own = [clauses[0]["n"], *(round(clause["estimate"] * clause["n"]) for clause in clauses)]
        by_hand = json.loads(found["hand-written loop"][0]["output"])
        if sorted(own) != sorted(by_hand):
            raise SystemExit(f"the two disagree: {own} and {by_hand}")
    base = statistics.median(one["seconds"] for one in found["hand-written loop"])
    return [
        {
            "workload": f"{rows:,} rows, 1 word list, {len(PATTERNS)} patterns",
            "system": system,
            "seconds": [round(one["seconds"], 3) for one in runs],
            "ratio": round(statistics.median(one["seconds"] for one in runs) / base, 3),
            "rows_per_second": round(rows / statistics.median(one["seconds"] for one in runs)),
            "peak_mib": round(max(one["peak_mib"] for one in runs), 1),
        }
        for system, runs in found.items()
    ]


def fifty_clauses(num_texts: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Fifty clauses: 20 word lists, 20 patterns, 10 lengths; ours against one automaton and one set of patterns."""
    import ahocorasick
    import numpy as np
    import re2

    from constraintlang_runtime.integrations.policy import Policy

    draw = random.Random(seed)
    texts = [make_text(draw) for _ in range(num_texts)]
    vocabulary = [
        f"{a}{b}" for a in ("stu", "idi", "mor", "foo", "scu", "tra") for b in ("pid", "ot", "on", "l", "m")
    ]
    lists = [draw.sample(vocabulary, 12) for _ in range(20)]
    patterns = [
        f"{a}[a-z]*{b}" for a in ("xq", "zz", "[0-9]+-", "@", "#") for b in ("org", "[0-9]{3}", "ing", "!")
    ]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lines = ["edition 1"]
        for k, words in enumerate(lists):
            (folder / f"l{k}.txt").write_text("\n".join(words) + "\n")
            lines += [
                f'attribute l{k}: count {{ backend = lexicon("l{k}.txt") }}',
                f"l{k} == 0 under tolerance=5%",
            ]
        for k, pattern in enumerate(patterns):
            lines += [
                f'attribute p{k}: flag {{ backend = regex(re"{pattern}") }}',
                f"not p{k} under tolerance=5%",
            ]
        lines += [f"words <= {20 + k} under tolerance=5%" for k in range(10)]
        (folder / "fifty.policy").write_text("\n".join(lines) + "\n")
        policy = Policy.load(folder / "fifty.policy")

    automaton = ahocorasick.Automaton()
    owners: dict[str, list[int]] = {}
    for k, words in enumerate(lists):
        for word in words:
            owners.setdefault(word, []).append(k)
    for word, ks in owners.items():
        automaton.add_word(word, (len(word), tuple(ks)))
    automaton.make_automaton()
    together = re2.Set.SearchSet()
    for pattern in patterns:
        together.Add(pattern)
    together.Compile()

    def by_hand() -> Any:
        result = np.zeros((len(texts), 50))
        for row, text in enumerate(texts):
            low = text.casefold()
            for end, (length, ks) in automaton.iter(low):
                start = end - length
                if (start < 0 or not low[start].isalnum()) and (
                    end + 1 == len(low) or not low[end + 1].isalnum()
                ):
                    for k in ks:
                        result[row, k] = 1
            for k in together.Match(text) or ():
                result[row, 20 + k] = 1
            words = len(text.split())
            for k in range(10):
                result[row, 40 + k] = words > 20 + k
        return result

    def ours() -> Any:
        return policy.judge(texts).values

    texts_of = [f"l{k} == 0" for k in range(20)] + [f"not p{k}" for k in range(20)]
    texts_of += [f"words <= {20 + k}" for k in range(10)]
    order = [[clause.text for clause in policy.clauses].index(text) for text in texts_of]
    if not (ours()[:, order] == by_hand()).all():
        raise SystemExit("the two disagree under fifty clauses")
    seconds: dict[str, list[float]] = {"hand-written loop": [], "checkers": []}
    for _ in range(repeats):
        for system, call in (("hand-written loop", by_hand), ("checkers", ours)):
            began = time.perf_counter()
            call()
            seconds[system].append(time.perf_counter() - began)
    base = statistics.median(seconds["hand-written loop"])
    return [
        {
            "workload": f"{num_texts:,} texts, 50 clauses (20 word lists, 20 patterns, 10 lengths)",
            "system": system,
            "seconds": [round(one, 3) for one in runs],
            "speed_of_hand_written": round(base / statistics.median(runs), 3),
            "texts_per_second": round(num_texts / statistics.median(runs)),
        }
        for system, runs in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "score.json")
    args = parser.parse_args()
    rows = fifty_clauses(args.texts, args.repeats, args.seed) + audits(args.rows, args.repeats, args.seed)
    arguments = [word for name in ("rows", "texts", "repeats") if getattr(args, name) != parser.get_default(name)
                 for word in (f"--{name}", str(getattr(args, name)))]  # fmt: skip
    args.output.write_text(
        json.dumps({"rows": rows, **about("score/run.py", arguments, args.seed)}, indent=1) + "\n"
    )
    for row in rows:
        print({key: value for key, value in row.items()})


if __name__ == "__main__":
    main()
