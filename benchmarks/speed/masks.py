"""Token masks at a large vocabulary, and checkers of policies with many clauses, in microseconds and texts per second."""

from __future__ import annotations

import importlib.util
import random
import statistics
import string
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
POLICY = """edition 1
attribute number: flag { backend = regex(re"[0-9]{3}-[0-9]{4}") }
attribute mail: flag { backend = regex(re"[a-z0-9.]+@[a-z0-9]+[.][a-z]+") }
attribute rude: count { backend = lexicon("rude.txt") }
always not number
always not mail
rude == 0 under tolerance=1%
"""
WORDS = ("stupid", "idiot", "moron", "fool", "scum")
END = 0


def score_benchmark() -> ModuleType:
    """The code of `benchmarks/score`, which has the fifty clauses and their hand-written peer."""
    spec = importlib.util.spec_from_file_location("score_run", HERE.parent / "score" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def token_masks(vocab: int, steps: int, batch: int, seed: int) -> list[dict[str, Any]]:
    """Microseconds of a step of the masks of three clauses about wording, at a vocabulary of random pieces of words."""
    from constraintlang import SourceFile
    from constraintlang_compiler.monitors.budget import Budget
    from constraintlang_compiler.monitors.byte_dfa import byte_automaton
    from constraintlang_compiler.monitors.token_masks import TokenMasks
    from constraintlang_compiler.monitors.vocabulary import Vocabulary
    from constraintlang_compiler.pipeline import compile_source
    from constraintlang_runtime.decoding_masks import LanguageMask, clause_language

    draw = random.Random(seed)
    alphabet = string.ascii_lowercase * 3 + string.digits + "@.-" + string.ascii_uppercase
    pieces = {bytes([byte]) for byte in range(256)}
    while len(pieces) < vocab - 1:
        piece = "".join(draw.choices(alphabet, k=draw.randint(2, 8)))
        pieces.add((" " * draw.randint(0, 1) + piece).encode())
    table = (b"", *sorted(pieces))
    vocabulary = Vocabulary(table, table, frozenset({END}))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "rude.txt").write_text("\n".join(WORDS) + "\n")
        ir = compile_source(SourceFile(POLICY, str(Path(scratch) / "masks.policy"))).ir
        attributes = {attribute.name: attribute for attribute in ir.attributes}
        budget = Budget()
        language = None
        for clause in ir.clauses:
            found = clause_language(clause, attributes, budget, lambda name: dict.fromkeys(WORDS, 1.0))
            language = found if language is None else language.joined(found, np.logical_and, budget)
    assert language is not None
    masks = TokenMasks(byte_automaton(language), vocabulary, [END])
    rows = [
        {"part": "masks", "system": "automaton and trie", "seconds": round(time.perf_counter() - began, 3), "vocab": vocab}
    ]  # fmt: skip

    def walk(call: Callable[[Any, int], float]) -> list[float]:
        choose, at, found = random.Random(seed + 1), masks.start, []
        for _ in range(steps):
            token = choose.randrange(1, vocab)
            found.append(call(at, token))
            if masks.allowed(at)[token]:
                at = masks.advance(at, token)
        return found

    def timed(at: Any, token: int) -> float:
        clock = time.perf_counter()
        masks.allowed(at)
        masks.advance(at, token)
        return time.perf_counter() - clock

    for name in ("mask and step, states met for the first time", "mask and step"):
        rows.append(_microseconds(name, walk(timed), vocab))
    scores = torch.zeros(batch, vocab)
    processor = LanguageMask(masks, [END])
    ids = torch.full((batch, 4), 1)
    found = []
    choose = random.Random(seed + 2)
    for _ in range(min(steps, 100)):
        clock = time.perf_counter()
        allowed = processor(ids, scores)
        found.append(time.perf_counter() - clock)
        nexts = [choose.choice(torch.isfinite(row).nonzero().flatten().tolist()[1:]) for row in allowed]
        ids = torch.cat([ids, torch.tensor(nexts)[:, None]], dim=1)
    clock = time.perf_counter()
    scores.masked_fill(scores > 0, -torch.inf)
    least = time.perf_counter() - clock
    row = _microseconds(f"logits processor, {batch} rows", found, vocab)
    return [
        *rows,
        row | {"copy_of_scores_us": round(1e6 * least, 1), "us_per_row": round(row["us"] / batch, 2)},
    ]


def _microseconds(name: str, seconds: list[float], vocab: int) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(seconds, n=4)
    return {
        "part": "masks", "system": name, "us": round(1e6 * middle, 2), "us_q1": round(1e6 * low, 2),
        "us_q3": round(1e6 * high, 2), "vocab": vocab, "steps": len(seconds),
    }  # fmt: skip


def checkers(num_texts: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """The checkers under fifty clauses against a hand-written loop (`benchmarks/score`)."""
    return [{"part": "checkers", **row} for row in score_benchmark().fifty_clauses(num_texts, repeats, seed)]


def checkers_by_clauses(counts: list[int], num_texts: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Texts per second by the number of clauses: two in five word lists, two in five patterns, one in five lengths."""
    from constraintlang_runtime.integrations.policy import Policy

    source = score_benchmark()
    draw = random.Random(seed)
    texts = [source.make_text(draw) for _ in range(num_texts)]
    words = [
        f"{a}{b}" for a in ("stu", "idi", "mor", "foo", "scu", "tra") for b in ("pid", "ot", "on", "l", "m")
    ]
    rows: list[dict[str, Any]] = []
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            lines = ["edition 1"]
            statements = []
            for k in range(count):
                if k % 5 < 2:
                    (folder / f"l{k}.txt").write_text("\n".join(draw.sample(words, 12)) + "\n")
                    lines.append(f'attribute l{k}: count {{ backend = lexicon("l{k}.txt") }}')
                    statements.append(f"l{k} == 0 under tolerance=5%")
                elif k % 5 < 4:
                    lines.append(f'attribute p{k}: flag {{ backend = regex(re"[0-9]+-{k}[a-z]*x") }}')
                    statements.append(f"not p{k} under tolerance=5%")
                else:
                    statements.append(f"words <= {20 + k} under tolerance=5%")
            path = folder / "many.policy"
            path.write_text("\n".join([*lines, *statements]) + "\n")
            policy = Policy.load(path)
            seconds = []
            policy.judge(texts[:100])
            for number in range(repeats):
                began = time.perf_counter()
                policy.judge([f"{text} {number}" for text in texts])
                seconds.append(time.perf_counter() - began)
        middle = statistics.median(seconds)
        rows.append(
            {"part": "checkers by clauses", "system": f"{count} clauses", "clauses": count, "seconds": round(middle, 4),
             "texts_per_second": round(num_texts / middle)}
        )  # fmt: skip
    return rows
