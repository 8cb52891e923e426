"""Hidden states of rows in memory-mapped files, found by a row's hash; processes of a folder read each other's."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

logger = logging.getLogger(__name__)
STATES, INDEX = ".states", ".rows"
RECORD = np.dtype(
    [("row", "V16"), ("offset", "<u8"), ("sites", "<u4"), ("step", "<u4"), ("sum", "<u8")]
)  # of the index, in the order of the states
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Place:
    """Where a row's states lie: ``sites`` of them in the file of a process, from ``offset`` on."""

    rank: int
    offset: int
    sites: int


@dataclass(frozen=True)
class Form:
    """The type and width H of a hidden state; the head of every index."""

    dtype: torch.dtype
    width: int

    @property
    def size(self) -> int:
        """Bytes of one state."""
        return self.width * self.dtype.itemsize

    def head(self) -> bytes:
        """As bytes of one record's length."""
        return f"states 1 {str(self.dtype).removeprefix('torch.')} {self.width}".encode().ljust(
            RECORD.itemsize
        )

    @staticmethod
    def of(head: bytes) -> Form | None:
        """Inverse of ``head``; None for what is none."""
        words = head.decode("ascii", "replace").split()
        if len(head) != RECORD.itemsize or words[:2] != ["states", "1"] or len(words) != 4:
            return None
        dtype = getattr(torch, words[2], None)
        return Form(dtype, int(words[3])) if isinstance(dtype, torch.dtype) and words[3].isdigit() else None


