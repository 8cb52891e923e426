"""Records of formulas over the parts of a response, in negation normal form; nothing here computes.

Every record is judged on a rest of the trace, which may be empty. ``Now``, ``Eventually`` and ``Until`` ask
for a part and are false on the empty rest; ``Globally`` and ``Release`` ask nothing of it and are true.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from constraintlang_compiler.ir import Comparison, DecimalText, FlagRef, Record, Term


class TraceTruth(Record):
    """A constant truth value."""

    kind: Literal["literal"] = "literal"
    value: bool


class Now(Record):
    """The rest has a first part, and the predicate is true of it."""

    kind: Literal["now"] = "now"
    predicate: Annotated[Comparison | FlagRef, Field(discriminator="kind")]


class TraceAll(Record):
    """Conjunction of two or more formulas."""

    kind: Literal["all"] = "all"
    operands: tuple[TraceFormula, ...]


class TraceAny(Record):
    """Disjunction of two or more formulas."""

    kind: Literal["any"] = "any"
    operands: tuple[TraceFormula, ...]


class Eventually(Record):
    """At one of the positions ``low`` to ``high`` (None: the end) that exist the operand is true."""

    kind: Literal["eventually"] = "eventually"
    operand: TraceFormula
    low: int = 0
    high: int | None = None


class Globally(Record):
    """At all of the positions ``low`` to ``high`` (None: the end) that exist the operand is true."""

    kind: Literal["globally"] = "globally"
    operand: TraceFormula
    low: int = 0
    high: int | None = None


class Until(Record):
    """At some position ``right`` is true, and at all positions before it ``left``."""

    kind: Literal["until"] = "until"
    left: TraceFormula
    right: TraceFormula


class Release(Record):
    """At every position ``right`` is true, unless ``left`` was true at a position strictly before it."""

    kind: Literal["release"] = "release"
    left: TraceFormula
    right: TraceFormula


TraceFormula = Annotated[
    TraceTruth | Now | TraceAll | TraceAny | Eventually | Globally | Until | Release,
    Field(discriminator="kind"),
]


# ------------------------------------------------------------ the alphabet of an automaton
class Cut(Record):
    """A place on a scale: below it ``left < value`` (op ``lt``) or ``left <= value`` (op ``le``) holds."""

    op: Literal["lt", "le"]
    value: DecimalText


class Scale(Record):
    """One compared quantity: ``left``, or ``left - right``; ``cuts`` in ascending order make its regions."""

    kind: Literal["scale"] = "scale"
    left: Term
    right: Term | None
    cuts: tuple[Cut, ...]


class FlagScale(Record):
    """A flag: region 0 where it is false, region 1 where it is true."""

    kind: Literal["flag"] = "flag"
    name: str


AnyScale = Annotated[Scale | FlagScale, Field(discriminator="kind")]


class TraceAutomaton(Record):
    """The file ``dfa/*.json``: the minimal automaton of a formula.

    A letter is one region of every scale; letters are numbered with the last scale running fastest. State 0 is
    the initial one; ``accepting`` lists states in ascending order; ``table[state][letter]`` is the next state.
    """

    format: Literal["constraintc.dfa"] = "constraintc.dfa"
    version: Literal["1.0"] = "1.0"
    scales: tuple[AnyScale, ...]
    accepting: tuple[int, ...]
    table: tuple[tuple[int, ...], ...]
