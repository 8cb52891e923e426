"""All that the statements of a question can tell apart, worked out once: regions, worlds, columns, candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cached_property

from constraintlang.semantics import evaluate
from constraintlang_compiler.analysis.candidates import Candidate, Reach, candidates
from constraintlang_compiler.analysis.forms import ZERO, Form, Variables
from constraintlang_compiler.analysis.grid import Grid
from constraintlang_compiler.analysis.regions import CODE, Column, columns_of, regions_of
from constraintlang_compiler.analysis.requirements import Requirement
from constraintlang_compiler.analysis.rows import Excess, Mass, Moment, Row, TruthOf
from constraintlang_compiler.analysis.worlds import World, worlds_of
from constraintlang_compiler.decimals import decimal_text


class Space:
    """The responses and prompts that some statements can tell apart.

    Raises: TooLarge when they are too many.
    """

    def __init__(self, requirements: Sequence[Requirement], variables: Variables) -> None:
        parts = [part for r in requirements for row in r.rows for part in row.parts]
        formulas = dict.fromkeys(part.formula for part in parts if isinstance(part, TruthOf))
        self.moments: list[Form] = list(
            dict.fromkeys(p.form for p in parts if isinstance(p, Moment | Excess))
        )
        kinks = [(p.form, p.threshold) for p in parts if isinstance(p, Excess)]
        self.variables = variables
        self.grid = Grid(list(formulas), self.moments, variables, kinks)
        self.regions = regions_of(self.grid, self.moments)
        self.worlds = worlds_of(domain for r in requirements for domain in r.domains)
        self._added: dict[Row, list[Fraction]] = {}
        self._trials: dict[Reach, Trial] = {}

    @cached_property
    def columns(self) -> list[Column]:
        """The columns, world after world.

        Raises: TooLarge.
        """
        return columns_of(self.regions, self.moments, len(self.worlds))

    def adds(self, row: Row) -> list[Fraction]:
        """What one unit of each column adds to a row."""
        if row not in self._added:
            first = self.columns[: len(self.columns) // max(1, len(self.worlds))]
            added = [sum((column.adds(part) for part in row.parts), ZERO) for column in first]
            self._added[row] = in_worlds(row, added, self.worlds)
        return self._added[row]

    def trial(self, reach: Reach) -> Trial:
        """The candidates of a round."""
        if reach not in self._trials:
            self._trials[reach] = Trial(
                candidates(self.grid, self.regions, reach), self.variables, self.worlds
            )
        return self._trials[reach]


class Trial:
    """Candidate responses and their scores."""

    def __init__(self, tried: list[Candidate], variables: Variables, worlds: Sequence[World]) -> None:
        self.tried = tried
        self.worlds = worlds
        self.scores = [
            {name: to_decimal(value) for name, value in c.point.items() if not variables.found[name].operands}
            for c in tried
        ]
        self._added: dict[Row, list[Fraction]] = {}

    def adds(self, row: Row) -> list[Fraction]:
        """What one unit of each candidate, world after world, adds to a row.

        Raises: ValueError for a formula that the reference interpreter does not know.
        """
        if row not in self._added:
            values = [part for part in row.parts if isinstance(part, Moment | Excess)]
            others = [part for part in row.parts if isinstance(part, Mass | TruthOf)]
            known: dict[int, Fraction] = {}  # candidates of one region share their truth values
            added = []
            for candidate, scores in zip(self.tried, self.scores, strict=True):
                key = id(candidate.truths)
                if candidate.truths is None or key not in known:
                    known[key] = sum((_adds(part, candidate, scores) for part in others), ZERO)
                added.append(sum((_value(part, candidate) for part in values), known[key]))
            self._added[row] = in_worlds(row, added, self.worlds)
        return self._added[row]


def _value(part: Moment | Excess, candidate: Candidate) -> Fraction:
    value = part.form.at(candidate.point)
    return part.over(value) if isinstance(part, Excess) else value


def _adds(part: Mass | TruthOf, candidate: Candidate, scores: Mapping[str, Decimal]) -> Fraction:
    if isinstance(part, Mass):
        return part.factor
    if candidate.truths is not None:
        return part.factor if candidate.truths[part.formula] == CODE[part.truth] else ZERO
    return part.factor if evaluate(part.formula, scores) is part.truth else ZERO


def in_worlds(row: Row, added: list[Fraction], worlds: Sequence[World]) -> list[Fraction]:
    """What is added in each world: nothing outside the domain of the row."""
    nothing = [ZERO] * len(added)
    return [value for world in worlds for value in (added if row.domain in world.inside else nothing)]


def to_decimal(value: Fraction) -> Decimal:
    """A finite decimal as it is written."""
    return Decimal(decimal_text(value))
