"""Packed rows: every token in its place, nothing of the neighbours seen, models that cannot keep rows apart refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_llama
from torch import Tensor, nn

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.chunked_loss import student_passes
from constraintlang_runtime.data import TokenRow, collate, prediction_sites
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.micro_batch import MicroBatch
from constraintlang_runtime.packing import check_packing, layout, num_positions

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=9)


def batch_of(lengths: list[int], seed: int = 0, vocab_size: int = 40) -> Any:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for length in lengths:
        ids = torch.randint(1, vocab_size, (length,), generator=generator).tolist()
        rows.append(TokenRow(tuple(ids[:1]), tuple(ids[1:]), {}, False))
    return replace(collate(rows, 0), packs=True)


@settings(max_examples=60, deadline=None)
@given(LENGTHS)
def test_every_token_has_its_own_place_and_its_position_in_its_row(lengths: list[int]) -> None:
    batch = batch_of(lengths)
    made = layout(batch)
    assert made.places is not None
    for each in (batch, replace(batch, packs=False)):
        size = layout(each).inputs["input_ids"].numel()
        assert num_positions(lengths, packs=each.packs) == size
    ids, positions = made.inputs["input_ids"], made.inputs["position_ids"]
    assert ids.shape == positions.shape
    assert ids.shape[1] == max(lengths)
    assert len(ids) <= len(lengths)
    assert (
        sum(lengths) <= ids.numel() < 2 * sum(lengths) + max(lengths)
    )  # first fit: at most one is half empty
    real = batch.attention_mask.bool()
    assert len(made.places[real].unique()) == sum(lengths)
    assert torch.equal(made.to_rows(ids[:, :, None].float())[real].squeeze(-1).long(), batch.input_ids[real])
    columns = torch.arange(max(lengths)).expand_as(batch.input_ids)
    assert torch.equal(made.to_rows(positions[:, :, None].float())[real].squeeze(-1).long(), columns[real])
    for sequence in positions.tolist():  # as transformers reads them: a step that is not 1 begins another row
        starts = [i for i, p in enumerate(sequence) if i == 0 or p != sequence[i - 1] + 1]
        assert all(sequence[i] == 0 for i in starts)


@pytest.mark.parametrize(
    ("corpus", "sampled", "packs", "passes"),
    [
        ([30], [4], True, 2),  # 34 positions in place of 60
        ([30, 10], [4], True, 1),  # the sample finds room beside the row of 10
        ([30, 10], [4], False, 2),
        ([30, 30], [29, 28], True, 1),
    ],
)
def test_short_samples_go_apart_from_long_rows_where_that_saves_positions(
    corpus: list[int], sampled: list[int], packs: bool, passes: int
) -> None:
    joined = replace(batch_of(corpus + sampled), packs=packs)
    batch = MicroBatch(joined.rows(torch.arange(len(corpus))), joined)
    found = student_passes(batch, apart=True)
    assert len(found) == passes
    assert torch.cat(found).tolist() == list(range(len(corpus + sampled)))
    assert len(student_passes(batch, apart=False)) == 1


def model_of(family: str) -> Any:
    import transformers

    shape = {
        "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.3, "pad_token_id": 0,
        "sliding_window": 4,
    }  # fmt: skip
    small = {"vocab_size": 40, "initializer_range": 0.3}
    name, own = {
        "Gemma2": ("Gemma2ForCausalLM", shape),
        "Mistral": ("MistralForCausalLM", shape),
        "GPT2": ("GPT2LMHeadModel", small | {"n_embd": 16, "n_layer": 2, "n_head": 2}),
        "Mamba": ("MambaForCausalLM", small | {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
    }[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(transformers, name)(getattr(transformers, f"{family}Config")(**own))


@pytest.mark.parametrize("family", ["Gemma2", "Mistral", "GPT2"])
def test_packed_rows_see_themselves_alone(family: str) -> None:
    """Sliding windows of 4 tokens, learned positions: the logits and the gradient of padded rows."""
    model = model_of(family).eval()
    check_packing(model)
    batch = batch_of([11, 5, 6, 3, 2, 1])
    real = batch.attention_mask.bool()
    found = []
    for each in (batch, replace(batch, packs=False)):
        made = layout(each)
        assert (len(made.inputs["input_ids"]) < 6) == each.packs
        model.zero_grad()
        logits = made.to_rows(model(**made.inputs).logits)[real]
        logits.log_softmax(-1)[:, 7].sum().backward()
        found.append((logits.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-3, rtol=1e-3)


def test_an_anchor_reads_packed_rows_as_it_reads_rows() -> None:
    model = tiny_llama(40)
    batch = batch_of([9, 4, 3, 2])
    sites = prediction_sites(batch.region)
    anchor = Anchor.snapshot(model)
    packed, rows = anchor.read(batch, sites), anchor.read(replace(batch, packs=False), sites)
    for mine, its in zip(packed, rows, strict=True):  # logits; hidden states and their running means
        torch.testing.assert_close(mine, its, atol=1e-4, rtol=1e-4)


class Summing(nn.Module):
    """A model that sees everything before a position, whatever the positions say."""

    def __init__(self, *, takes_positions: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.config: Any = tiny_llama(40).config
        self._takes_positions = takes_positions

    def forward(self, input_ids: Tensor, **arguments: Any) -> Any:
        if "position_ids" in arguments and not self._takes_positions:
            raise TypeError("got an unexpected keyword argument 'position_ids'")
        hidden = self.embed(input_ids).cumsum(1)
        return type("Output", (), {"logits": hidden @ self.embed.weight.T})


def test_models_that_mix_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="see each other"):
        check_packing(Summing(takes_positions=True))
    with pytest.raises(ConfigError, match="takes no positions"):
        check_packing(Summing(takes_positions=False))
    with pytest.raises(ConfigError, match="packing"):
        check_packing(model_of("Mamba"))
    flash = tiny_llama(40)
    flash.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(ConfigError, match="flash_attention_2"):
        check_packing(flash)
