"""Records of formulas over the parts of a response, in negation normal form; nothing here computes.

Every formula is judged on a rest of the trace, which may be empty. ``Now``, ``Eventually`` and ``Until`` ask
for a part and are false on the empty rest; ``Globally`` and ``Release`` ask nothing of it and are true.
"""

from __future__ import annotations

from typing import Literal

from constraintlang_compiler.ir_terms import (
    Comparison,
    DecimalText,
    FlagRef,
    Hash,
    Literally,
    Record,
    SafeInt,
    Term,
    Variant,
)

Level = Literal["sentences", "turns", "tokens"]


class Now(Variant, frozen=True, kw_only=True, tag="now"):
    """The rest has a first part, and the predicate is true of it."""

    predicate: Comparison | FlagRef


class Both(Variant, frozen=True, kw_only=True, tag="all"):
    """Conjunction of two or more formulas."""

    operands: tuple[TraceFormula, ...]


class Either(Variant, frozen=True, kw_only=True, tag="any"):
    """Disjunction of two or more formulas."""

    operands: tuple[TraceFormula, ...]


class Eventually(Variant, frozen=True, kw_only=True, tag="eventually"):
    """At one of the positions ``low`` to ``high`` (None: the end) that exist the operand is true."""

    operand: TraceFormula
    low: SafeInt = 0
    high: SafeInt | None = None


class Globally(Variant, frozen=True, kw_only=True, tag="globally"):
    """At all of the positions ``low`` to ``high`` (None: the end) that exist the operand is true."""

    operand: TraceFormula
    low: SafeInt = 0
    high: SafeInt | None = None


class Until(Variant, frozen=True, kw_only=True, tag="until"):
    """At some position ``right`` is true, and at all positions before it ``left``."""

    left: TraceFormula
    right: TraceFormula


class Release(Variant, frozen=True, kw_only=True, tag="release"):
    """At every position ``right`` is true, unless ``left`` was true at a position strictly before it."""

    left: TraceFormula
    right: TraceFormula


TraceFormula = Literally | Now | Both | Either | Eventually | Globally | Until | Release


class Over(Variant, frozen=True, kw_only=True, tag="over"):
    """A formula about the parts of one response.

    ``formula`` speaks of responses that have parts, ``empty`` is the value on those that have none; ``monitor``
    is the hash of the file of the automaton of both.
    """

    level: Level
    formula: TraceFormula
    empty: bool
    monitor: Hash


# ------------------------------------------------------------ the file of an automaton
class Cut(Record, frozen=True, kw_only=True):
    """A place on a scale: below it ``left < value`` (op ``lt``) or ``left <= value`` (op ``le``) holds."""

    op: Literal["lt", "le"]
    value: DecimalText


class Scale(Variant, frozen=True, kw_only=True, tag="scale"):
    """One compared quantity: ``left``, or ``left - right``; ``cuts`` in ascending order make its regions."""

    left: Term
    right: Term | None
    cuts: tuple[Cut, ...]


class FlagScale(Variant, frozen=True, kw_only=True, tag="flag"):
    """A flag: region 0 where it is false, region 1 where it is true."""

    name: str


AnyScale = Scale | FlagScale


class TraceAutomaton(Record, frozen=True, kw_only=True):
    """``dfa/*.json``: the minimal automaton of a formula.

    A letter is one region of every scale; letters are numbered with the last scale running fastest. State 0 is
    the initial one; ``accepting`` lists states in ascending order; ``table[state][letter]`` is the next state.
    """

    format: Literal["constraintc.dfa"] = "constraintc.dfa"
    version: Literal["1.0"] = "1.0"
    scales: tuple[AnyScale, ...]
    accepting: tuple[SafeInt, ...]
    table: tuple[tuple[SafeInt, ...], ...]


class TextAutomaton(Record, frozen=True, kw_only=True):
    """The minimal automaton of the texts that satisfy a condition about wording.

    ``characters`` are intervals of code points, each as its first member and the class of all of them;
    ``table[state][class]`` is the next state.
    """

    format: Literal["constraintc.text-dfa"] = "constraintc.text-dfa"
    version: Literal["1.0"] = "1.0"
    characters: tuple[tuple[SafeInt, SafeInt], ...]
    accepting: tuple[SafeInt, ...]
    table: tuple[tuple[SafeInt, ...], ...]
