"""Scores of whole responses and of their parts, as the clauses read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from constraintlang.segments import split
from constraintlang_compiler.attributes import attributes_needed, parts_needed
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.parts import Parts, PartScores

if TYPE_CHECKING:
    from constraintlang_runtime.data import TokenRow
    from constraintlang_runtime.scorers.pool import ScoringPool

Scored = tuple[dict[str, NDArray[np.float64]], Parts]
"""The scores of whole responses by attribute, and those of their parts."""


def score_responses(
    pool: ScoringPool,
    clauses: Sequence[Clause],
    rows: Sequence[TokenRow],
    prompts: Sequence[str],
    completions: Sequence[str],
    tokenizer: Any,
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """What ``checkers.statistics`` needs for the clauses; a scorer sees a part as it sees a whole response.

    ``prompts`` and ``completions`` are the texts of ``rows``, whose tokens count at the level ``tokens``.
    """
    columns = columns or {}
    needed = parts_needed(clauses)
    # What is read on parts only need not be measured on the whole, and perhaps cannot.
    only_parts = {key for keys in needed.values() for key in keys} - set(attributes_needed(clauses))
    names = [name for name in pool.names if name not in only_parts]
    scores = pool.score(prompts, completions, names, columns, progress)
    parts: dict[str, PartScores] = {}
    for level, keys in needed.items():
        if level == "tokens":
            texts = [completion_prefixes(row, tokenizer) for row in rows]
        else:
            texts = [split(completion, level) for completion in completions]
        owners = [index for index, found in enumerate(texts) for _ in found]
        flat = pool.score(
            [prompts[i] for i in owners],
            [text for found in texts for text in found],
            keys,
            {key: [values[i] for i in owners] for key, values in columns.items()},
            progress,
        )
        parts[level] = PartScores(np.array([len(found) for found in texts], dtype=np.int64), flat)
    return scores, parts


def completion_prefixes(row: TokenRow, tokenizer: Any) -> list[str]:
    """The text up to and including each token of a completion; special tokens are none."""
    special = set(tokenizer.all_special_ids)
    ids = [token for token in row.completion if token not in special]
    if not ids:
        return []  # decoding an empty batch gives one empty text
    return list(tokenizer.batch_decode([ids[: end + 1] for end in range(len(ids))], skip_special_tokens=True))
