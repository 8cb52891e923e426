"""Texts at which a completion ends, such as a line break or the next speaker's name: where they stand in its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from constraintlang_runtime.data import TokenRow


class StopTexts(StoppingCriteria):
    """Ends a row when what was said since its prompt holds one of the texts; ``width`` is that of the prompts."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], width: int) -> None:
        self._tokenizer, self._stop, self._width = tokenizer, tuple(stop), width
        # a token holds a byte at least; those that a text may begin and end in the middle of
        self._tail = max(len(text.encode()) for text in stop) + 4

    def __call__(self, input_ids: Tensor, scores: Any, **options: Any) -> Tensor:
        """Whether each row has ended [B]."""
        said = input_ids[:, self._width :]
        tails = self._tokenizer.batch_decode(said[:, -self._tail :], skip_special_tokens=True)
        ended = [
            # a tail may be decoded otherwise than the whole, which is what is judged
            _holds(tail, self._stop)
            and stop_position(said[row].tolist(), self._tokenizer, self._stop) is not None
            for row, tail in enumerate(tails)
        ]
        return torch.tensor(ended, device=input_ids.device)


def stop_position(ids: Sequence[int], tokenizer: Any, stop: Sequence[str]) -> int | None:
    """The least number of tokens whose text holds one of the texts; None where all do not."""

    def holds(count: int) -> bool:
        return _holds(tokenizer.decode(ids[:count], skip_special_tokens=True), stop)

    low, high = 0, len(ids)
    if not stop or not holds(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def stopped(rows: Sequence[TokenRow], tokenizer: Any, stop: Sequence[str]) -> list[TokenRow]:
    """Rows whose completions end with the tokens in which the first of the texts is complete."""
    if not stop:
        return list(rows)
    ends = [stop_position(row.completion, tokenizer, stop) for row in rows]
    return [
        row if end is None else replace(row, completion=row.completion[:end])
        for row, end in zip(rows, ends, strict=True)
    ]


def _holds(text: str, stop: Sequence[str]) -> bool:
    return any(one in text for one in stop)
