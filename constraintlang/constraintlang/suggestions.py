"""Similar names: what an author may have meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

MAX_CANDIDATES, MAX_COMPARED = 500, 50
"""Names that are looked at and compared, so that many errors in a file of many names take bounded time."""


def edit_distance(left: str, right: str) -> int:
    """Optimal string alignment distance: insert, delete, replace, or swap two neighbours.

    >>> edit_distance("toxcity", "toxicity"), edit_distance("teh", "the")
    (1, 1)
    """
    before: list[int] = []
    above = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return above[-1]


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name nearest to ``name``, or None when none is near: distance at most max(1, length / 3).

    >>> closest("toxcity", ["words", "toxicity"])
    'toxicity'
    """
    limit = max(1, len(name) // 3)
    name_lower, letters = name.lower(), set(name.lower())
    # Cheap bounds first: a letter that only one of the two has takes an edit.
    near = [
        candidate
        for candidate in dict.fromkeys(islice(known, MAX_CANDIDATES))
        if abs(len(candidate) - len(name)) <= limit and len(letters - set(candidate.lower())) <= limit
    ]
    ranked = sorted(
        (edit_distance(name_lower, candidate.lower()), candidate) for candidate in near[:MAX_COMPARED]
    )
    # A one-letter name is at distance 1 of every other one: that is no likeness.
    if ranked and ranked[0][0] <= limit and ranked[0][0] < max(len(name), len(ranked[0][1])):
        return ranked[0][1]
    return None
