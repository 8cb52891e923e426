"""What is kept of judged rows: counts of the statements about shares, values of the others, on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_compiler.measurements import measurements
from constraintlang_runtime.bet_order import Keys
from constraintlang_runtime.evidence import evidence_of, in_bet_order
from constraintlang_runtime.scorers.parts import Scored
from constraintlang_runtime.verification import CountEvidence, Evidence, SumEvidence
from constraintlang_runtime.verify_sums import is_sum
from constraintlang_runtime.verify_tails import is_tail

Floats = NDArray[np.float64]


class Tally:
    """The evidence for one clause, in memory that does not grow with the rows.

    A share of responses is three counts. Other clauses need every value: a file of float64 for each measurement,
    one of bytes for the rows that it is of, and one of keys by which the rows are ordered (``bet_order``).
    """

    def __init__(self, clause: Clause, folder: Path, number: int) -> None:
        self.clause = clause
        self.counts = [0, 0, 0]  # clean, violating, unavailable
        self.length = 0
        self._folder, self._number = folder, number
        self.is_count = isinstance(clause.statistic, Indicator) and not is_sum(clause) and not is_tail(clause)

    def add(
        self,
        scored: Scored,
        tags: Sequence[Mapping[str, Any]],
        inside: NDArray[np.int64],
        said: Keys | None,
    ) -> Floats | None:
        """Take in the rows of the domain, ``said`` their keys; of a statement about responses the indicators [n]."""
        if not len(inside):
            return np.empty(0) if self.is_count else None
        found = evidence_of(self.clause, tags, inside, scored, ({}, {}), 1, None if self.is_count else said)
        if self.is_count:
            assert isinstance(found, Evidence)
            values = np.asarray(found.statistic_per_prompt, dtype=np.float64)
            unknown = int(np.isnan(values).sum())
            violating = int((values > 0).sum())
            for k, more in enumerate((len(values) - unknown - violating, violating, unknown)):
                self.counts[k] += more
            return values
        columns = [found.statistic_per_prompt] if isinstance(found, Evidence) else found.values
        for k, column in enumerate(columns):
            self._append(f"{k}.f64", np.asarray(column, dtype=np.float64).ravel().tobytes())
        assert found.keys is not None
        self._append("0.u64", found.keys.tobytes())
        if isinstance(found, SumEvidence):
            for k, members in enumerate(found.inside):
                self._append(f"{k}.u8", members.astype(np.uint8).tobytes())
        self.length += len(inside)
        return None

    def evidence(self) -> CountEvidence | Evidence | SumEvidence:
        """All that was taken in."""
        if self.is_count:
            clean, violating, unavailable = self.counts
            return CountEvidence(clean=clean, violating=violating, unavailable=unavailable)
        empty = [np.empty(0)] * len(measurements(self.clause))
        values = [np.fromfile(path, np.float64) for path in self._files("f64")] or empty
        keys = next((np.fromfile(path, np.uint64) for path in self._files("u64")), None)
        if not is_sum(self.clause):
            return in_bet_order(Evidence(statistic_per_prompt=values[0], single_sample=True, keys=keys))
        members = [np.fromfile(path, np.uint8).astype(bool) for path in self._files("u8")]
        columns = tuple(column.reshape(-1, 1) for column in values)
        inside = tuple(members) or (np.empty(0, dtype=bool),) * len(empty)
        return in_bet_order(SumEvidence(values=columns, inside=inside, keys=keys))

    # ------------------------------------------------------------ stopping and going on
    def state(self) -> dict[str, Any]:
        """What ``restore`` needs."""
        return {"counts": list(self.counts), "length": self.length}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state: what was written after it is cut off."""
        self.counts, self.length = list(state["counts"]), int(state["length"])
        for kind, width in (("f64", 8), ("u64", 8), ("u8", 1)):
            for path in self._files(kind):
                with path.open("r+b") as file:
                    file.truncate(self.length * width)

    def _append(self, name: str, content: bytes) -> None:
        with (self._folder / f"{self._number}.{name}").open("ab") as file:
            file.write(content)

    def _files(self, kind: str) -> list[Path]:
        """Of each measurement, in their order: ten comes after nine."""
        return sorted(
            self._folder.glob(f"{self._number}.*.{kind}"), key=lambda path: int(path.name.split(".")[1])
        )
