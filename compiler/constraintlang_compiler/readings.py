"""What clauses read of a row's tags, by which rows of one prompt are one prompt's or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from constraintlang_compiler.domains import matches, tag_text
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.measurements import measurements


class Reading:
    """What clauses read of a row's tags: rows of one prompt with equal readings are one prompt's.

    Domains, the values of `per`, and the domains of the parts of a comparison.
    """

    def __init__(self, clauses: Sequence[Clause]) -> None:
        parts = [part.given for clause in clauses for part in measurements(clause)]
        self._domains = [clause.domain for clause in clauses] + [
            given for given in parts if given is not None
        ]
        self._keys = [key for clause in clauses for key in clause.per]

    def __call__(self, tags: Mapping[str, object]) -> tuple[object, ...]:
        """The reading of one row."""
        inside = (matches(domain, tags) for domain in self._domains)
        return (*inside, *(tag_text(tags.get(key)) for key in self._keys))
