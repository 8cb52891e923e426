"""Batches of prompts: padded, of one length or of one prompt, so that each is drawn from the law that it has alone."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
import transformers
from tiny_models import tiny_llama, word_tokenizer

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ModelError
from constraintlang_runtime.model_checks import learned_positions
from constraintlang_runtime.prompt_batches import length_batches, prompt_batches, together
from constraintlang_runtime.sampling import sample
from constraintlang_runtime.sampling_law import SamplingLaw

TOKENIZER = word_tokenizer([f"w{i}" for i in range(37)])
WIDE = {"vocab_size": 40, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
SHAPE = {**WIDE, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {  # name: model, what a batch may hold, its configuration
    "Llama": ("LlamaForCausalLM", "padded", {**SHAPE, "num_key_value_heads": 2}),
    "Roberta": (
        "RobertaForCausalLM", "padded", {**SHAPE, "is_decoder": True, "max_position_embeddings": 64, "pad_token_id": 1}
    ),
    "Mamba": ("MambaForCausalLM", "padded", {**WIDE, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
    "Bart": (
        "BartForCausalLM", "equal",
        {**WIDE, "d_model": 16, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32,
         "max_position_embeddings": 64},
    ),
    "RecurrentGemma": (
        "RecurrentGemmaForCausalLM", "equal",
        {**SHAPE, "num_key_value_heads": 1, "lru_width": 16, "attention_window_size": 16},
    ),
    "Rwkv": (
        "RwkvForCausalLM", "alone",
        {"vocab_size": 40, "hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 2,
         "intermediate_size": 32, "context_length": 64},
    ),
}  # fmt: skip


def made(family: str) -> Any:
    """A model with laws that are far from flat."""
    name, _, options = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, name)(getattr(transformers, f"{family}Config")(**options)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2 and min(parameter.shape) > 4:
                    parameter.normal_(0.0, 0.4)
    return model


def prompts() -> list[TokenRow]:
    """Of lengths 1 to 7, some of them equal."""
    generator = torch.Generator().manual_seed(2)
    rows = [tuple(torch.randint(3, 40, (n,), generator=generator).tolist()) for n in (1, 2, 2, 5, 7, 7)]
    return [TokenRow(rows[i % 6], (), {}, False) for i in range(9)]


def greedy(model: Any, prompt: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The most probable tokens, each by a pass over the whole text before it, as training reads it."""
    ids = list(prompt)
    while len(ids) < len(prompt) + count and (len(ids) == len(prompt) or ids[-1] != 1):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_in_a_batch_has_the_law_that_it_has_alone(
    family: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Against passes over whole texts: with padding, learned positions, recurrent states, and rows that are shared."""
    model = made(family)
    how = FAMILIES[family][1]
    with caplog.at_level(logging.WARNING):
        found = sample(model, TOKENIZER, prompts(), SamplingLaw(5, temperature=0.0), seed=0, batch_size=6)
        again = sample(model, TOKENIZER, prompts(), SamplingLaw(5, temperature=0.0), seed=0, batch_size=6)
    assert [row.completion for row in found] == [greedy(model, row.prompt, 5) for row in prompts()]
    assert again == found
    assert together(model, 0) == how
    said = [one.getMessage() for one in caplog.records if one.name.startswith("constraintlang")]
    assert len(said) == (how != "padded")  # once
    assert all("which is slower" in line for line in said)


def test_places_are_batched_as_the_model_allows() -> None:
    lengths = [3, 1, 3, 2, 1, 3, 3]
    assert length_batches(lengths, 3) == [[1, 4, 3], [0, 2, 5], [6]]
    assert length_batches(lengths, 3, "equal") == [[1, 4], [3], [0, 2, 5], [6]]
    assert length_batches(lengths, 3, "alone") == [[i] for i in (1, 4, 3, 0, 2, 5, 6)]
    assert length_batches([], 3) == []


def test_half_precision_does_not_take_rounding_for_another_law() -> None:
    assert together(made("Llama").to(torch.bfloat16), 0) == "padded"


def test_prompts_that_share_no_batch_are_not_probed() -> None:
    class Unread:
        """Any use of it fails."""

    assert prompt_batches(Unread(), prompts(), 1, 0) == length_batches([len(r.prompt) for r in prompts()], 1)


def test_a_model_that_decodes_by_another_law_is_refused() -> None:
    class Forgetful(transformers.LlamaForCausalLM):
        """With a cache it turns its logits round."""

        def forward(self, *args: Any, **options: Any) -> Any:
            found = super().forward(*args, **options)
            if options.get("past_key_values") is not None and options["input_ids"].shape[1] == 1:
                found.logits = -found.logits
            return found

    model = Forgetful(tiny_llama(40).config).eval()
    model.load_state_dict(tiny_llama(40).state_dict())
    with pytest.raises(ModelError, match="Forgetful decodes by another law than training reads"):
        sample(model, TOKENIZER, prompts(), SamplingLaw(3), seed=0)


def test_positions_behind_the_paddings_are_not_counted_as_room() -> None:
    assert learned_positions(made("Roberta")) == 62
    assert learned_positions(made("Bart")) == 64


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # of peft
def test_an_adapter_under_autocast_is_no_other_law() -> None:
    """Accelerate casts the pass of the whole model; ``generate`` of an adapter calls the model inside it."""
    import peft
    from accelerate.utils import convert_outputs_to_fp32

    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(made("Llama"), config)
    model.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(model.forward))
    assert together(model, 0) == "padded"
