"""Statements about sentences, turns and tokens are judged on the scores of those parts, from sample to verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import World, read_jsonl, word_tokenizer, write_jsonl

from constraintc.main import main
from constraintlang import SourceFile, check_source
from constraintlang.segments import split
from constraintlang.semantics import Response, evaluate
from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.pipeline import compile_source
from constraintlang_compiler.scopes import sample_clauses
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.scorers.binding import bind_scorers
from constraintlang_runtime.scorers.parts import completion_prefixes, score_responses
from constraintlang_runtime.scorers.pool import ScoringPool

POLICY = """\
edition 1
attribute sorry: flag { backend = regex(re"sorry") }
attribute advice: flag { backend = regex(re"take \\d") }
attribute asks: flag { backend = regex(re"(?i)^user") }
attribute shout: score in [0, 1] { backend = python("acme:shout"), levels = {sentences} }
order: over sentences (sorry before advice)
calm: over sentences (globally shout < 0.5)
turns: over turns (globally (asks implies next not asks))
soon: over tokens (eventually[0, 2] sorry)
mixed: sorry implies over sentences (last or shout > 0.1)
"""
TEXTS = [
    "", "sorry. take 2", "take 2. sorry", "take 2 sorry", "sorry take 2", "HELP. me", "help. ME! sorry",
    "hi\nUser: sorry\nBot: ok", "User: a", "a b sorry", "a b c sorry", "UNKNOWN",
    "Bot: a\nUser: b. c",
]  # fmt: skip


def shout(*, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float | None]:
    """The share of capital letters; unknown for one text."""
    return [
        None if "UNKNOWN" in text else sum(c.isupper() for c in text) / max(1, sum(c.isalpha() for c in text))
        for text in completions
    ]


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Any, list[str], list[TokenRow], Any, ScoringPool]:
    ir = compile_source(SourceFile(POLICY)).ir
    tokenizer = word_tokenizer(sorted({word for text in TEXTS for word in text.split(" ")} - {""}))
    rows = [TokenRow((3,), tuple(tokenizer(text)["input_ids"]), {}, False) for text in TEXTS]
    pool = ScoringPool(ir.attributes, bind_scorers(ir, {}, {"shout": shout}, folder=tmp_path))
    return ir, TEXTS, rows, tokenizer, pool


def reference_values(texts: Sequence[str], prefixes: Sequence[Sequence[str]]) -> dict[str, list[bool | None]]:
    """What the reference interpreter says, from scores that are taken here one by one."""
    import re2

    patterns = {"sorry": "sorry", "advice": r"take \d", "asks": "(?i)^user"}

    def scores(text: str) -> dict[str, Decimal | None]:
        found: dict[str, Decimal | None] = {
            name: Decimal(int(re2.search(pattern, text) is not None)) for name, pattern in patterns.items()
        }
        (value,) = shout(prompts=[""], completions=[text])
        return {**found, "shout": None if value is None else Decimal(str(value))}

    responses = [
        Response(
            scores(text),
            {level: [scores(part) for part in split(text, level)] for level in ("sentences", "turns")}
            | {"tokens": [scores(prefix) for prefix in own]},
        )
        for text, own in zip(texts, prefixes, strict=True)
    ]
    statements = check_source(POLICY).require().statements
    return {str(s.label): [evaluate(s.formula, response) for response in responses] for s in statements}


def test_statistics_are_those_of_the_reference(
    scored: tuple[Any, list[str], list[TokenRow], Any, ScoringPool],
) -> None:
    ir, texts, rows, tokenizer, pool = scored
    clauses = sample_clauses(ir)
    scores, parts = score_responses(pool, clauses, rows, [""] * len(texts), texts, tokenizer)
    assert set(scores) == {"sorry"}  # `shout` cannot be measured on the whole, the others need not be
    assert set(parts) == {"sentences", "turns", "tokens"}
    values = statistics(clauses, scores, parts)
    prefixes = [completion_prefixes(row, tokenizer) for row in rows]
    expected = reference_values(texts, prefixes)
    assert {True, False} <= set(expected["order"]) & set(expected["soon"]) & set(expected["turns"])
    for column, clause in enumerate(clauses):
        want = [np.nan if value is None else 1.0 - value for value in expected[str(clause.label)]]
        np.testing.assert_array_equal(values[:, column], want, err_msg=str(clause.label))
    assert np.isnan(values).any()


def test_a_prefix_for_every_token_that_is_not_special() -> None:
    tokenizer = word_tokenizer(["a", "b"])
    row = TokenRow((4,), (3, 0, 4, 1), {}, False)
    assert completion_prefixes(row, tokenizer) == ["a", "a b"]
    assert completion_prefixes(TokenRow((), (1,), {}, False), tokenizer) == []


def test_scorers_get_the_prompt_and_the_tags_of_the_response_of_a_part() -> None:
    seen: list[tuple[str, str, str]] = []

    def spy(*, prompts: Sequence[str], completions: Sequence[str], lang: Sequence[str]) -> list[float]:
        seen.extend(zip(prompts, completions, lang, strict=True))
        return [0.0] * len(prompts)

    text = "attribute a: score { levels = {sentences} }\nover sentences (globally a < 0.5)\n"
    ir = compile_source(SourceFile(text)).ir
    pool = ScoringPool(ir.attributes, {"a": spy})
    rows = [TokenRow((), (), {}, False)] * 2
    score_responses(
        pool, sample_clauses(ir), rows, ["p", "q"], ["x. y", "z"], None, columns={"lang": ["en", "de"]}
    )
    assert sorted(seen) == [("p", "x.", "en"), ("p", "y", "en"), ("q", "z", "de")]


def test_the_command_judges_order(
    copied_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replies of the tiny model, judged by the verb, and again here from the texts it wrote down."""
    policy = tmp_path / "order.policy"
    policy.write_text(
        'edition 1\nattribute the: flag { backend = regex(re"^the ") }\n'
        'attribute is: flag { backend = regex(re" is ") }\n'
        "order: over sentences (eventually[0, 0] the) under tolerance=50%\n"
        "tokens: P(over tokens (not is until (is or last))) <= 99%\n"
        "base: P(over sentences (globally the)) >= base - 90%\n"
        "two: P(over sentences (globally the)) <= P(over sentences (next the@base)) + 100%\n"
    )
    prompts = write_jsonl(tmp_path / "prompts.jsonl", read_jsonl(copied_world.prompts)[:20])
    out = tmp_path / "out"
    words = [
        "eval",
        str(policy),
        "--model",
        str(copied_world.model),
        "--prompts",
        str(prompts),
        "--output",
        str(out),
    ]
    code = main([*words, "--max_new_tokens", "8", "--base", str(copied_world.model)])
    assert code in (0, 1)
    verdicts = {
        clause["clause"]: clause for clause in json.loads((out / "verdict.json").read_text())["clauses"]
    }
    assert set(verdicts) == {"order", "tokens", "base", "two"}
    assert all(clause["n"] == 20 for clause in verdicts.values())
    samples = read_jsonl(out / "samples.jsonl")
    ordered = [sample for sample in samples if sample["clause"] == "order"]
    assert len(ordered) == 20
    for sample in ordered:
        found = split(sample["completion"], "sentences")
        assert sample["statistic"] == float(not (found and found[0].startswith("the ")))
    capsys.readouterr()
