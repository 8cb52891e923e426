"""How long after a key press the findings come: ``python benchmarks/editor/run.py``.

Starts ``constraintc lsp`` as an editor does, opens a policy of 500 lines, types in it at places drawn with a fixed seed,
and measures from sending each change to receiving the findings of that version. Writes ``results/editor.json``.
Needs the extra ``lsp``.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from lsp_client import LspClient  # noqa: E402  # the client of the tests

LINES, KEYS, SEED = 500, 400, 0
RESULT = Path(__file__).parent / "results" / "editor.json"
URI = (Path(__file__).parent / "typed.policy").absolute().as_uri()

HEAD = """edition 1
import "std/safety.policy" as safety
let cap = 0.1
let half = cap / 2
attribute grade: real in [0, 20] higher_is_better { backend = python("acme:grade") }
attribute greets: flag { backend = regex(re"^Hello") }
domain chat { source = jsonl("chat.jsonl"), tags = {lang, topic} }
tag lang in {en, de, fr}
"""
KINDS = (
    "s{i}: toxicity < cap for domain=chat and lang=en",
    "s{i}: mean(toxicity) <= 0.{i} for domain=chat",
    "s{i}: P(words > {i}) <= 5% for lang in {{en, de}} under temperature=0.7, samples=4",
    "# what the review of the third quarter asked for",
    's{i}: always not greets or words > 3 because "counsel {i}"',
    "",
    "s{i}: quantile(words, 0.9) <= {i} per lang",
    "s{i}: prefer mean(grade) >= 1.{i} weight 0.5",
    "s{i}: over sentences (globally (toxicity < 0.{i} implies eventually[0, 2] words < 40))",
    "s{i}: mean(toxicity) <= 0.9 * base",
    "s{i}: toxicity < 0.{i} and words in [1, {i}] and (greets implies safety.hate < 0.5)",
)
GROUP = "group g{i} for domain=chat and topic=t{i} under tolerance=2% {{\n  a{i}: safety.hate < 0.{i}\n  b{i}: mean(words) <= {i}\n}}"
TEST = 'test "t{i}" {{\n  given toxicity = 0.9\n  fail on s{j}\n}}'


def policy(lines: int) -> str:
    """A policy of so many lines: declarations, statements of all kinds, groups and tests."""
    text, i = HEAD, 9
    while text.count("\n") < lines:
        i += 1
        kind = KINDS[i % len(KINDS)].format(i=i)
        if i % 23 == 0:
            kind = GROUP.format(i=i)
        if i % 41 == 0:
            j = next(k for k in range(i, 0, -1) if k % 23 and k % len(KINDS) == 0)
            kind = TEST.format(i=i, j=j)
        text += kind + "\n"
    return "\n".join(text.split("\n")[: lines - 3]) + "\n"


def keys(text: str, number: int) -> list[tuple[str, str]]:
    """What is pressed and the text after it: stretches of typing, half of it inside words, some new lines."""
    drawn = random.Random(SEED)
    found: list[tuple[str, str]] = []
    while len(found) < number:
        at = drawn.randrange(len(text))
        typed = drawn.choice(
            ["0", "x", "\n", "# a note\n", "new: toxicity < 0.3\n", "let a = 1\n", "(", "<delete>"]
        )
        if typed.endswith("\n"):
            at = text.rfind("\n", 0, at) + 1
        before = text
        for char in [typed] if typed == "<delete>" else typed:
            text = text[:at] + text[at + 1 :] if char == "<delete>" else text[:at] + char + text[at:]
            at += 1
            found.append((char, text))
        if drawn.random() < 0.7:  # most of what breaks the file is taken back
            text = before
            found.append(("undo", text))
    return found[:number]


def main() -> None:
    """Measure, print and write."""
    text = policy(LINES)
    seconds: list[float] = []
    worst = ("", 0.0)
    with LspClient() as client:
        client.initialize()
        began = time.perf_counter()
        at_first = client.open(URI, text)
        opened = time.perf_counter() - began
        for version, (key, changed) in enumerate(keys(text, KEYS), start=2):
            began = time.perf_counter()
            client.change(URI, version, changed)
            client.findings(URI, version)
            seconds.append(time.perf_counter() - began)
            worst = max(worst, (key, seconds[-1]), key=lambda pair: pair[1])
            time.sleep(0.02)  # nobody types faster
        client.end()
    ordered = sorted(seconds)
    result = {
        "lines": text.count("\n"),
        "findings_at_first": len(at_first),
        "keys": len(seconds),
        "milliseconds": {
            "median": round(1000 * statistics.median(ordered), 1),
            "p95": round(1000 * ordered[int(0.95 * len(ordered))], 1),
            "worst": round(1000 * ordered[-1], 1),
            "opening": round(1000 * opened, 1),
        },
        "worst_key": worst[0],
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average": round(os.getloadavg()[0], 1),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
