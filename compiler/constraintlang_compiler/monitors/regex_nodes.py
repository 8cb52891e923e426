"""Regular expressions as trees: characters, sequences, choices, repetitions, and conditions between characters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from constraintlang_compiler.monitors.characters import Ranges


class Kind(IntEnum):
    """What a condition between two characters can see of a neighbour."""

    EDGE = 0  # there is none: the text begins or ends here
    NEWLINE = 1
    WORD = 2  # an ASCII letter, digit or underscore
    LETTER = 3  # another letter or digit
    OTHER = 4


class Condition(IntEnum):
    """What can be asked of the place between two characters."""

    BEGIN = 0
    END = 1
    LINE_BEGIN = 2
    LINE_END = 3
    WORD_EDGE = 4
    NO_WORD_EDGE = 5
    NO_LETTER_BEFORE = 6  # of any script
    NO_LETTER_AFTER = 7

    def holds(self, before: Kind, after: Kind) -> bool:
        """Whether the condition is true between two neighbours."""
        match self:
            case Condition.BEGIN:
                return before is Kind.EDGE
            case Condition.END:
                return after is Kind.EDGE
            case Condition.LINE_BEGIN:
                return before in (Kind.EDGE, Kind.NEWLINE)
            case Condition.LINE_END:
                return after in (Kind.EDGE, Kind.NEWLINE)
            case Condition.WORD_EDGE | Condition.NO_WORD_EDGE:
                edge = (before is Kind.WORD) != (after is Kind.WORD)
                return edge == (self is Condition.WORD_EDGE)
            case Condition.NO_LETTER_BEFORE:
                return before not in (Kind.WORD, Kind.LETTER)
            case Condition.NO_LETTER_AFTER:
                return after not in (Kind.WORD, Kind.LETTER)


@dataclass(frozen=True)
class Characters:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True)
class Between:
    """No character, where a condition holds."""

    condition: Condition


@dataclass(frozen=True)
class Sequence:
    """One after the other; empty, it matches the empty text."""

    parts: tuple[Regex, ...]


@dataclass(frozen=True)
class Choice:
    """One of them; empty, it matches nothing."""

    options: tuple[Regex, ...]


@dataclass(frozen=True)
class Repeat:
    """``low`` to ``high`` times (None: without end)."""

    inner: Regex
    low: int
    high: int | None


Regex = Characters | Between | Sequence | Choice | Repeat
EMPTY_TEXT = Sequence(())


def literal(text: str) -> Regex:
    """Exactly this text."""
    return Sequence(tuple(Characters(((ord(c), ord(c)),)) for c in text))
