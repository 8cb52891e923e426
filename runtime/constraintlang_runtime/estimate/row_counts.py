"""How many rows a run's data has and how many tokens they have, from its files and the model's tokenizer; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constraintlang_runtime.columns import place_of
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.integrations.texts import row_texts
from constraintlang_runtime.model_names import split_revision
from constraintlang_runtime.row_files import load_rows

COUNTED = 1000  # rows whose tokens are counted, evenly spread
FILE = "tokenizer.json"

Count = Callable[[str], int]


@dataclass(frozen=True)
class RowCounts:
    """Rows, and the mean tokens of a row and of its prompt (None where rows are plain texts)."""

    rows: int
    tokens: int
    prompt_tokens: int | None


def row_counts(specs: Sequence[str], model: str | None) -> RowCounts:
    """Of the rows in ``[DOMAIN=]FILE_OR_ID``, in the tokens of a model's folder or hub id.

    A chat template's own tokens are not counted; each completion ends with one token.
    Raises: DataError for rows without a completion, ConfigError when no tokenizer is at hand.
    """
    rows = load_rows(specs)
    count = _counter(model)
    chosen = rows[:: max(1, len(rows) // COUNTED)][:COUNTED]
    prompts, whole = 0, 0
    for number, row in enumerate(chosen):
        try:
            prompt, completion, _ = row_texts(row)
        except DataError as error:
            raise DataError(
                f"{place_of(row, number)}: {error.message}", help=error.help, parameter="data"
            ) from error
        own = count(prompt)
        prompts += own
        whole += own + count(completion) + 1
    return RowCounts(
        len(rows), max(2, round(whole / len(chosen))), round(prompts / len(chosen)) if prompts else None
    )


def _counter(model: str | None) -> Count:
    missing = "give --tokens_per_row and --prompt_tokens"
    if model is None:
        raise ConfigError("the tokens of a row are not known: no model is named", help=missing)
    try:
        from huggingface_hub import hf_hub_download
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise ConfigError(f"counting tokens needs the package `{error.name}`", help=missing) from error
    try:
        local, (name, revision) = Path(model) / FILE, split_revision(model)
        tokenizer: Any = Tokenizer.from_file(
            str(local) if Path(model).is_dir() else hf_hub_download(name, FILE, revision=revision)
        )
    except Exception as error:  # tokenizers and the hub raise several kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"the tokens of a row are not known: no {FILE} of `{model}`: {reason}", help=missing
        ) from error
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
