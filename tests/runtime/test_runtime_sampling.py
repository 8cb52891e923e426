"""Drawing and decoding: the law of the logits, equal prompts read once, rows that have ended leave, the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import tiny_llama, word_tokenizer
from torch import Tensor
from transformers import GenerationConfig

from constraintlang_runtime import decode_loop, token_draws
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.auxiliary import AuxiliaryModel
from constraintlang_runtime.auxiliary.make import make_auxiliary
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.decode_loop import DecodeLoop
from constraintlang_runtime.decoding import Guidance
from constraintlang_runtime.errors import ConfigError, TrainingError
from constraintlang_runtime.prompt_batches import prompt_batches
from constraintlang_runtime.sampling import own_generation, sample
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.token_draws import draw_tokens

WORDS = [f"w{i}" for i in range(37)]


# ------------------------------------------------------------ draws
@pytest.mark.parametrize("size", [1, 5, 64, 65, 1000])
@pytest.mark.parametrize("scale", [0.1, 3.0, 20.0])
def test_evenly_spread_numbers_draw_each_token_by_its_mass(size: int, scale: float) -> None:
    """Of n numbers (i + ½)/n each token gets n p_v of them, but for one on either side."""
    count = 4000
    scores = scale * torch.randn(1, size, generator=torch.Generator().manual_seed(size))
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = draw_tokens(scores.expand(count, size), uniform)
    counts = torch.bincount(drawn, minlength=size)
    expected = count * torch.softmax(scores[0].double(), 0)
    assert float((counts - expected).abs().max()) <= 1.01
    assert torch.equal(drawn, drawn.sort().values)  # of ascending numbers


def test_a_token_without_mass_is_never_drawn_not_even_at_the_ends() -> None:
    scores = torch.full((4, 200), -torch.inf)
    scores[0, [3, 70, 150]] = 0.0
    scores[1, 199] = -300.0
    scores[2, 0] = 50.0
    scores[3, [64, 65]] = torch.tensor([0.0, -90.0])
    edges = [0.0, 2.0**-60, 1 / 3, 0.5, 1 - 2.0**-30, float(np.nextafter(1, 0))]
    for u in edges:
        drawn = draw_tokens(scores, torch.full((4,), u, dtype=torch.float64)).tolist()
        assert scores[range(4), drawn].isfinite().all(), (u, drawn)
        assert drawn[1:3] == [199, 0]
    assert draw_tokens(scores, torch.zeros(4, dtype=torch.float64)).tolist() == [3, 199, 0, 64]


def test_a_rows_token_is_its_own_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(9, 300, generator=generator)
    uniform = torch.rand(9, generator=generator, dtype=torch.float64)
    together = draw_tokens(scores, uniform)
    assert len(together.unique()) > 4
    alone = torch.cat([draw_tokens(s[None], u[None]) for s, u in zip(scores, uniform, strict=True)])
    assert torch.equal(together, alone)
    monkeypatch.setattr(token_draws, "AT_ONCE", 700)
    assert torch.equal(draw_tokens(scores, uniform), together)


# ------------------------------------------------------------ the loop
def ending(model: Any) -> Any:
    """The model with an end token that comes more often."""

    def hook(_module: Any, _args: Any, output: Tensor) -> Tensor:
        output[..., 1] += 2.0
        return output

    model.get_output_embeddings().register_forward_hook(hook)
    return model


class Setting:
    """A tiny model whose replies end early and late, its tokenizer, and prompts of which some are equal."""

    def __init__(self) -> None:
        self.tokenizer = word_tokenizer(WORDS)
        self.model = ending(tiny_llama(40).eval())
        generator = torch.Generator().manual_seed(1)
        distinct = [tuple(torch.randint(3, 40, (1 + i % 5,), generator=generator).tolist()) for i in range(8)]
        self.prompts = [TokenRow(distinct[i % 8], (), {}, False) for i in range(24)]
        prompt_batches(
            self.model, self.prompts, 2, 0
        )  # the probe's passes come once, before those that are counted
        self.passes: list[int] = []  # sequences in each pass
        self.model.register_forward_pre_hook(
            lambda _m, _a, options: self.passes.append(len(options["input_ids"])), with_kwargs=True
        )

    def drawn(self, seed: int = 3, batch_size: int = 12, length: int = 10, **options: Any) -> list[TokenRow]:
        self.passes.clear()
        return sample(
            self.model, self.tokenizer, self.prompts, SamplingLaw(length, **options.pop("law", {})), seed=seed,
            batch_size=batch_size, **options,
        )  # fmt: skip


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting()


def run_to_the_end(patch: pytest.MonkeyPatch) -> None:
    """As for a model or processor that cannot follow."""
    patch.setattr(decode_loop, "_moves", lambda model, options: False)


def test_the_same_tokens_whether_rows_leave_or_stay(setting: Setting) -> None:
    found = setting.drawn()
    passes = list(setting.passes)
    lengths = [len(row.completion) for row in found]
    assert min(lengths) < 5
    assert max(lengths) == 10
    with pytest.MonkeyPatch.context() as patch:
        run_to_the_end(patch)
        assert setting.drawn() == found
    assert sum(passes) < 0.8 * sum(setting.passes)
    assert passes[0] < 12  # fewer distinct prompts than rows
    assert passes[1] == 12


def test_the_most_probable_tokens_are_those_of_transformers(setting: Setting) -> None:
    found = setting.drawn(law={"temperature": 0.0})
    for row in found[:8]:
        ids = torch.tensor([row.prompt])
        whole = setting.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10, eos_token_id=1,
            pad_token_id=0,
        )  # fmt: skip
        expected = whole[0, len(row.prompt) :].tolist()
        expected = expected[: expected.index(1) + 1] if 1 in expected else expected
        assert list(row.completion) == expected


def test_the_law_is_the_models(setting: Setting) -> None:
    """First tokens after one prompt, over many rows; the temperature sharpens them."""
    prompt = setting.prompts[0]
    with torch.no_grad():
        logits = setting.model(input_ids=torch.tensor([prompt.prompt])).logits[0, -1].double()
    for temperature in (1.0, 0.5):
        law = torch.softmax(logits / temperature, 0).numpy()
        rows = sample(
            setting.model, setting.tokenizer, [prompt] * 2000, SamplingLaw(1, temperature=temperature), seed=0,
            batch_size=500,
        )  # fmt: skip
        counts = np.bincount([row.completion[0] for row in rows], minlength=40)
        error = np.sqrt(2000 * law * (1 - law))
        assert (np.abs(counts - 2000 * law) < 5 * error + 3).all()


def test_draws_follow_from_the_seed_and_leave_torchs_alone(setting: Setting) -> None:
    state = torch.random.get_rng_state()
    first = setting.drawn(seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)
    assert setting.drawn(seed=3) == first
    assert setting.drawn(seed=4) != first
    by_prompt: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for row in first:
        by_prompt.setdefault(row.prompt, set()).add(row.completion)
    assert max(map(len, by_prompt.values())) > 1  # the same prompt in three places has three replies


def test_batches_go_by_length_and_are_a_fair_part_of_each(setting: Setting) -> None:
    order = [number for batch in prompt_batches(setting.model, setting.prompts, 5, 0) for number in batch]
    assert sorted(order) == list(range(24))
    keys = [(len(setting.prompts[number].prompt), number) for number in order]
    assert keys == sorted(keys)


def guide(setting: Setting, form: str) -> Guidance:
    options: dict[str, Any] = {"auxiliary_ensemble": 2} if form == "ensemble" else {}
    config = ConstraintSettings(
        auxiliary="transformer" if form == "ensemble" else form, auxiliary_rank=4, auxiliary_width=16, **options
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        anchor = Anchor(setting.model)
        model: AuxiliaryModel = make_auxiliary(anchor, config, 2, good_bin=0)
        model.attach(anchor)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
                parameter.requires_grad_(False)
    return Guidance(model.eval(), torch.tensor([0.0, -3.0]), 1.5)


@pytest.mark.parametrize("form", ["head", "transformer", "adapter", "ensemble"])
def test_a_guide_follows_the_rows(setting: Setting, form: str) -> None:
    guidance = guide(setting, form)
    found = []
    for stays in (False, True, False):
        with pytest.MonkeyPatch.context() as patch, guidance.attached(setting.model):
            if stays:
                run_to_the_end(patch)
            found.append(setting.drawn(logits_processor=[guidance]))
    assert found[0] == found[1] == found[2]
    assert found[0] != setting.drawn()


def test_a_guide_is_not_for_beams_nor_for_drafts(setting: Setting) -> None:
    guidance = guide(setting, "head")
    asked = torch.tensor([[3, 4, 5, 3, 4, 5, 3, 4]])
    given = {"input_ids": asked, "attention_mask": torch.ones_like(asked), "logits_processor": [guidance]}
    for options in ({"num_beams": 4, "num_return_sequences": 4}, {"assistant_model": setting.model}):
        with guidance.attached(setting.model), pytest.raises(ConfigError, match="beam search or assisted"):
            setting.model.generate(**given, max_new_tokens=16, do_sample=False, pad_token_id=0, **options)


class Watching:
    """A processor that knows nothing of rows that leave."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.rows.append(len(scores))
        return scores


