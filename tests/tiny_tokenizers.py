"""Small tokenizers of every family, each trained or written out in a moment; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "my number is 123-45-6789, ok?",
    "the cat isn't on the mat.",
    "Grüße aus Köln, das ist schön!",
    "call 555-1234 now. 語 and 😀",
    "I can't help with that , sorry",
]
END, UNKNOWN = "<end>", "<unk>"


def byte_level_bpe() -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def bytes_fall_back() -> Tokenizer:
    """As Llama 2 and Mistral: pieces with ▁ for the space, and a token for every byte."""
    letters = ["▁", *"abcdefghilmnorstuü123456789-.'"]
    pieces = ["▁t", "he", "▁the", "is", "▁is", "12", "123", "▁▁"]
    names = [UNKNOWN, END, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *pieces]
    merges = [
        ("▁", "t"),
        ("h", "e"),
        ("▁t", "he"),
        ("i", "s"),
        ("▁", "is"),
        ("1", "2"),
        ("12", "3"),
        ("▁", "▁"),
    ]
    tokenizer = Tokenizer(
        models.BPE({name: i for i, name in enumerate(names)}, merges, unk_token=UNKNOWN, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([UNKNOWN, END])
    return tokenizer


def unigram() -> Tokenizer:
    """As T5: pieces with ▁ and scores."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=[UNKNOWN, END], unk_token=UNKNOWN, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    """As BERT: pieces inside words begin with ##."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=140, special_tokens=[UNKNOWN, END], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def words() -> Tokenizer:
    """Whole words, joined by spaces."""
    found = sorted({word for line in CORPUS for word in line.split()})
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate([UNKNOWN, END, *found])}, unk_token=UNKNOWN)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([UNKNOWN, END])
    return tokenizer


FAMILIES: dict[str, Callable[[], Any]] = {
    "byte_level_bpe": byte_level_bpe,
    "bytes_fall_back": bytes_fall_back,
    "unigram": unigram,
    "word_piece": word_piece,
    "words": words,
}
