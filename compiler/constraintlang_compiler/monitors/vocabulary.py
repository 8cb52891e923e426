"""What each token of a tokenizer adds to the text, in bytes, read from the content of ``tokenizer.json``.

A token may add something else at the beginning of a text than later (most tokenizers drop the space before the
first word), so there are two tables. Special tokens, which decoding skips, add nothing. INVARIANT: the text of
a sequence of tokens is what the first one that is not special adds at the beginning, followed by what each
other one adds later; decoders for which this is not so are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_CLEANUP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class VocabularyError(ValueError):
    """A tokenizer whose text cannot be known token by token; the message says why."""


@dataclass(frozen=True)
class Vocabulary:
    """By token id: what the token adds as the first one, and as a later one; None for an id without token."""

    first: tuple[bytes | None, ...]
    later: tuple[bytes | None, ...]
    special: frozenset[int]

    @classmethod
    def of(cls, tokenizer: Mapping[str, Any]) -> Vocabulary:
        """The tables of a tokenizer, from its ``tokenizer.json`` as plain values.

        Raises: VocabularyError.
        """
        tokens = _tokens(tokenizer)
        special = frozenset(int(t["id"]) for t in tokenizer.get("added_tokens") or () if t["special"])
        steps = _steps(tokenizer.get("decoder"))
        tables = []
        for is_first in (True, False):
            table: list[bytes | None] = [None] * (max(tokens, default=-1) + 1)
            for number, token in tokens.items():
                table[number] = b"" if number in special else _decoded(token, steps, is_first)
            tables.append(tuple(table))
        return cls(tables[0], tables[1], special)

    def text(self, ids: Sequence[int]) -> bytes:
        """The bytes of a sequence of tokens; raises KeyError for an id without token."""
        result = b""
        is_first = True
        for number in ids:
            added = (self.first if is_first else self.later)[number]
            if added is None:
                raise KeyError(number)
            result += added
            is_first = is_first and number in self.special
        return result


def _tokens(tokenizer: Mapping[str, Any]) -> dict[int, str]:
    vocabulary = tokenizer.get("model", {}).get("vocab")
    if isinstance(vocabulary, Mapping):
        tokens = {int(number): str(token) for token, number in vocabulary.items()}
    elif isinstance(vocabulary, Sequence):
        tokens = {number: str(entry[0]) for number, entry in enumerate(vocabulary)}
    else:
        raise VocabularyError("the tokenizer has no list of tokens")
    for added in tokenizer.get("added_tokens") or ():
        tokens[int(added["id"])] = str(added["content"])
    return tokens


def _steps(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The steps of the decoder, checked; none means that tokens are joined by spaces."""
    if decoder is None:
        return [{"type": "Spaces"}]
    steps = list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]
    fused = False
    for index, step in enumerate(steps):
        kind = step["type"]
        known = kind in ("ByteLevel", "ByteFallback", "Fuse", "Metaspace", "WordPiece", "Replace", "Strip")
        if kind == "Fuse":
            fused = True
        elif kind == "Replace":
            known = "String" in step["pattern"] and not fused
        elif kind == "Strip":
            # Joined first, it strips the beginning of the text; it must leave its end alone.
            known = step["stop"] == 0 or not fused
        elif kind in ("ByteLevel", "ByteFallback"):
            known = not any(s["type"] in ("Replace", "WordPiece", "Metaspace") for s in steps[index + 1 :])
        if not known:
            raise VocabularyError(
                f"its decoder has the step `{kind}` where one token does not decide its text"
            )
    return steps


def _decoded(token: str, steps: Sequence[Mapping[str, Any]], is_first: bool) -> bytes:
    text: str = token
    raw: bytes | None = None  # set by the steps that make bytes
    fused = False
    for step in steps:
        match step["type"]:
            case "Spaces":
                text = text if is_first else f" {text}"
            case "ByteLevel":
                raw = _byte_level(text)
            case "ByteFallback":
                found = _BYTE_TOKEN.fullmatch(text)
                raw = bytes([int(found[1], 16)]) if found else None
            case "Fuse":
                fused = True
            case "Metaspace":
                drop = is_first and step.get("prepend_scheme", "always") != "never"
                text = text.replace(step["replacement"], "" if drop else " ")
            case "WordPiece":
                text = _word_piece(text, step, is_first)
            case "Replace":
                text = text.replace(step["pattern"]["String"], step["content"])
            case "Strip":
                own = text.encode() if raw is None else raw
                raw = _stripped(own, step, start=is_first or not fused, stop=not fused)
    return text.encode() if raw is None else raw


def _word_piece(text: str, step: Mapping[str, Any], is_first: bool) -> str:
    if not is_first:
        prefix = step["prefix"]
        text = text[len(prefix) :] if text.startswith(prefix) else f" {text}"
    for dirty, clean in _CLEANUP if step["cleanup"] else ():
        text = text.replace(dirty, clean)
    return text


def _stripped(text: bytes, step: Mapping[str, Any], *, start: bool, stop: bool) -> bytes:
    content = step["content"].encode()
    for _ in range(step["start"] if start else 0):
        text = text.removeprefix(content)
    for _ in range(step["stop"] if stop else 0):
        text = text.removesuffix(content)
    return text


def _byte_level(text: str) -> bytes:
    """The bytes that a byte-level token stands for; text that is not in that alphabet stands for itself."""
    table = _byte_alphabet()
    found = [table.get(char) for char in text]
    return text.encode() if None in found else bytes(b for b in found if b is not None)


@cache
def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in byte-level vocabularies: itself where it can be seen."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
