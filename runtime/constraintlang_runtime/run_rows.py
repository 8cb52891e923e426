"""The rows that a run is given, as token ids and taken apart: trained on, sampled, measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from constraintlang_compiler.ir import PolicyIR
from constraintlang_runtime.columns import Row
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import TokenRow, encode_rows, prompt_rows
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.holdout import Split, split


@dataclass(frozen=True)
class RunRows:
    """Training rows, and the rows that the user named for other purposes; None where nothing was named."""

    rows: list[Row]
    prompts: list[Row] | None = None
    heldout: list[Row] | None = None
    selection: list[Row] | None = None

    def with_prompts(self) -> list[Row]:
        """All rows whose prompts training or the choice of a checkpoint sees."""
        return [*self.rows, *(self.prompts or []), *(self.selection or [])]

    def split(self, ir: PolicyIR, tokenizer: Any, args: ConstraintConfig) -> tuple[Split, int]:
        """The rows as token ids, taken apart, and how many training rows were kept out of training.

        Raises: DataError when there are no rows; ConfigError for rows that nothing would use.
        """

        def encoded(given: Sequence[Row], need_completion: bool = True) -> list[TokenRow]:
            return encode_rows(
                given,
                tokenizer,
                max_length=args.max_length,
                seed=args.seed,
                need_completion=need_completion,
                chat=args.chat,
            )

        def as_prompts(given: Sequence[Row] | None) -> list[TokenRow] | None:
            return None if given is None else prompt_rows(encoded(given, need_completion=False))

        rows = encoded(self.rows)
        if not rows:
            raise DataError(
                "there are no training rows",
                help="give at least one: --data FILE, or train_dataset in Python",
            )
        parts = split(
            ir, rows, as_prompts(self.prompts), args, args.seed,
            heldout=None if self.heldout is None else encoded(self.heldout),
            selection=as_prompts(self.selection),
        )  # fmt: skip
        return parts, len(rows) - len(parts.rows)
