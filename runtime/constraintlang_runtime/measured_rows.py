"""What a model and the start model make of held-out rows, each read once by each: losses, and evidence of clauses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from constraintlang_compiler.domains import domain_name, matches
from constraintlang_compiler.ir import Clause, RowsLoss
from constraintlang_runtime.bet_order import bet_keys, bet_order
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.row_losses import Floats, of_all_processes, row_answers, row_losses
from constraintlang_runtime.verification import UtilityEvidence

MEASURES = {"perplexity": row_losses, "accuracy": row_answers}


class MeasuredRows:
    """Named sets of rows; several processes that call it together share them."""

    def __init__(
        self, rows: Mapping[str, Sequence[TokenRow]], model: Any, base_model: Any, tokenizer: Any, batch_size: int
    ) -> None:  # fmt: skip
        self.every = [row for part in rows.values() for row in part]
        self._sizes = {name: len(part) for name, part in rows.items()}
        self._models, self._tokenizer, self._batch_size = (model, base_model), tokenizer, batch_size
        self._known: dict[tuple[int, str], dict[int, tuple[float, float]]] = {}

    def losses(self) -> dict[str, float]:
        """Of each set, in nats per trained token."""
        found, start = {}, 0
        for name, size in self._sizes.items():
            nll, counts = self._measured(0, "perplexity", range(start, start + size))
            found[name] = float(np.sum(nll) / max(1.0, np.sum(counts)))
            start += size
        return found

    def of(self, clause: Clause) -> list[int]:
        """The numbers of the rows that a clause about rows is judged on.

        Raises: ConfigError without any, or without a start model.
        """
        mine = [number for number, row in enumerate(self.every) if matches(clause.domain, row.tags)]
        if self._models[1] is None:
            raise ConfigError(
                f"clause `{clause.name}` compares with the start model",
                help="add --base DIR_OR_ID, the model before training (in Python base=...)",
            )
        if not mine:
            raise ConfigError(
                f"clause `{clause.name}` speaks of rows, and none lie in its domain ({domain_name(clause.domain)})",
                help="add --rows DOMAIN=FILE with held-out rows (in Python rows={NAME: rows} with their tags), or "
                "--tasks NAME where the domain is a benchmark",
            )
        return mine

    def evidence(self, clause: Clause, numbers: Sequence[int]) -> UtilityEvidence:
        """What both models make of the rows ``numbers``, in the quantity of a clause; in the order of bets."""
        assert isinstance(clause.statistic, RowsLoss)
        rows = (self.every[number] for number in numbers)
        order = bet_order(bet_keys(f"{row.prompt}{row.completion}" for row in rows))
        numbers = [numbers[place] for place in order.tolist()]
        sums, counts = self._measured(0, clause.statistic.quantity, numbers)
        base_sums, _ = self._measured(1, clause.statistic.quantity, numbers)
        return UtilityEvidence(model_sums=sums, base_sums=base_sums, counts=counts)

    def _measured(self, model: int, quantity: str, numbers: Sequence[int]) -> tuple[Floats, Floats]:
        """Sums and counts of rows under the model (0) or the start model (1)."""
        known = self._known.setdefault((model, quantity), {})
        new = [number for number in numbers if number not in known]
        if new:
            sums, counts = of_all_processes(
                MEASURES[quantity], self._models[model], self._tokenizer, [self.every[i] for i in new],
                batch_size=self._batch_size,
            )  # fmt: skip
            known.update(zip(new, zip(sums.tolist(), counts.tolist(), strict=True), strict=True))
        pairs = np.array([known[number] for number in numbers], dtype=np.float64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]
