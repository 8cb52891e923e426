"""Corpus rows and sampled rows in one padded batch, so that the student runs once per micro-batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from constraintlang_runtime.data import IGNORED_LABEL, Batch, TokenRow, collate


def pad_token(tokenizer: Any) -> int:
    """The id that pads: the pad token, else the end token, else 0; lengths decide what is padding."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return int(tokenizer.eos_token_id or 0)


def joined(corpus: Batch, sampled: dict[int, list[TokenRow]], pad_id: int) -> tuple[Batch, dict[int, Tensor]]:
    """Corpus rows and sampled rows in one batch, so that the student runs once; row numbers of each group's samples."""
    extra = [row for rows in sampled.values() for row in rows]
    device = corpus.input_ids.device
    slices, start = {}, len(corpus.input_ids)
    for number, rows in sampled.items():
        slices[number] = torch.arange(start, start + len(rows), device=device)
        start += len(rows)
    if not extra:
        return corpus, slices
    width = max(corpus.input_ids.shape[1], *(len(row.ids) for row in extra))
    more = collate(extra, pad_id, width=width)
    grow = (0, width - corpus.input_ids.shape[1])
    pad = torch.nn.functional.pad
    return (
        Batch(
            torch.cat([pad(corpus.input_ids, grow, value=pad_id), more.input_ids.to(device)]),
            torch.cat([pad(corpus.attention_mask, grow), more.attention_mask.to(device)]),
            torch.cat(
                [
                    pad(corpus.labels, grow, value=IGNORED_LABEL),
                    torch.full_like(more.labels, IGNORED_LABEL).to(device),
                ]
            ),
            torch.cat([pad(corpus.region, grow), more.region.to(device)]),
            corpus.packs,
            None if corpus.again is None else torch.cat([corpus.again, corpus.again.new_ones(len(extra))]),
        ),
        slices,
    )
