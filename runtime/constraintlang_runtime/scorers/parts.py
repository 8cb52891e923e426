"""Scores of whole responses and of their parts, as the clauses read them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from constraintlang.segments import split
from constraintlang_compiler.attributes import attributes_needed, parts_needed
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.parts import Parts, PartScores
from constraintlang_compiler.readings import Reading
from constraintlang_runtime.chat import end_tokens
from constraintlang_runtime.columns import WITHHELD

if TYPE_CHECKING:
    from constraintlang_runtime.data import TokenRow

Scored = tuple[dict[str, NDArray[np.float64]], Parts]
"""The scores of whole responses by attribute, and those of their parts."""


class Pool(Protocol):
    """What scores texts: a ``ScoringPool``, or a view of it."""

    @property
    def names(self) -> list[str]:
        """The attributes that it scores."""
        ...

    @property
    def follow_columns(self) -> bool:
        """Whether some scorer may read other columns of a row than prompt and completion."""
        ...

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        names: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Scores [n] per attribute, NaN where unavailable."""
        ...


def told_apart(pool: Pool, clauses: Sequence[Clause]) -> Reading | None:
    """What tells rows of one prompt apart: the tags that clauses read; None, all of them, where a scorer may read more.

    An id of each row must not make every row evidence of its own.
    """
    return None if pool.follow_columns else Reading(clauses)


def score_responses(
    pool: Pool,
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

    ``prompts`` and ``completions`` are the texts of ``rows``, whose tokens count at the level ``tokens``. Replies that
    a server withheld (the column ``WITHHELD``) have no scores.
    """
    columns = dict(columns or {})
    withheld = [ended is not None for ended in columns.pop(WITHHELD, ())]
    if any(withheld):
        said = [index for index, missing in enumerate(withheld) if not missing]
        return _among_withheld(said, len(withheld), score_responses(
            pool, clauses, [rows[i] for i in said] if rows else (), [prompts[i] for i in said],
            [completions[i] for i in said], tokenizer,
            columns={key: [values[i] for i in said] for key, values in columns.items()}, progress=progress,
        ))  # fmt: skip
    needed = parts_needed(clauses)
    # What is read on parts only need not be measured on the whole, and perhaps cannot.
    only_parts = {key for keys in needed.values() for key in keys} - set(attributes_needed(clauses))
    names = [name for name in pool.names if name not in only_parts]
    scores = pool.score(prompts, completions, names, columns, progress)
    parts: dict[str, PartScores] = {}
    for level, keys in needed.items():
        if level == "tokens":
            left_out = left_out_of(tokenizer)
            texts = [
                _before_end(completion_prefixes(row, tokenizer, left_out), completion)
                for row, completion in zip(rows, completions, strict=True)
            ]
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


def _among_withheld(said: Sequence[int], count: int, found: Scored) -> Scored:
    """The scores of ``count`` responses, of which ``said`` have some."""
    scores, parts = found
    whole = {name: np.full(count, np.nan) for name in scores}
    for name, values in scores.items():
        whole[name][said] = values
    withheld = sorted(set(range(count)) - set(said))
    spread = {}
    for level, own in parts.items():
        lengths = np.zeros(count, dtype=np.int64)
        lengths[said] = own.lengths
        spread[level] = PartScores(lengths, own.scores, withheld)
    return whole, spread


def _before_end(prefixes: list[str], completion: str) -> list[str]:
    """The prefixes of a completion that ends before its last tokens do, at a stop text."""
    if not prefixes or len(prefixes[-1]) <= len(completion):
        return prefixes
    kept = [text for text in prefixes if len(text) <= len(completion)]
    return kept if not completion or completion in kept[-1:] else [*kept, completion]


def completion_prefixes(row: TokenRow, tokenizer: Any, left_out: Collection[int] | None = None) -> list[str]:
    """The text up to and including each token of a completion; ``left_out``, its special tokens, are none."""
    if left_out is None:
        left_out = left_out_of(tokenizer)
    ids = [token for token in row.completion if token not in left_out]
    if not ids:
        return []  # decoding an empty batch gives one empty text
    return list(tokenizer.batch_decode([ids[: end + 1] for end in range(len(ids))], skip_special_tokens=True))


def left_out_of(tokenizer: Any) -> set[int]:
    """Special tokens and those that end a turn."""
    return {*tokenizer.all_special_ids, *end_tokens(tokenizer)}
