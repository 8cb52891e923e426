"""Rows with their domain tags, their token form, and the only place with shift-by-one and padding masks.

A row is a mapping with ``text``, or ``prompt`` (and ``completion``), or ``messages``; every other column is a tag, but
those that a chat template reads (``tools``, ``chat_template_kwargs``).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from constraintlang_runtime import chat as chats
from constraintlang_runtime.columns import Row, place_of, row_tags
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.row_files import load_rows as load_rows

IGNORED_LABEL = -100
TOGETHER = 256  # rows whose texts are tokenized in one call
MAX_CUT = 32  # a `text` row yields a prompt of k tokens, k uniform in 1..min(32, half of the tokens kept)


# ------------------------------------------------------------------------------------------------ tokens
@dataclass(frozen=True, slots=True)
class TokenRow:
    """A row as token ids: ``prompt`` then ``completion`` (with the end token when the row ends there).

    ``train_prompt`` says whether the LM loss covers the prompt too (`text` rows) or the completion alone. Conversations
    of several turns have ``spans`` instead: the parts of ``ids`` that the assistant said.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    tags: dict[str, Any]
    train_prompt: bool
    spans: tuple[tuple[int, int], ...] | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and completion together."""
        return self.prompt + self.completion

    @property
    def trained(self) -> tuple[tuple[int, int], ...]:
        """The parts of ``ids`` that the LM loss covers, as half-open spans."""
        end = len(self.prompt) + len(self.completion)
        if self.spans is None:
            return ((0 if self.train_prompt else len(self.prompt), end),)
        return tuple((start, min(stop, end)) for start, stop in self.spans if start < end)


def encode_rows(
    rows: Sequence[Row],
    tokenizer: Any,
    *,
    max_length: int,
    seed: int = 0,
    need_completion: bool = True,
    chat: bool = False,
) -> list[TokenRow]:
    """Tokenize rows; a `text` row is cut into prompt and completion after k tokens.

    k is uniform in 1..min(32, half the row's tokens that ``max_length`` leaves), drawn from a generator seeded by
    ``seed`` and the row's text, so that a row is cut alike wherever it stands. Rows longer than ``max_length`` lose
    their tail (and then do not end with the end token). ``need_completion=False`` accepts prompt-only rows. With
    ``chat`` a `prompt` text is what a user says and a `completion` text what the assistant answers, by the chat
    template; else they are taken as written.
    Raises: DataError naming the row, by its file and line where it was read from one, when it has no usable content.
    """
    encoder: chats.ChatEncoder | None = None
    encoded = []
    once: dict[int, int] = {}  # one object for each token: 8 bytes where a token stands, not 36
    ids_of = _Tokens(tokenizer)
    for number, row in enumerate(rows):
        if number % TOGETHER == 0:
            ids_of.read(rows[number : number + TOGETHER])
        place = place_of(row, number)
        spans: tuple[tuple[int, int], ...] | None = None
        train_prompt = False
        conversation, context = _conversation(row, place, chat)
        if conversation is not None:
            encoder = encoder or chats.ChatEncoder(tokenizer)
            prompt, completion, spans = encoder.encode(
                conversation, place, need_completion=need_completion, context=context
            )
            if spans == ((len(prompt), len(prompt) + len(completion)),):
                spans = None  # the completion alone
        else:
            prompt, completion, train_prompt = _encode_one(
                row, place, ids_of, seed, need_completion, max_length
            )
        room = max_length - len(prompt)
        if room < (1 if completion else 0):
            raise DataError(
                f"{place}: its prompt has {len(prompt)} tokens, max_length is {max_length}",
                help="raise --max_length or shorten the prompt",
            )
        kept, said = (
            tuple(once.setdefault(token, token) for token in ids)
            for ids in (prompt, completion[: max(room, 0)])
        )
        encoded.append(TokenRow(kept, said, row_tags(row), train_prompt, spans))
    return encoded


class _Tokens:
    """The tokens of texts, those of many rows made in one call, which is several times as fast as one for each."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def read(self, rows: Sequence[Row]) -> None:
        """Tokenize the texts of these rows; those of others are forgotten."""
        read = (row.get(name) for row in rows for name in ("prompt", "completion", "text"))
        texts = list(dict.fromkeys(text for text in read if isinstance(text, str)))
        found = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        self._known = dict(zip(texts, found, strict=True))

    def __call__(self, text: str) -> list[int]:
        return list(self._known[text])


def _conversation(row: Row, place: str, chat: bool) -> tuple[Row | None, int]:
    """The row as one with ``messages``, and how many of them were its prompt; None for a row of texts.

    ``prompt`` and ``completion`` may be lists of turns, as in TRL; with ``chat`` they may be texts of two turns.
    """
    if row.get("messages") is not None:
        return row, 0
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, list):
        if completion is not None and not isinstance(completion, list):
            raise DataError(
                f"{place}: its `prompt` is a list of turns, its `completion` is {str(completion)[:60]!r}",
                help="write both as texts or both as lists of turns",
            )
        return {**row, "messages": [*prompt, *(completion or [])]}, len(prompt) if completion else 0
    if chat and isinstance(prompt, str) and (completion is None or isinstance(completion, str)):
        answer = [] if completion is None else [{"role": "assistant", "content": completion}]
        return {**row, "messages": [{"role": "user", "content": prompt}, *answer]}, 0
    return None, 0


