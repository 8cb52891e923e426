"""The order in which bets on prompts are placed: as good as random, and the same in whatever order they came.

A betting bound holds for values in an order that does not depend on them. Rows of a file often come sorted or grouped,
and a fixed permutation of sorted rows is one sequence, not a random one; so prompts are ordered by a hash of what they
and their responses say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: steps that hardly ever meet


def joint_key(keys: Keys) -> int:
    """The key of what several responses say together, in any order."""
    return int.from_bytes(hashlib.sha256(np.sort(keys).tobytes()).digest()[:8], "little")


def bet_keys(said: Iterable[str]) -> Keys:
    """The first 64 bits of SHA-256 of each text, in UTF-8."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8] for text in said)
    return np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)


def bet_order(keys: Keys) -> NDArray[np.int64]:
    """The places [n] of prompts in the order of the bets; equal keys are spread like any others.

    The order depends on all keys together: one of single keys would be fixed where few things are said.
    """
    keys = _mixed(keys ^ np.uint64(joint_key(keys)))
    by_key = np.argsort(keys, kind="stable")
    ordered = keys[by_key]
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(is_first)
    number = np.arange(len(keys)) - starts[np.cumsum(is_first) - 1]  # among those that say the same
    order: NDArray[np.int64] = by_key[np.argsort(_mixed(ordered + number.astype(np.uint64) * _GOLDEN))]
    return order


def _mixed(values: Keys) -> Keys:
    """SplitMix64's finalizer (Steele, Lea & Flood 2014, OOPSLA): distinct numbers stay distinct, neighbours part."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
