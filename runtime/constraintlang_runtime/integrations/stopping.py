"""A stopping criterion for ``generate``: a row stops as soon as no continuation can satisfy its clauses any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.integrations.monitor import MonitorPlan, PolicyMonitor, monitor_of
from constraintlang_runtime.integrations.texts import require_texts

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

    ``monitors`` makes that of a row, by its number and how many there are. The columns before the first new token are
    the prompt; a call with one column more and the same prompts goes on with the same rows, any other begins anew, and
    a row whose tokens changed (beams) is read again from its beginning. Every token is decoded once, with those back to
    the last whole character. Assisted decoding adds several tokens at a time, the first ones too, so that only
    ``prompt_width`` tells where the prompt ends; with it calls may have any number of columns.
    """

    def __init__(
        self,
        tokenizer: Any,
        monitors: Callable[[int, int], PolicyMonitor],
        end_tokens: Sequence[int],
        *,
        prompt_width: int | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._ends = frozenset(end_tokens)
        self._monitors = monitors
        self._rows: list[_Row] = []
        self._start = 0
        self._prompt_width = prompt_width
        self._last = torch.zeros(0, 0, dtype=torch.long)

    @property
    def monitors(self) -> tuple[PolicyMonitor, ...]:
        """The monitor of every row of the last call of ``generate``."""
        return tuple(row.monitor for row in self._rows)

    @property
    def violated(self) -> list[tuple[str, ...]]:
        """By row, the clauses that are violated whatever would follow."""
        return [row.monitor.violated for row in self._rows]

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Which rows are to stop [B].

        Raises: ConfigError for several tokens at a time without ``prompt_width``.
        """
        if not self._goes_on(input_ids):
            width = input_ids.shape[1]
            self._start = width - 1 if self._prompt_width is None else min(self._prompt_width, width)
            self._rows = [_Row(self._monitors(number, len(input_ids))) for number in range(len(input_ids))]
        self._last = input_ids.clone()
        for number, ids in enumerate(input_ids[:, self._start :].tolist()):
            row = self._rows[number]
            if ids[: len(row.ids)] != row.ids:
                row = self._rows[number] = _Row(self._monitors(number, len(input_ids)))
            for token in ids[len(row.ids) :]:
                self._read(row, token)
        stopped = [bool(violated) for violated in self.violated]
        return torch.tensor(stopped, dtype=torch.bool, device=input_ids.device)

    def _goes_on(self, ids: Tensor) -> bool:
        """Whether the rows are those of the last call, with more tokens or with others behind the prompt."""
        last, width = self._last, self._last.shape[1]
        if len(ids) != len(last) or not torch.equal(ids[:, : self._start], last[:, : self._start]):
            return False
        if self._prompt_width is not None or ids.shape[1] == width + 1:
            return True
        if ids.shape[1] > width and torch.equal(ids[:, :width], last):
            raise ConfigError(
                f"{ids.shape[1] - width} tokens came at once, as in assisted decoding, so that nobody knows where the "
                "prompt ended",
                help="pass prompt_width=input_ids.shape[1]; for another prompt make another criterion",
                parameter="stopping_criteria",
            )
        return False

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
    prompt_width: int | None,
) -> StopWhenViolated:
    """A criterion for the clauses of a plan.

    Raises: ConfigError when none of them can be violated before the end of a response, DataError for one text in the
    place of prompts or other numbers of them than of tags.
    """
    require_texts(prompts, "prompts")
    if prompts is not None and tags is not None and len(prompts) != len(tags):
        raise DataError(f"got {len(prompts)} prompts and tags of {len(tags)} rows", help="give one for each")
    if not plan.early:
        names = ", ".join(f"`{clause.name}`" for clause in plan.clauses)
        raise ConfigError(
            f"nothing is known of {names} before a response is whole",
            help="stop by clauses about wording or about the order of sentences or turns",
        )

    given = prompts if tags is None else tags

    def monitor(row: int, rows: int) -> PolicyMonitor:
        if given is None:
            return monitor_of(policy, plan, "", {})
        if not given or rows % len(given):
            raise ConfigError(
                f"the batch has {rows} rows, and prompts or tags are given for {len(given)}",
                help="give those of the batch that `generate` is called with",
                parameter="stopping_criteria",
            )
        asked = row // (rows // len(given))  # beams and returned sequences of a prompt stand side by side
        own = {} if tags is None else dict(tags[asked])
        return monitor_of(policy, plan, "" if prompts is None else prompts[asked], own)

    return StopWhenViolated(tokenizer, monitor, end_tokens, prompt_width=prompt_width)
