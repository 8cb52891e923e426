"""A stopping criterion for ``generate``: a row stops as soon as no continuation can satisfy its clauses any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.integrations.monitor import MonitorPlan, PolicyMonitor, monitor_of

if TYPE_CHECKING:
    from constraintlang_runtime.integrations.policy import Policy

UNFINISHED = "\ufffd"  # what a tokenizer writes for bytes that are no character yet


@dataclass
class _Row:
    """A row's monitor, and its tokens from where the text was last known."""

    monitor: PolicyMonitor
    ids: list[int] = field(default_factory=list)
    begin: int = 0
    known: int = 0
    has_ended: bool = False


class StopWhenViolated(StoppingCriteria):
    """Stops rows whose clauses are already violated; ``violated`` says which, row by row.

    The columns before the first new token are the prompt; a call with one column more and the same prompts goes on with
    the same rows, any other begins anew, and a row whose tokens changed (beams) is read again from its beginning. Every
    token is decoded once, with those back to the last whole character.
    """

    def __init__(
        self, tokenizer: Any, monitors: Callable[[int], PolicyMonitor], end_tokens: Sequence[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._ends = frozenset(end_tokens)
        self._monitors = monitors
        self._rows: list[_Row] = []
        self._start = 0
        self._width = -1
        self._prompt = torch.zeros(0, 0, dtype=torch.long)

    @property
    def monitors(self) -> tuple[PolicyMonitor, ...]:
        """The monitor of every row of the last call of ``generate``."""
        return tuple(row.monitor for row in self._rows)

    @property
    def violated(self) -> list[tuple[str, ...]]:
        """By row, the clauses that are violated whatever would follow."""
        return [row.monitor.violated for row in self._rows]

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Which rows are to stop [B]."""
        prompt = input_ids[:, : max(0, self._start)]
        if (
            input_ids.shape[1] != self._width + 1
            or len(input_ids) != len(self._rows)
            or not torch.equal(prompt, self._prompt)
        ):
            self._prompt = input_ids[:, :-1].clone()
            self._start = input_ids.shape[1] - 1
            self._rows = [_Row(self._monitors(number)) for number in range(len(input_ids))]
        self._width = input_ids.shape[1]
        for number, ids in enumerate(input_ids[:, self._start :].tolist()):
            if self._rows[number].ids != ids[:-1]:
                self._rows[number] = _Row(self._monitors(number))
                for end in range(1, len(ids)):
                    self._read(self._rows[number], ids[end - 1])
            self._read(self._rows[number], ids[-1])
        stopped = [bool(violated) for violated in self.violated]
        return torch.tensor(stopped, dtype=torch.bool, device=input_ids.device)

    def _read(self, row: _Row, token: int) -> None:
        """Feed what a token adds to the text, once its characters are whole.

        A token's text may depend on the one before it (a space in front), so what is new is the difference of two
        decodings from the same beginning.
        """
        row.ids.append(token)
        row.has_ended |= token in self._ends or bool(row.monitor.violated)
        if row.has_ended:
            return  # what follows fills the batch up
        before = self._decode(row.ids[row.begin : row.known])
        after = self._decode(row.ids[row.begin :])
        if len(after) > len(before) and not after.endswith(UNFINISHED):
            row.begin, row.known = row.known, len(row.ids)
            row.monitor.feed(after[len(before) :])

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""


def stopping_of(
    policy: Policy,
    plan: MonitorPlan,
    tokenizer: Any,
    prompts: Sequence[str] | None,
    tags: Sequence[Mapping[str, Any]] | None,
    end_tokens: Sequence[int],
) -> StopWhenViolated:
    """A criterion for the clauses of a plan.

    Raises: ConfigError when none of them can be violated before the end of a response.
    """
    if not plan.early:
        names = ", ".join(f"`{clause.name}`" for clause in plan.clauses)
        raise ConfigError(
            f"nothing is known of {names} before a response is whole",
            help="stop by clauses about wording or about the order of sentences or turns",
        )

    def monitor(row: int) -> PolicyMonitor:
        own = dict(tags[row]) if tags is not None else {}
        return monitor_of(policy, plan, "" if prompts is None else prompts[row], own)

    return StopWhenViolated(tokenizer, monitor, end_tokens)
