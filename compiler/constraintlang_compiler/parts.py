"""Scores of the parts of responses: what the checkers read for ``over``.

The contract: for each level, how many parts every response has, and for each attribute one score per part, all
parts of the first response before all parts of the second. A response may have no parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PartScores:
    """Scores of the parts of n responses at one level.

    Shapes: ``lengths`` [n], the number of parts; each of ``scores`` [sum of lengths], ``nan`` where unknown.
    ``unknown`` are the numbers of the responses whose text nobody knows; nothing about their parts is true or false.
    """

    lengths: Ints
    scores: Mapping[str, Floats] = field(default_factory=dict)
    unknown: Sequence[int] = ()

    def __post_init__(self) -> None:
        total = int(self.lengths.sum())
        for name, values in self.scores.items():
            if len(values) != total:
                raise ValueError(f"got {len(values)} scores of `{name}` for {total} parts, expected one each")

    @classmethod
    def from_lists(cls, scores: Mapping[str, Sequence[Sequence[float]]]) -> PartScores:
        """From one list of part scores per response and attribute.

        >>> PartScores.from_lists({"toxicity": [[0.1, 0.9], [], [0.2]]}).lengths.tolist()
        [2, 0, 1]
        """
        lengths = {name: [len(series) for series in values] for name, values in scores.items()}
        first = next(iter(lengths.values()), [])
        for name, found in lengths.items():
            if found != first:
                raise ValueError(f"got other numbers of parts for `{name}` than for `{next(iter(lengths))}`")
        flat = {
            name: np.array([v for series in values for v in series], dtype=np.float64)
            for name, values in scores.items()
        }
        return cls(np.array(first, dtype=np.int64), flat)


Parts = Mapping[str, PartScores]
"""By level."""

NO_PARTS: Parts = {}
