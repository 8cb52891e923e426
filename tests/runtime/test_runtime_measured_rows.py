"""Held-out rows of an evaluation: what they say of the model and the start model, with each row read once by each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_models import World, read_jsonl, tiny_llama

from constraintlang import SourceFile
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime import row_losses
from constraintlang_runtime.bet_order import bet_keys, bet_order
from constraintlang_runtime.data import encode_rows
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.loading import load_tokenizer
from constraintlang_runtime.measured_rows import MeasuredRows

POLICY = """\
edition 1
same: preserve mean(perplexity) <= 1.1 * base for domain=chat
all: preserve mean(perplexity) <= 1.2 * base
right: preserve mean(accuracy) >= 0.9 * base for domain=kitchen
"""


@pytest.fixture
def tokenizer(world: World) -> Any:
    return load_tokenizer(str(world.model))


@pytest.fixture
def rows(world: World, tokenizer: Any) -> dict[str, Any]:
    encoded = encode_rows(read_jsonl(world.data)[:12], tokenizer, max_length=64)
    return {"first": encoded[:5], "second": encoded[5:], "none": []}


def clauses() -> dict[str, Clause]:
    return {clause.name: clause for clause in compile_source(SourceFile(POLICY)).ir.clauses}


def test_what_they_say_is_what_each_model_makes_of_them(tokenizer: Any, rows: dict[str, Any]) -> None:
    models = [tiny_llama(len(tokenizer), seed) for seed in (1, 2)]
    measured = MeasuredRows(rows, *models, tokenizer, batch_size=4)
    own = [row_losses.row_losses(model, tokenizer, measured.every) for model in models]
    found = clauses()
    numbers = measured.of(found["same"])
    assert 0 < len(numbers) < len(measured.every)
    evidence = measured.evidence(
        found["same"], numbers
    )  # before the losses, whose rows lie before and behind
    said = [f"{measured.every[i].prompt}{measured.every[i].completion}" for i in numbers]
    ordered = [numbers[place] for place in bet_order(bet_keys(said))]
    np.testing.assert_allclose(evidence.model_sums, own[0][0][ordered], rtol=1e-5)
    np.testing.assert_allclose(evidence.base_sums, own[1][0][ordered], rtol=1e-5)
    np.testing.assert_array_equal(evidence.counts, own[0][1][ordered])
    losses = measured.losses()
    assert losses.pop("none") == 0.0
    for name, part in (("first", slice(0, 5)), ("second", slice(5, 12))):
        assert losses[name] == pytest.approx(own[0][0][part].sum() / own[0][1][part].sum(), rel=1e-5)
    right = measured.evidence(found["right"], measured.of(found["right"]))
    assert set(right.counts) == {1.0}


def test_no_row_is_read_twice(tokenizer: Any, rows: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, tuple[int, ...]]] = []
    original = row_losses._predictions

    def predictions(model: Any, tokenizer: Any, rows: Any, batch_size: int) -> Any:
        read.extend((model, row.ids) for row in rows)
        yield from original(model, tokenizer, rows, batch_size)

    monkeypatch.setattr(row_losses, "_predictions", predictions)
    models = [tiny_llama(len(tokenizer), seed) for seed in (1, 2)]
    measured = MeasuredRows(rows, *models, tokenizer, batch_size=4)
    measured.losses()
    for name in ("same", "all", "all", "same"):
        measured.evidence(clauses()[name], measured.of(clauses()[name]))
    assert [model for model, _ in read].count(models[0]) == 12
    assert [model for model, _ in read].count(models[1]) == 12


def test_what_is_missing_is_said(tokenizer: Any, rows: dict[str, Any]) -> None:
    model = tiny_llama(len(tokenizer))
    with pytest.raises(ConfigError, match="compares with the start model"):
        MeasuredRows(rows, model, None, tokenizer, 4).of(clauses()["same"])
    with pytest.raises(ConfigError, match="none lie in its domain"):
        MeasuredRows({}, model, model, tokenizer, 4).of(clauses()["same"])