def _encode_one(
    row: Row, place: str, ids_of: _Tokens, seed: int, need_completion: bool, max_length: int
) -> tuple[list[int], list[int], bool]:
    """Prompt ids, completion ids, and whether the prompt is trained on."""
    tokenizer = ids_of.tokenizer
    eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if row.get("prompt") is not None:
        completion = row.get("completion")
        for name, value in (("prompt", row["prompt"]), ("completion", completion)):
            if value is not None and not isinstance(value, str):
                raise DataError(
                    f"{place}: its `{name}` is {value!r}, expected a text", help="write it in quotes"
                )
        own = ids_of(row["prompt"])
        prompt = own if bos and own[:1] == bos else bos + own  # a template may have written it already
        if not prompt:
            raise DataError(
                f"{place} has an empty prompt",
                help="give every prompt a word, or use `text` rows for whole texts",
            )
        if completion is None:
            if need_completion:
                raise DataError(
                    f"{place} has a prompt but no completion",
                    help="training rows need `prompt` and `completion`, or `text`; prompts alone go to --prompts",
                )
            return prompt, [], False
        return prompt, ids_of(completion) + eos, False
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        if text is None and not any(row.get(key) is not None for key in ("prompt", "completion", "messages")):
            known = [key for key in ("text", "prompt", "messages") if key in row]
            if known:  # a table of mixed rows has None where a row lacks a column
                raise DataError(
                    f"{place} has nothing in {', '.join(f'`{key}`' for key in known)}",
                    help="drop it, or fill it in; `Dataset.from_list` keeps the columns of its first row alone, so "
                    "make one of each kind of rows and join them by `concatenate_datasets`",
                )
            raise DataError(
                f"{place} has none of the columns text, prompt, messages; it has {', '.join(row) or 'none'}",
                help='rename a column, or write rows such as {"prompt": ..., "completion": ...}',
            )
        raise DataError(f"{place} has no text: {text!r}", help="drop empty rows")
    ids = ids_of(text)
    longest = max(1, min(MAX_CUT, min(len(ids), max_length - len(bos)) // 2))
    cut = random.Random(f"{seed}:{zlib.crc32(text.encode())}").randint(1, longest)
    return bos + ids[:cut], ids[cut:] + eos, True


def prompt_rows(
    rows: Sequence[TokenRow], limit: int | None = None,
    reading: Callable[[Mapping[str, Any]], tuple[object, ...]] | None = None,
) -> list[TokenRow]:  # fmt: skip
    """Distinct prompts of rows, in order of first appearance, completions dropped.

    Rows of one prompt stay apart by what ``reading`` makes of their tags; by all tags without it.
    """
    seen: dict[tuple[Any, ...], TokenRow] = {}
    for row in rows:
        tags = row.tags
        read = tuple(sorted((k, str(v)) for k, v in tags.items())) if reading is None else reading(tags)
        key = (row.prompt, read)
        seen.setdefault(key, TokenRow(row.prompt, (), row.tags, row.train_prompt))
    return list(seen.values())[:limit]


# ------------------------------------------------------------------------------------------------ batches
@dataclass(frozen=True)
class Batch:
    """Right-padded rows: ``input_ids`` [B, T], ``attention_mask`` [B, T], ``labels`` [B, T] (-100 = not trained),
    ``region`` [B, T] marks completion tokens, the tokens that the regularizer speaks of. ``packs`` says that models
    read several rows in one sequence (``packing.layout``); the batch itself stays in rows. ``again`` [B] says which
    rows a later step may read again (None: all may).
    """

    input_ids: Int[Tensor, "B T"]
    attention_mask: Int[Tensor, "B T"]
    labels: Int[Tensor, "B T"]
    region: Bool[Tensor, "B T"]
    packs: bool = False
    again: Bool[Tensor, " B"] | None = None

    def rows(self, chosen: Tensor) -> Batch:
        """Some rows of the batch."""
        return Batch(
            self.input_ids[chosen],
            self.attention_mask[chosen],
            self.labels[chosen],
            self.region[chosen],
            self.packs,
            None if self.again is None else self.again[chosen],
        )

    def longest(self) -> int:
        """Positions up to the last that some row has."""
        return max(1, int(self.attention_mask.sum(1).max()))

    def columns(self, width: int) -> Batch:
        """The first positions of every row."""
        return Batch(
            self.input_ids[:, :width],
            self.attention_mask[:, :width],
            self.labels[:, :width],
            self.region[:, :width],
            self.packs,
            self.again,
        )

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.labels.to(device),
            self.region.to(device),
            self.packs,
            None if self.again is None else self.again.to(device),
        )


def collate(rows: Sequence[TokenRow], pad_id: int, *, width: int | None = None) -> Batch:
    """Pad rows on the right; lengths, not the value of the pad token, decide what is padding."""
    width = width or max(len(row.prompt) + len(row.completion) for row in rows)
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    attention = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED_LABEL, dtype=torch.long)
    region = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids = torch.tensor(row.ids, dtype=torch.long)
        start, end = len(row.prompt), len(ids)
        input_ids[i, :end] = ids
        attention[i, :end] = 1
        region[i, start:end] = True
        for first, last in row.trained:
            labels[i, first:last] = ids[first:last]
    return Batch(input_ids, attention, labels, region)


def prediction_sites(region: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """Positions whose *next* token lies in the region: the shift by one, the last column is never a site.

    The first completion token is predicted from the last prompt token, so it is included; padding is not.
    """
    sites = torch.zeros_like(region)
    sites[:, :-1] = region[:, 1:]
    return sites


def next_tokens(input_ids: Int[Tensor, "B T"], sites: Bool[Tensor, "B T"]) -> Int[Tensor, " S"]:
    """The realised next token of every site, row-major."""
    return input_ids.roll(-1, dims=1)[sites]