class Room:
    """How many bytes this process may still write below a folder, in all of its files."""

    def __init__(self, folder: Path, limit: int, num_ranks: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free + sum(path.stat().st_size for path in folder.iterdir())
        # half of the free disk at most: checkpoints have to find room
        self.left = min(limit, free // 2) // num_ranks
        self._folder, self._size, self._told = folder, self.left, False

    def has(self, size: int) -> bool:
        """Whether so many bytes fit; what does not is told once."""
        if size > self.left:
            self.tell(f"it has {self._size / 2**30:.3g} GiB")
        return size <= self.left

    def tell(self, why: str) -> None:
        """Say that there is no more room."""
        self.left = 0
        if not self._told:
            logger.warning(
                "`%s` takes no more hidden states of the reference model (%s): further rows are computed anew at every "
                "step; --anchor_cache_gib sets its size, 0 does without it", self._folder, why,
            )  # fmt: skip
        self._told = True


class StateFile:
    """States [sites, H] of rows under one model; what does not fit into ``room`` is not kept.

    Each process appends to a file of its own, states first, then a record in its index, and knows of the others' rows
    what was written in steps before the present one. So what is found depends on the steps alone, never on timing, and
    a run that is resumed at a step forgets what was written from that step on.
    """

    def __init__(
        self, folder: Path, name: str, room: Room, *, step: int, rank: int = 0, num_ranks: int = 1
    ) -> None:
        self.name, self._folder, self._rank, self._room = name, folder, rank, room
        self._form: Form | None = None
        self._places: dict[bytes, Place] = {}
        self._sums: dict[bytes, int] = {}  # of states that another run may have left half written
        self._began = step
        for path in self._paths(rank):
            path.touch()
        records = self._records(rank, 0)
        records = records[: _first_not(records["step"] < step)]
        self._used = sum(int(sites) for sites in records["sites"]) * (self._form.size if self._form else 0)
        self._has_head = len(records) > 0
        self._form = self._form if self._has_head else None
        self._room.left -= self._used
        os.truncate(self._paths(rank)[0], self._used)
        os.truncate(self._paths(rank)[1], RECORD.itemsize * (len(records) + 1) if self._has_head else 0)
        self._take(records, rank)
        self._read_to = {other: 0 for other in range(num_ranks) if other != rank}
        self.share(step)

    def _paths(self, rank: int) -> tuple[Path, Path]:
        states, index = (self._folder / f"{self.name}.{rank}{ending}" for ending in (STATES, INDEX))
        return states, index

    # ------------------------------------------------------------ index
    def _records(self, rank: int, start: int) -> NDArray[Any]:
        """Records of a process's index from the ``start``-th on whose states are there; the index tells the form."""
        states, index = self._paths(rank)
        if not (states.exists() and index.exists()):
            return np.zeros(0, RECORD)
        with index.open("rb") as file:
            form = Form.of(file.read(RECORD.itemsize))
            if form is None or self._form not in (None, form):
                return np.zeros(0, RECORD)
            self._form = form
            file.seek(RECORD.itemsize * (1 + start))
            content = file.read()
        records = np.frombuffer(content[: len(content) // RECORD.itemsize * RECORD.itemsize], RECORD)
        ends = records["offset"].astype(np.int64) + records["sites"].astype(np.int64) * form.size
        return records[: _first_not(ends <= states.stat().st_size)]

    def _take(self, records: NDArray[Any], rank: int) -> None:
        for record in records:
            row = record["row"].tobytes()
            if row in self._places:
                continue
            self._places[row] = Place(rank, int(record["offset"]), int(record["sites"]))
            if record["step"] < self._began:
                self._sums[row] = int(record["sum"])

    def share(self, step: int) -> None:
        """Take note of what the other processes wrote in the steps before this one."""
        for rank, start in self._read_to.items():
            records = self._records(rank, start)
            records = records[: _first_not(records["step"] < step)]
            self._take(records, rank)
            self._read_to[rank] = start + len(records)

    # ------------------------------------------------------------ states
    @property
    def form(self) -> Form | None:
        """Of the states that are kept; None while there are none."""
        return self._form

    def find(self, rows: Sequence[bytes]) -> list[Place | None]:
        """Where the states of rows lie, by the rows' hashes; None for those that are not kept."""
        for row in rows:
            expected = self._sums.pop(row, None)
            if expected is not None and expected != _checksum(self._mapped([self._places[row]])[0]):
                del self._places[row]
        return [self._places.get(row) for row in rows]

    def read(self, places: Sequence[Place]) -> Tensor:
        """States [Σ sites, H] of rows, one after the other, on the CPU; the files are mapped for the call alone."""
        assert self._form is not None
        found = torch.empty((sum(place.sites for place in places), self._form.width), dtype=self._form.dtype)
        room, start = found.view(torch.uint8).numpy().reshape(-1), 0
        for part in self._mapped(places):
            room[start : start + len(part)] = part
            start += len(part)
        return found

    def _mapped(self, places: Sequence[Place]) -> list[Bytes]:
        assert self._form is not None
        maps = {
            rank: np.memmap(self._paths(rank)[0], np.uint8, "r") for rank in {place.rank for place in places}
        }
        size = self._form.size
        return [maps[p.rank][p.offset : p.offset + p.sites * size] for p in places]

    def put(self, row: bytes, states: Tensor, step: int) -> None:
        """Keep the states [sites, H] of a row, unless it is kept already or there is no room."""
        form = Form(states.dtype, states.shape[1])
        if row in self._places or not len(states) or self._form not in (None, form):
            return
        content: Bytes = states.contiguous().view(torch.uint8).numpy().reshape(-1)
        if not self._room.has(len(content)):
            return
        record = np.zeros(1, RECORD)
        record["row"] = np.frombuffer(row, "V16")
        record["offset"], record["sites"], record["step"] = self._used, len(states), step
        record["sum"] = _checksum(content)
        try:
            file, index = self._paths(self._rank)
            _write(file, self._used, content.data)
            _write(index, None, (b"" if self._has_head else form.head()) + record.tobytes())
        except OSError as error:
            self._room.tell(str(error.strerror))
            return
        self._form, self._has_head = form, True
        self._places[row] = Place(self._rank, self._used, len(states))
        self._used += len(content)
        self._room.left -= len(content)

    def remove(self) -> None:
        """Delete this process's files."""
        for path in self._paths(self._rank):
            path.unlink(missing_ok=True)
        self._room.left += self._used


def _write(path: Path, offset: int | None, content: bytes | memoryview) -> None:
    """At an offset, or at the end."""
    with path.open("r+b") as file:
        file.seek(*((0, 2) if offset is None else (offset,)))
        file.write(content)


def _first_not(holds: NDArray[np.bool_]) -> int:
    """The place of the first that does not hold, or the number of all."""
    return len(holds) if holds.all() else int(np.argmin(holds))


def _checksum(content: Bytes) -> int:
    """The sum of the words; what is torn by a crash is zeros or another row."""
    words = content.view("<u8") if len(content) % 8 == 0 else content
    return int(words.sum(dtype=np.uint64))
