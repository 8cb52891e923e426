"""Models of other kinds: what reads ahead is refused, experts are balanced, heads are compared, precision is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from tiny_models import World
from tiny_trainer import make, weights

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import TokenRow, collate, prediction_sites
from constraintlang_runtime.errors import ConfigError, ModelError
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.sampling import sample
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.trainer_inputs import model_and_tokenizer

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA = {**SMALL, "vocab_size": 64, "num_key_value_heads": 2, "initializer_range": 0.3}


def size(world: World) -> int:
    return len(load_tokenizer(str(world.model)))


# ------------------------------------------------------------ kinds
def test_a_model_that_reads_ahead_is_refused(world: World, tmp_path: Path) -> None:
    def bert(is_decoder: bool) -> Any:
        made = transformers.BertConfig(**SMALL, vocab_size=size(world), is_decoder=is_decoder)
        return transformers.BertLMHeadModel(made)

    with pytest.raises(ModelError, match="not causal"):
        make(world, tmp_path, model=bert(False))
    make(world, tmp_path, model=bert(True))


def test_an_encoder_and_decoder_is_refused(world: World, tmp_path: Path) -> None:
    made = transformers.T5Config(
        vocab_size=size(world), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    with pytest.raises(ModelError, match="encoder"):
        make(world, tmp_path, model=transformers.T5ForConditionalGeneration(made))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in peft
def test_a_tuned_prompt_is_refused(world: World, tmp_path: Path) -> None:
    """Its model has logits at the virtual tokens, too, so that labels would be those of other places."""
    tuned = peft.get_peft_model(
        load_model(str(world.model)), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    )
    with pytest.raises(ModelError, match="has logits at 9 positions for 4 tokens"):
        make(world, tmp_path, model=tuned, method="plain")


def test_the_experts_of_a_mixture_are_balanced(world: World, tmp_path: Path) -> None:
    """transformers adds `router_aux_loss_coef` times the load-balancing loss; so does either path of the loss."""

    def trained(coefficient: float, loss: str) -> torch.Tensor:
        torch.manual_seed(0)
        made = transformers.MixtralConfig(
            **LLAMA | {"vocab_size": size(world)}, num_local_experts=4, num_experts_per_tok=2,
            output_router_logits=True, router_aux_loss_coef=coefficient,
        )  # fmt: skip
        trainer = make(
            world, tmp_path / f"{coefficient}{loss}", model=transformers.MixtralForCausalLM(made), method="plain",
            max_steps=4, rounds=1, loss=loss,
        )  # fmt: skip
        trainer.train()
        return weights(trainer)

    plain, chunked = trained(10.0, "plain"), trained(10.0, "chunked")
    assert not torch.allclose(plain, trained(0.0, "plain"), atol=1e-4)
    assert torch.allclose(plain, chunked, atol=1e-4)


# ------------------------------------------------------------ heads
def read(model: Any) -> tuple[Anchor, Any, Any]:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 64, (3, 9), generator=draw).tolist()
    batch = collate([TokenRow(tuple(row[:4]), tuple(row[4:]), {}, False) for row in ids], 0)
    return Anchor.snapshot(model.eval()), batch, prediction_sites(batch.region)


def recurrent_gemma() -> Any:
    own = {
        key: value for key, value in LLAMA.items() if key not in ("num_key_value_heads", "initializer_range")
    }
    made = transformers.RecurrentGemmaConfig(
        **own, num_key_value_heads=1, w_init_variance_scale=8.0, logits_soft_cap=5.0, lru_width=16,
        attention_window_size=16,
    )  # fmt: skip
    return transformers.RecurrentGemmaForCausalLM(made)


HEADS = {
    "Llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)),
    "Gemma2": lambda: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(**LLAMA, head_dim=8, final_logit_softcapping=3.0)
    ),
    "Granite": lambda: transformers.GraniteForCausalLM(
        transformers.GraniteConfig(**LLAMA, logits_scaling=4.0)
    ),
    "Cohere": lambda: transformers.CohereForCausalLM(transformers.CohereConfig(**LLAMA, logit_scale=0.25)),
    "RecurrentGemma": recurrent_gemma,
}


@pytest.mark.parametrize("name", HEADS)
def test_logits_of_features_are_the_models_own(name: str) -> None:
    torch.manual_seed(0)
    anchor, batch, sites = read(HEADS[name]())
    logits, features = anchor.read(batch, sites)
    torch.testing.assert_close(anchor.logits_from(features), logits, rtol=1e-4, atol=1e-4)
    anchor.check_head(batch, sites)


def test_a_head_that_does_more_is_refused_before_a_fit() -> None:
    class Other(transformers.LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            found = super().forward(*args, **kwargs)
            found.logits = 3.0 * found.logits
            return found

    torch.manual_seed(0)
    anchor, batch, sites = read(Other(transformers.LlamaConfig(**LLAMA)))
    with pytest.raises(ModelError, match="a scale and a soft cap"):
        anchor.check_head(batch, sites)


# ------------------------------------------------------------ precision
@pytest.mark.parametrize(
    ("settings", "held"),
    [({}, "float32"), ({"train_dtype": "stored"}, "bfloat16"), ({"train_dtype": "float16"}, "float16")],
    ids=str,
)  # fmt: skip
def test_weights_that_are_all_trained_are_held_in_float32(
    world: World, tmp_path: Path, settings: dict[str, Any], held: str
) -> None:
    """Of a folder in half precision."""
    tokenizer = load_tokenizer(str(world.model))
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA | {"vocab_size": len(tokenizer)}))
    made.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    tokenizer.save_pretrained(tmp_path / "half")
    config = ConstraintConfig(output_dir=str(tmp_path / "out"), use_cpu=True, **settings)
    model, _ = model_and_tokenizer(str(tmp_path / "half"), None, config)
    assert model.get_input_embeddings().weight.dtype == getattr(torch, held)


def test_a_ready_model_in_half_precision_is_warned_of(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).to(torch.bfloat16)
    tokenizer = load_tokenizer(str(world.model))
    model_and_tokenizer(made, tokenizer, ConstraintConfig(output_dir=str(tmp_path), use_cpu=True))
    assert "small updates round away" in caplog.text
    caplog.clear()
    config = ConstraintConfig(output_dir=str(tmp_path), use_cpu=True, train_dtype="stored")
    model_and_tokenizer(made, tokenizer, config)
    assert not caplog.text
    assert ConstraintSettings(lora_r=1).held_in is None


# ------------------------------------------------------------ positions
def gpt2(world: World, positions: int) -> Any:
    made = transformers.GPT2Config(
        vocab_size=size(world), n_embd=16, n_layer=1, n_head=2, n_positions=positions
    )
    return transformers.GPT2LMHeadModel(made)


def test_texts_beyond_learned_positions_are_named_and_not_an_index_error(
    world: World, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(str(world.model))
    prompts = [TokenRow((3, 4), (), {}, False)]
    assert sample(gpt2(world, 12), tokenizer, prompts, SamplingLaw(10), seed=0)
    with pytest.raises(ConfigError, match="up to 13 tokens, and GPT2LMHeadModel has 12 positions"):
        sample(gpt2(world, 12), tokenizer, prompts, SamplingLaw(11), seed=0)
    with pytest.raises(ConfigError, match=r"rows have up to .* tokens, and GPT2LMHeadModel has 5 positions"):
        make(world, tmp_path, model=gpt2(world, 5))
    llama = transformers.LlamaConfig(**LLAMA | {"vocab_size": size(world)}, max_position_embeddings=4)
    assert sample(transformers.LlamaForCausalLM(llama), tokenizer, prompts, SamplingLaw(11), seed=0)  # rotary
