"""Rows judged one batch after another, with what is needed to stop at any row and go on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from constraintlang_compiler.artifact import write_whole
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.membership import membership
from constraintlang_runtime.errors import ConfigError, DataError, ScorerError
from constraintlang_runtime.evidence import response_keys
from constraintlang_runtime.integrations.texts import row_texts
from constraintlang_runtime.score.row_stream import Position, RowBatch, RowStream
from constraintlang_runtime.score.scoring import ScoredBatches, TextBatch
from constraintlang_runtime.score.tally import Tally
from constraintlang_runtime.scorers.parts import Scored
from constraintlang_runtime.verdicts import Verdict
from constraintlang_runtime.verification import verify

SAVE_EVERY = 20.0  # seconds between two states on disk
FORM = 2  # of the state and the values beside it: 2 has keys
ROWS_FILE, STATE_FILE, SUMMARY_FILE, VALUES = "rows.jsonl", "state.json", "summary.json", "values"
Progress = Callable[[str, int, int], None]


class Audit:
    """The state between two batches: where the next row is, the tallies, and what is written of both.

    ``place`` is a folder of its own; with ``records`` every row gets one in ``rows.jsonl`` there.
    """

    def __init__(self, clauses: Sequence[Clause], place: Path, fingerprint: str, *, records: bool) -> None:
        self.clauses, self.place, self.records = clauses, place, records
        self.fingerprint = fingerprint
        (place / VALUES).mkdir(parents=True, exist_ok=True)
        self.tallies = [Tally(clause, place / VALUES, k) for k, clause in enumerate(self.clauses)]
        self.source, self.position = 0, Position()
        self.rows = self.satisfied = self.violating = self.undecided = 0
        self.unavailable: dict[str, int] = {}
        self.bytes_written, self.seconds = 0, 0.0
        self._encode = msgspec.json.Encoder().encode

    def run(
        self, streams: Sequence[RowStream], size: int, scored: ScoredBatches, progress: Progress | None
    ) -> None:
        """All rows from the present position on."""
        began, saved = time.perf_counter() - self.seconds, time.monotonic()
        if self.records:
            self.save()  # the folder is known as an audit's from here on
        with open(self.place / ROWS_FILE if self.records else os.devnull, "ab") as out:
            try:
                for batch, scores in scored(self._batches(streams, size)):
                    out.write(self._judge(batch, scores))
                    self.source, self.position = batch.number, batch.rows.end
                    self.bytes_written = out.tell() if self.records else 0
                    self.seconds = time.perf_counter() - began
                    if progress is not None and batch.rows.done is not None:
                        progress(f"scoring {batch.stream.source}", round(1000 * batch.rows.done), 1000)
                    if self.records and time.monotonic() - saved > SAVE_EVERY:
                        out.flush()
                        self.save()
                        saved = time.monotonic()
            except (DataError, ScorerError):  # nothing of the batch was counted
                out.flush()
                self.save()
                raise
            self.source, self.position = len(streams), Position()
        if self.rows == 0:
            raise DataError("there are no rows", help="give a file with at least one row", parameter="data")

    def _batches(self, streams: Sequence[RowStream], size: int) -> Iterator[TextBatch]:
        """The rows from the present position on, as texts."""
        first, start = self.source, self.position  # both move while this is read
        for number in range(first, len(streams)):
            for rows in streams[number].batches(size, start if number == first else Position()):
                if rows.rows:
                    yield _texts(number, streams[number], rows)

    def _judge(self, batch: TextBatch, scored: Scored) -> bytes:
        """Take in one batch; returns the records of its rows."""
        tags = batch.tags
        for name, values in scored[0].items():
            if missing := int(np.isnan(values).sum()):
                self.unavailable[name] = self.unavailable.get(name, 0) + missing
        n = len(tags)
        speaks, breaks = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        violated: dict[int, list[str]] = {}
        said = None
        if any(not tally.is_count for tally in self.tallies):
            said = response_keys(batch.prompts, batch.completions)
        members = membership([tally.clause.domain for tally in self.tallies], tags)
        for tally, member in zip(self.tallies, members, strict=True):
            inside = np.flatnonzero(member)
            indicators = tally.add(scored, tags, inside, said)
            if indicators is None or tally.clause.kind != "violation" or tally.clause.strength == "prefer":
                continue
            bad = inside[~(indicators == 0)]  # an unknown score counts as a violation, as in verification
            speaks[inside] = True
            breaks[bad] = True
            if self.records:
                for index in bad.tolist():
                    violated.setdefault(index, []).append(tally.clause.name)
        self.rows += n
        broken = int(breaks.sum())
        self.violating += broken
        self.satisfied += int(speaks.sum()) - broken
        self.undecided += n - int(speaks.sum())
        if not self.records:
            return b""
        return self._lines(batch.stream, batch.rows.numbers, scored[0], speaks, breaks, violated)

    def _lines(
        self, stream: RowStream, numbers: Sequence[int], scores: Mapping[str, Any], speaks: Any, breaks: Any,
        violated: Mapping[int, list[str]],
    ) -> bytes:  # fmt: skip
        columns = {name: [None if v != v else v for v in values.tolist()] for name, values in scores.items()}
        answer = [None if not s else not b for s, b in zip(speaks.tolist(), breaks.tolist(), strict=True)]
        lines = [
            self._encode(
                {
                    "source": stream.source,
                    **({} if stream.domain is None else {"domain": stream.domain}),
                    "row": numbers[index],
                    "satisfied": satisfied,
                    "violated": violated.get(index, []),
                    "scores": {name: values[index] for name, values in columns.items()},
                }
            )
            for index, satisfied in enumerate(answer)
        ]
        return b"\n".join([*lines, b""])

    def verdicts(self) -> list[Verdict]:
        """What the rows so far say of every clause."""
        evidence = {tally.clause.id: tally.evidence() for tally in self.tallies}
        return verify(self.clauses, evidence)

    # ------------------------------------------------------------ stopping and going on
    def save(self) -> None:
        """The state on disk; rows and values behind it are dropped when the audit is resumed."""
        state = {
            "form": FORM,
            "fingerprint": self.fingerprint,
            "source": self.source,
            "position": asdict(self.position),
            "rows": self.rows,
            "satisfied": self.satisfied,
            "violating": self.violating,
            "undecided": self.undecided,
            "unavailable": self.unavailable,
            "bytes_written": self.bytes_written,
            "seconds": round(self.seconds, 3),
            "tallies": [tally.state() for tally in self.tallies],
        }
        write_whole(self.place / STATE_FILE, json.dumps(state).encode())

    def load(self) -> None:
        """Go back to the last state on disk, or to the beginning when there is none."""
        path = self.place / STATE_FILE
        if not path.exists():
            self.clear()
            return
        try:
            state = json.loads(path.read_text())
            own = state["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"`{path}` is damaged: {error}", help="start over with --overwrite", parameter="resume"
            ) from error
        if state.get("form") != FORM:
            raise ConfigError(
                f"`{self.place}` was left by another version",
                help="start over with --overwrite",
                parameter="resume",
            )
        if own != self.fingerprint:
            raise ConfigError(
                f"`{self.place}` belongs to an audit with another policy, data or scorers",
                help="resume with the same command, or name another --output",
                parameter="resume",
            )
        self.source, self.position = int(state["source"]), Position(**state["position"])
        self.rows, self.satisfied = state["rows"], state["satisfied"]
        self.violating, self.undecided = state["violating"], state["undecided"]
        self.unavailable, self.seconds = dict(state["unavailable"]), float(state["seconds"])
        for tally, part in zip(self.tallies, state["tallies"], strict=True):
            tally.restore(part)
        self.bytes_written = int(state["bytes_written"])
        with (self.place / ROWS_FILE).open("ab") as file:
            file.truncate(self.bytes_written)

    def clear(self) -> None:
        """Forget what an earlier audit left in the folder."""
        for name in (ROWS_FILE, STATE_FILE, SUMMARY_FILE):
            (self.place / name).unlink(missing_ok=True)
        shutil.rmtree(self.place / VALUES, ignore_errors=True)
        (self.place / VALUES).mkdir(parents=True)


def _texts(number: int, stream: RowStream, batch: RowBatch) -> TextBatch:
    """The texts and tags of the rows; DataError that names a row without a text."""
    prompts, completions, tags = [], [], []
    for index, row in enumerate(batch.rows):
        try:
            prompt, completion, own = row_texts(row)
        except DataError as error:
            raise DataError(f"{batch.place(index, stream.source)}: {error.message}",
                            help=error.help, parameter="data") from None  # fmt: skip
        prompts.append(prompt)
        completions.append(completion)
        tags.append(own)
    return TextBatch(number, stream, replace(batch, rows=[]), prompts, completions, tags)
