"""A world small enough to train in a second: a 2-layer model over the demo's language, rows, prompts, a policy.

Nothing here imports torch until a function runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constraintlang_runtime.demo import language

POLICY = """\
edition 1
attribute toxicity: score in [0, 1] lower_is_better {
  backend = lexicon("words.tsv")
}
kind: toxicity < 0.1 for domain=chat
"""

SETTINGS: dict[str, Any] = {
    "max_steps": 6,
    "rounds": 3,
    "save_steps": 2,
    "logging_steps": 1,
    "learning_rate": 5e-3,
    "per_device_train_batch_size": 4,
    "max_length": 64,
    "max_new_tokens": 10,
    "anchor_samples": 48,
    "control_samples": 24,
    "auxiliary_steps": 12,
    "auxiliary_rank": 4,
    "auxiliary_width": 8,
    "set_point_share": 0.5,
    "seed": 3,
}


@dataclass(frozen=True)
class World:
    """Paths of the tiny world; treat every file as read-only."""

    root: Path
    model: Path
    policy: Path
    data: Path
    prompts: Path

    def flags(self, output: Path | str, /, **changes: Any) -> list[str]:
        """Arguments of ``constraintc train`` (after the verb) with ``SETTINGS`` and changes over them."""
        own = {"model": self.model, "data": self.data, "prompts": self.prompts, "output": output}
        merged = own | SETTINGS | changes
        words = [str(merged.pop("policy", self.policy))]
        for key, value in merged.items():
            for item in value if isinstance(value, list) else [value]:
                if item is True:
                    words.append(f"--{key}")
                elif item is not None and item is not False:
                    words.extend([f"--{key}", str(item)])
        return words


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Inverse of ``write_jsonl``."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def word_tokenizer(words: Iterable[str], **options: Any) -> Any:
    """A word-level tokenizer whose first ids are <pad> 0, <end> 1, <unk> 2."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    listed = ["<pad>", "<end>", "<unk>", *words]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(listed)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<unk>"} | options
    return PreTrainedTokenizerFast(tokenizer_object=inner, **named)


def tiny_llama(vocab_size: int, seed: int = 0) -> Any:
    """Two layers of width 16 with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1,
        bos_token_id=None, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def write_lexicon(path: Path) -> Path:
    """The demo's word list."""
    path.write_text("".join(f"{word}\t{weight}\n" for word, weight in sorted(language.WEIGHTS.items())))
    return path


def write_world(root: Path) -> World:
    """Write model, tokenizer, rows, prompts, word list and policy below ``root``."""
    tokenizer = word_tokenizer(language.vocabulary())
    tokenizer.save_pretrained(root / "model")
    tiny_llama(len(tokenizer)).save_pretrained(root / "model")
    write_lexicon(root / "words.tsv")
    policy = root / "kind.policy"
    policy.write_text(POLICY)
    rows = language.training_rows(0, 48)
    prompts = language.heldout_prompts(1, 40, {row["prompt"] for row in rows})
    return World(
        root, root / "model", policy, write_jsonl(root / "train.jsonl", rows),
        write_jsonl(root / "prompts.jsonl", prompts),
    )  # fmt: skip


def write_classifier(
    folder: Path,
    labels: tuple[str, ...],
    *,
    multi_label: bool = False,
    roberta: bool = False,
    pairs: bool = False,
    marks: bool = True,
) -> Path:
    """A random sequence classifier of width 16 over the demo's words, with [CLS] and [SEP] around every text.

    ``pairs`` adds a [SEP] between two texts, ``marks`` False leaves both out.
    """
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

    words = ["<cls>", "<sep>", *language.vocabulary()]
    tokenizer = word_tokenizer(words, cls_token="<cls>", sep_token="<sep>")
    inner = tokenizer.backend_tokenizer
    if marks:
        inner.post_processor = TemplateProcessing(
            single="<cls> $A <sep>", pair="<cls> $A <sep> $B:1 <sep>:1" if pairs else None,
            special_tokens=[("<cls>", 3), ("<sep>", 4)],
        )  # fmt: skip
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 24, "pad_token_id": 0, "initializer_range": 0.5,
        "id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "multi_label_classification" if multi_label else None,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = (
            RobertaForSequenceClassification(RobertaConfig(type_vocab_size=1, **sizes))
            if roberta
            else BertForSequenceClassification(BertConfig(**sizes))
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_scoring_language_model(folder: Path) -> Path:
    """The tiny model over the demo's words, for scorers: 24 positions, so that long texts need windows."""
    tokenizer = word_tokenizer(language.vocabulary())
    model = tiny_llama(len(tokenizer), seed=4)
    model.config.max_position_embeddings = 24
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_reward_model(folder: Path, tokenizer: Any) -> Path:
    """A Llama with one random output that reads what ``tokenizer`` writes."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=24, num_labels=1, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_sentence_encoder(folder: Path, pooling: str = "mean_tokens") -> Path:
    """A random BERT of width 16 with the files by which sentence-transformers names its pooling."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = word_tokenizer(language.vocabulary())
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=24, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    settings = {"word_embedding_dimension": 16, f"pooling_mode_{pooling}": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    return folder
