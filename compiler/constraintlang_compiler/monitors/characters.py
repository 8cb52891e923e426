"""Sets of characters as sorted ranges of code points, asked of RE2 itself, and partitions into classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Ranges = tuple[tuple[int, int], ...]  # ascending, both ends included, not adjacent

NUM_CODE_POINTS = 0x110000
_SURROGATES = range(0xD800, 0xE000)


@lru_cache(maxsize=512)
def re2_ranges(expression: str) -> Ranges:
    """The characters that an RE2 expression for one character matches, such as ``[^a-z]`` or ``(?i:k)``.

    >>> re2_ranges("(?i:k)")
    ((75, 75), (107, 107), (8490, 8490))
    """
    import re2

    options = re2.Options()
    options.log_errors = False
    pattern = re2.compile(f"(?:{expression})+".encode(), options)
    found = []
    for match in pattern.finditer(_every_character()):
        run = match.group(0)
        if run:
            text = run.decode()
            found.append((ord(text[0]), ord(text[-1])))
    return normalised(found)


@cache
def _every_character() -> bytes:
    return "".join(chr(c) for c in range(NUM_CODE_POINTS) if c not in _SURROGATES).encode()


def normalised(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges in order; what overlaps or touches is joined."""
    result: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], high))
        else:
            result.append((low, high))
    return tuple(result)


def ranges_of(members: NDArray[np.bool_]) -> Ranges:
    """The code points marked in an array [NUM_CODE_POINTS]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], members, [False]]).astype(np.int8)))
    return tuple((int(a), int(b) - 1) for a, b in edges.reshape(-1, 2))


class Partition:
    """A division of all code points into numbered classes, numbered by their first members.

    ``starts`` are the first code points of intervals, ``classes`` the class of each interval.
    """

    def __init__(self, starts: Ints, classes: Ints) -> None:
        kept = np.concatenate([[True], classes[1:] != classes[:-1]])
        self.starts = starts[kept].astype(np.int32)
        values, first, inverse = np.unique(classes[kept], return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        self.classes = rank[inverse].astype(np.int32)
        self.sources = values[np.argsort(first)]
        """The number that each class had in the argument."""
        self.num_classes = len(values)

    @classmethod
    def separating(cls, sets: Sequence[Ranges]) -> tuple[Partition, NDArray[np.bool_]]:
        """The coarsest partition of which every set is a union; and bool [sets, classes], which classes."""
        places = {0, *(edge for ranges in sets for low, high in ranges for edge in (low, high + 1))}
        starts = np.array(sorted(place for place in places if place < NUM_CODE_POINTS), dtype=np.int32)
        members = np.zeros((len(sets), len(starts)), dtype=np.bool_)
        for row, ranges in enumerate(sets):
            for low, high in ranges:
                members[row, np.searchsorted(starts, low) : np.searchsorted(starts, high + 1)] = True
        _, signature = np.unique(members, axis=1, return_inverse=True)
        partition = cls(starts, signature.reshape(-1).astype(np.int32))
        first = np.array([np.argmax(partition.classes == c) for c in range(partition.num_classes)])
        at = np.searchsorted(starts, partition.starts[first])
        return partition, members[:, at]

    def classes_of(self, text: str) -> Ints:
        """The class of every character of a text."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        return self.classes[np.searchsorted(self.starts, points, side="right") - 1]
