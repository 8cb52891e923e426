"""Models by the name of their shape, with random weights, and the testbed model beside the checkout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

MODEL_FOLDER = Path("testbed") / "lm"


@dataclass(frozen=True)
class Shape:
    """A Llama without tied embeddings."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int


SHAPES = {
    "tiny": Shape(128, 352, 4, 4, 4),
    "125m": Shape(768, 2048, 12, 12, 12),
    "1b": Shape(2048, 8192, 16, 32, 8),
    "7b": Shape(4096, 11008, 32, 32, 32),
}
NAMES = ("testbed", *SHAPES)


def make_model(name: str, vocab: int, length: int, *, device: torch.device, half: bool, shared: Path) -> Any:
    """The model of a shape on a device; ``half`` puts its weights in bfloat16 (a GPU without room for more)."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    if name == "testbed":
        return AutoModelForCausalLM.from_pretrained(shared / MODEL_FOLDER).to(device)
    shape = SHAPES[name]
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=max(2 * length, 512), tie_word_embeddings=False, pad_token_id=0, eos_token_id=1,
        bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16 if half else torch.float32)
        try:
            return LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(before)


def make_tokenizer(name: str, vocab: int, shared: Path) -> Any:
    """The testbed's tokenizer, or one word for every token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if name == "testbed":
        return AutoTokenizer.from_pretrained(shared / MODEL_FOLDER)
    words = ["<pad>", "<end>", "<unk>", *(f"w{number}" for number in range(3, vocab))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<end>"
    )


def has_testbed(shared: Path) -> bool:
    """Whether the testbed model, its classifier and its corpora are beside the checkout."""
    needed = (MODEL_FOLDER, Path("testbed") / "toxicity-classifier", Path("data") / "toxigen.parquet")
    return all((shared / part).exists() for part in needed)
