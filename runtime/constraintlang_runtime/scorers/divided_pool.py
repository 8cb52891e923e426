"""A pool of scorers in each of several processes, which together score what all of them ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_runtime.ranks import gathered, rank_and_size
from constraintlang_runtime.scorers.parts import Pool


class DividedPool:
    """The scores of ``pool``, found by all processes; each of them calls it with the same texts.

    Equal responses go to one process, which scores them once.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @property
    def names(self) -> list[str]:
        """As of the pool."""
        return self._pool.names

    @property
    def follow_columns(self) -> bool:
        """As of the pool."""
        return self._pool.follow_columns

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        names: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Scores [n] per attribute, NaN where unavailable, the same in every process; ``progress`` is of its share."""
        rank, size = rank_and_size()
        numbers: dict[tuple[str, str], int] = {}
        owners = np.array(
            [
                numbers.setdefault(pair, len(numbers)) % size
                for pair in zip(prompts, completions, strict=True)
            ],
            dtype=np.int64,
        )
        places = [np.flatnonzero(owners == number).tolist() for number in range(size)]
        mine = places[rank]
        own = self._pool.score(
            [prompts[i] for i in mine], [completions[i] for i in mine], names,
            {key: [values[i] for i in mine] for key, values in (columns or {}).items()}, progress,
        )  # fmt: skip
        found = {name: np.empty(len(completions)) for name in own}
        for where, part in zip(places, gathered(own), strict=True):
            for name, values in part.items():
                found[name][where] = values
        return found