def test_a_processor_that_cannot_follow_keeps_all_rows(setting: Setting) -> None:
    watching = Watching()
    assert setting.drawn(logits_processor=[watching]) == setting.drawn()
    assert set(watching.rows) == {12}


def test_scores_that_are_no_numbers_end_it(setting: Setting) -> None:
    def spoiled(value: float) -> Any:
        def hook(_module: Any, _args: Any, output: Tensor) -> Tensor:
            output[-1, -1, 7] = value
            return output

        return hook

    for value in (float("nan"), float("inf")):
        handle = setting.model.lm_head.register_forward_hook(spoiled(value))
        try:
            with pytest.raises(TrainingError, match="NaN or infinities"):
                setting.drawn()
        finally:
            handle.remove()


@pytest.mark.parametrize("family", ["GPT2", "Mistral", "Mamba"])
def test_other_families_draw_the_same_whether_rows_leave_or_stay(family: str) -> None:
    """Learned positions, sliding windows shorter than the replies, and a state in the place of a cache."""
    import transformers

    shape = {
        "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.3, "sliding_window": 4,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None,
    }  # fmt: skip
    tokens = {"vocab_size": 40, "initializer_range": 0.3, "eos_token_id": 1, "bos_token_id": None}
    name, own = {
        "Mistral": ("MistralForCausalLM", shape),
        "GPT2": ("GPT2LMHeadModel", tokens | {"n_embd": 16, "n_layer": 2, "n_head": 2}),
        "Mamba": ("MambaForCausalLM", tokens | {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
    }[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, name)(getattr(transformers, f"{family}Config")(**own)).eval()
    model, tokenizer = ending(model), word_tokenizer(WORDS)
    prompts: Sequence[TokenRow] = [TokenRow((5 + i % 3,) * (1 + i % 2), (), {}, False) for i in range(8)]

    def drawn() -> list[TokenRow]:
        return sample(model, tokenizer, prompts, SamplingLaw(12), seed=1, batch_size=8)

    found = drawn()
    assert len({len(row.completion) for row in found}) > 1
    with pytest.MonkeyPatch.context() as patch:
        run_to_the_end(patch)
        assert drawn() == found


@pytest.mark.parametrize("stays", [False, True])
def test_a_loop_draws_the_same_again_and_pads_behind_the_end(stays: bool) -> None:
    loop, model = DecodeLoop(5), ending(tiny_llama(40).eval())
    ids = torch.arange(3, 19).view(8, 2)
    with pytest.MonkeyPatch.context() as patch:
        if stays:
            run_to_the_end(patch)
        twice = [
            model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, max_new_tokens=9, pad_token_id=0,
                eos_token_id=1, custom_generate=loop,
            )
            for _ in range(2)
        ]  # fmt: skip
    assert torch.equal(*twice)
    ended = (twice[0] == 1).cumsum(1) - (twice[0] == 1).int() > 0
    assert bool(ended.any())
    assert not bool(twice[0][ended].any())


# ------------------------------------------------------------ the model's own generation config
@pytest.mark.parametrize(
    "own",
    [
        {"repetition_penalty": 50.0}, {"no_repeat_ngram_size": 1}, {"suppress_tokens": [4, 5]}, {"num_beams": 2},
        {"num_return_sequences": 2, "do_sample": True}, {"min_length": 9},
    ],
    ids=lambda own: next(iter(own)),
)  # fmt: skip
def test_samples_are_of_the_law_that_is_named_whatever_the_model_says(own: dict[str, Any]) -> None:
    """transformers fills what a generation config leaves out from the model's."""
    tokenizer = word_tokenizer(WORDS)
    model = tiny_llama(len(tokenizer), seed=0)
    prompts = [TokenRow((3 + i % 5,), (), {}, False) for i in range(24)]
    law = SamplingLaw(6)
    expected = sample(model, tokenizer, prompts, law, seed=1)
    assert own_generation(model) == []
    model.generation_config = GenerationConfig(**own)
    assert sample(model, tokenizer, prompts, law, seed=1) == expected
    assert model.generation_config.to_dict() == GenerationConfig(**own).to_dict()  # it is the model's again
    assert [said.split()[0] for said in own_generation(model)] == [next(iter(own))]


def test_a_model_that_ships_with_another_temperature_is_named() -> None:
    """Its users sample by that, and a verdict at temperature 1 is not about them."""
    model = tiny_llama(len(word_tokenizer(WORDS)), seed=0)
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.9, top_k=20)
    assert own_generation(model, SamplingLaw(6)) == ["temperature 0.6", "top_p 0.9", "top_k 20"]
    assert own_generation(model, SamplingLaw(6, 0.6, 0.9, 20)) == []
