"""Which of many rows lie in which domains, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import DomainPredicate


def membership(
    predicates: Sequence[DomainPredicate | None], rows: Sequence[Mapping[str, object]]
) -> list[NDArray[np.bool_]]:
    """Which rows lie in each of some domains [n]; equal domains are looked at once, and share their array."""
    found: dict[DomainPredicate | None, NDArray[np.bool_]] = {None: np.ones(len(rows), dtype=np.bool_)}
    for predicate in predicates:
        if predicate not in found:
            found[predicate] = np.fromiter((matches(predicate, row) for row in rows), np.bool_, len(rows))
    return [found[predicate] for predicate in predicates]
