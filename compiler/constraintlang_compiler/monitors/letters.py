"""The alphabet of a trace formula: what can be told apart of one part of a response.

Comparisons of one quantity with numbers cut its scale into regions: ``x < 0.1`` and ``x <= 0.5`` make three.
A letter is one region of every scale, so combinations that cannot occur are no letters, and comparisons of one
quantity in different spellings are sets of the same regions.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np

from constraintlang_compiler.attributes import parts_predicates
from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.ir_monitors import (
    AnyScale,
    Cut,
    FlagScale,
    Scale,
    TraceFormula,
)
from constraintlang_compiler.ir_terms import Comparison, Const, FlagRef, Term
from constraintlang_compiler.monitors.dfa import Dfa

_CUTS: dict[str, tuple[str, ...]] = {
    "lt": ("lt",),
    "ge": ("lt",),
    "le": ("le",),
    "gt": ("le",),
    "eq": ("lt", "le"),
    "ne": ("lt", "le"),
}


@dataclass(frozen=True)
class Alphabet:
    """Scales in canonical order."""

    scales: tuple[AnyScale, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of regions of each scale."""
        return tuple(len(s.cuts) + 1 if isinstance(s, Scale) else 2 for s in self.scales)

    @property
    def num_letters(self) -> int:
        """The number of letters; 1 without scales."""
        return prod(self.sizes)

    def regions(self, predicate: Comparison | FlagRef) -> tuple[int, frozenset[int]]:
        """The scale (its index) that a predicate reads, and its regions where the predicate is true."""
        if isinstance(predicate, FlagRef):
            return self.scales.index(FlagScale(name=predicate.name)), frozenset(
                {0 if predicate.negated else 1}
            )
        left, right, value = _sides(predicate)
        for index, scale in enumerate(self.scales):
            if isinstance(scale, Scale) and (scale.left, scale.right) == (left, right):
                ends = [scale.cuts.index(Cut(op=op, value=value)) + 1 for op in _CUTS[predicate.op]]  # type: ignore[arg-type]
                low = range(ends[0]) if len(ends) == 1 else range(ends[0], ends[1])
                inside = frozenset(low)
                outside = frozenset(range(len(scale.cuts) + 1)) - inside
                return index, outside if predicate.op in ("ge", "gt", "ne") else inside
        raise KeyError(f"no scale for {predicate}")


def alphabet_of(formula: TraceFormula) -> Alphabet:
    """The scales of all predicates of a formula."""
    flags: set[str] = set()
    cuts: dict[tuple[Term, Term | None], set[Cut]] = {}
    for predicate in parts_predicates(formula):
        if isinstance(predicate, FlagRef):
            flags.add(predicate.name)
        else:
            left, right, value = _sides(predicate)
            found = cuts.setdefault((left, right), set())
            found.update(Cut(op=op, value=value) for op in _CUTS[predicate.op])  # type: ignore[arg-type]
    scales: list[AnyScale] = [FlagScale(name=name) for name in flags]
    for (left, right), places in cuts.items():
        ordered = sorted(places, key=lambda cut: (Fraction(cut.value), cut.op == "le"))
        scales.append(Scale(left=left, right=right, cuts=tuple(ordered)))
    return Alphabet(tuple(sorted(scales, key=sort_key)))


def without_idle_cuts(alphabet: Alphabet, dfa: Dfa) -> tuple[Alphabet, Dfa]:
    """The alphabet without the cuts that the automaton does not heed, and the automaton over it.

    INVARIANT: whether a cut is idle does not depend on which other idle cuts were removed before.
    """
    table = dfa.table.reshape(dfa.num_states, *alphabet.sizes)
    kept: list[AnyScale] = []
    for axis, scale in reversed(list(enumerate(alphabet.scales, start=1))):
        number = table.shape[axis] - 1
        heeded = [
            i
            for i in range(number)
            if not np.array_equal(np.take(table, i, axis=axis), np.take(table, i + 1, axis=axis))
        ]
        table = np.take(table, [*heeded, number], axis=axis)
        if isinstance(scale, Scale) and heeded:
            kept.append(Scale(left=scale.left, right=scale.right, cuts=tuple(scale.cuts[i] for i in heeded)))
        elif heeded:
            kept.append(scale)
    ordered = sorted(zip(reversed(kept), range(len(kept)), strict=True), key=lambda pair: sort_key(pair[0]))
    squeezed = table.reshape(dfa.num_states, *(size for size in table.shape[1:] if size > 1))
    moved = squeezed.transpose(0, *(1 + index for _, index in ordered))
    flat = np.ascontiguousarray(moved).reshape(dfa.num_states, -1)
    return Alphabet(tuple(scale for scale, _ in ordered)), Dfa(flat, dfa.accepting).minimal()


def _sides(comparison: Comparison) -> tuple[Term, Term | None, str]:
    """The quantity of a comparison as left and right side, and the number it is compared with."""
    if isinstance(comparison.right, Const):
        return comparison.left, None, comparison.right.value
    return comparison.left, comparison.right, "0"
