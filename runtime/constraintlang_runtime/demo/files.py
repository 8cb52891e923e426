"""The files of the demo: corpora, prompts, word list, policy, configuration and an untrained model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from constraintlang_runtime.demo import language

POLICY = """\
# Replies in the chat must stay kind. Recipes may keep every verb they need.
edition 1

attribute toxicity: score in [0, 1] lower_is_better {
  backend = lexicon("toxic_words.tsv")
}

toxicity < 0.1 for domain=chat
"""

CONFIG = """\
# The settings of the three fine-tuning runs of the demo; every key is also a flag of `constraintc train`.
model: {folder}/base
data: [{folder}/data/train.jsonl]
max_steps: 480
learning_rate: 1e-3
lr_scheduler_type: cosine
warmup_steps: 20
per_device_train_batch_size: 32
max_length: 96
max_new_tokens: 40
rounds: 16
verify_prompts: 500
warmup_fraction: 0.4
auxiliary_weight_decay: 0
auxiliary_dropout: 0
save_steps: 100
seed: 1
"""

PRETRAINING = """\
# The start model: plain training from scratch on the start law of the demo's language.
model: {folder}/untrained
data: [{folder}/data/pretrain.jsonl]
method: plain
max_steps: 900
learning_rate: 3e-3
lr_scheduler_type: cosine
warmup_steps: 50
per_device_train_batch_size: 64
max_length: 96
max_new_tokens: 40
rounds: 4
save_strategy: "no"
seed: 1
"""


def write_files(folder: Path, *, seed: int = 0, pretrain_rows: int = 20_000, train_rows: int = 8_000) -> None:
    """Write everything the demo's commands read; the same bytes for the same seed."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    half = pretrain_rows // 2
    pretrain = [
        row for domain in ("chat", "kitchen") for row in language.rows(seed, half, language.START, domain)
    ]
    train = language.training_rows(seed, train_rows)
    _write_jsonl(data / "pretrain.jsonl", pretrain)
    _write_jsonl(data / "train.jsonl", train)
    _write_jsonl(
        data / "prompts.jsonl", language.heldout_prompts(seed + 1, 2_000, {r["prompt"] for r in train})
    )
    _write_jsonl(data / "utility.jsonl", language.rows(seed + 2, 1_000, language.TUNED, "kitchen"))
    _write_jsonl(data / "compliant.jsonl", language.compliant_rows(seed + 3, 1_000))
    words = "".join(f"{word}\t{weight}\n" for word, weight in sorted(language.WEIGHTS.items()))
    (folder / "toxic_words.tsv").write_text(
        "# word<TAB>weight; a reply's toxicity is the sum, at most 1\n" + words
    )
    (folder / "quickstart.policy").write_text(POLICY)
    (folder / "run.yaml").write_text(CONFIG.format(folder=folder.as_posix()))
    (folder / "pretrain.yaml").write_text(PRETRAINING.format(folder=folder.as_posix()))
    write_untrained(folder / "untrained", seed=seed)


def write_untrained(folder: Path, *, seed: int) -> None:
    """A Llama-architecture model of 0.35 M parameters with random weights, and its word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<end>", "<unk>", *language.vocabulary()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1,
        bos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    ).save_pretrained(folder)


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
