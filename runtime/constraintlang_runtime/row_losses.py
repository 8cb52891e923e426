"""What a model makes of the user's own rows: their negative log-likelihood, and whether it would write them itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.chat import end_tokens
from constraintlang_runtime.data import IGNORED_LABEL, TokenRow, collate
from constraintlang_runtime.model_checks import require_positions
from constraintlang_runtime.ranks import gathered, interleaved, rank_and_size

Floats = NDArray[np.float64]


def row_losses(
    model: Any, tokenizer: Any, rows: Sequence[TokenRow], *, batch_size: int = 64
) -> tuple[Floats, Floats]:
    """Negative log-likelihood in nats and number of tokens of each row, over its trained tokens."""
    nll, counts = np.zeros(len(rows)), np.zeros(len(rows))
    for chosen, logits, labels in _predictions(model, tokenizer, rows, batch_size):
        losses = torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2), labels, ignore_index=IGNORED_LABEL, reduction="none"
        )
        nll[chosen] = losses.sum(1).double().cpu().numpy()
        counts[chosen] = (labels != IGNORED_LABEL).sum(1).cpu().numpy()
    return nll, counts


def row_answers(
    model: Any, tokenizer: Any, rows: Sequence[TokenRow], *, batch_size: int = 64
) -> tuple[Floats, Floats]:
    """Whether the completion is the model's own greedy answer (1 or 0), and 1 for each row: the sums of `accuracy`.

    A row is right when at every token of its completion that token is the likeliest one; its end token is left out,
    because a model that was not taught when to stop may still know the answer. Rows without a completion count 0 of 0.
    """
    ends = end_tokens(tokenizer)
    answers = [_answer_row(row, ends) for row in rows]
    right, counts = np.zeros(len(rows)), np.array([float(bool(row.completion)) for row in answers])
    for chosen, logits, labels in _predictions(model, tokenizer, answers, batch_size):
        matched = (logits.argmax(-1) == labels) | (labels == IGNORED_LABEL)
        right[chosen] = matched.all(1).double().cpu().numpy()
    return right * counts, counts


def of_all_processes(
    measure: Any, model: Any, tokenizer: Any, rows: Sequence[TokenRow], *, batch_size: int
) -> tuple[Floats, Floats]:
    """``row_losses`` or ``row_answers`` of rows, of which each of several processes measures every n-th."""
    rank, size = rank_and_size()
    sums, counts = measure(model, tokenizer, rows[rank::size], batch_size=batch_size)
    parts = gathered(list(zip(sums.tolist(), counts.tolist(), strict=True)))
    pairs = np.array(interleaved(parts), dtype=np.float64).reshape(len(rows), 2)
    return pairs[:, 0], pairs[:, 1]


def _answer_row(row: TokenRow, ends: Sequence[int]) -> TokenRow:
    ids = row.completion
    if len(ids) > 1 and ids[-1] in ends:
        ids = ids[:-1]
    return TokenRow(row.prompt, ids, row.tags, train_prompt=False)


def _predictions(
    model: Any, tokenizer: Any, rows: Sequence[TokenRow], batch_size: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Row numbers, logits [B, T, V] and the labels [B, T] that they predict, batch by batch, shortest rows first."""
    pad = pad_token(tokenizer)
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    longest = max((len(row.ids) for row in rows), default=0)
    require_positions(model, longest, "rows have up to", "lower --max_length, which cuts them")
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                batch = collate([rows[i] for i in chosen], pad).to(device)
                logits = model(
                    input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
                ).logits
                yield chosen, logits[:, :-1], batch.labels[:, 1:]
    finally:
        model.train(was_training)
