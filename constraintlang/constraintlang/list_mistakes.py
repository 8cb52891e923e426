"""Mistakes with what joins and encloses: commas, sets, intervals, braces, missing operators."""

from __future__ import annotations

from constraintlang import vocabulary as v
from constraintlang.fixes import inserting, removing, replacing
from constraintlang.sentences import sentence
from constraintlang.situations import Found, Situation, shown

_VALUES = ("NAME", "NUMBER", "INT", "PERCENT", "STRING", "REGEX")
_CLOSING = {"RBRACE": "LBRACE", "RPAR": "LPAR", "RSQB": "LSQB"}


def comma_in_a_declaration(s: Situation) -> Found | None:
    """``attribute a: score, lower_is_better``."""
    before = [token.type for token in s.tokens[: s.index]]
    if s.type() != "COMMA" or before[:1] != ["ATTRIBUTE"] or "LBRACE" in before or "COMMA" in s.expected:
        return None
    is_clear = s.type(1) == "LBRACE" or s.text(1) in v.DIRECTIONS
    fix = removing(s.span(), "safe") if is_clear else None
    return Found(s.span(), "no comma stands between the parts of a declaration", "remove it", fix)


def comma_between_conditions(s: Situation) -> Found | None:
    """A comma where `and` is meant."""
    if s.type() != "COMMA" or "COMMA" in s.expected or s.index == 0 or not s.type(1):
        return None
    if "GIVEN" in (s.type(i) for i in range(-6, 0)) and s.type(1) == "NAME":
        help = f"write one `given` a line: `given {shown(s.text(1))} = ...`"
        return Found(s.span(), "a comma does not join the scores of a test", help)
    if s.type(-1) in (*_VALUES, "RPAR", "RSQB", "RBRACE"):
        return Found(s.span(), "a comma does not join conditions", "write `and`, or start a new line")
    return None


def comma_at_the_end(s: Situation) -> Found | None:
    """A comma before the closing bracket."""
    if s.type() in _CLOSING and s.type(-1) == "COMMA":
        return Found(s.span(-1, -1), "nothing follows this comma", "remove it")
    return None


def empty_brackets(s: Situation) -> Found | None:
    """Nothing between two brackets where something is needed."""
    offset = -1
    while s.type(offset) == "_NL":
        offset -= 1
    if s.type() in _CLOSING and s.type(offset) == _CLOSING[s.type()]:
        message = f"nothing stands between `{s.text(offset)}` and `{s.text()}`"
        is_domain = str(s.tokens[0]) == "domain" and s.place.startswith("fields:")
        return Found(s.span(offset), message, sentence("domain:" if is_domain else s.place))
    return None


def missing_operator(s: Situation) -> Found | None:
    """Two values side by side in a condition."""
    values = ("NAME", "NUMBER", "INT", "PERCENT", "LPAR", "NOT", "STRING")
    ends = ("NAME", "NUMBER", "INT", "PERCENT", "RPAR", "RSQB")
    if s.type() in values and s.type(-1) in ends and "CMP" in s.expected:
        left, right = shown(s.text(-1)), shown(s.text())
        return Found(
            s.span(-1),
            f"an operator is missing between `{left}` and `{right}`",
            "write a comparison such as `<`, an operator such as `*`, or start a new line",
        )
    return None


def prefixed_text(s: Situation) -> Found | None:
    """A text with the prefix that another language puts before a pattern."""
    prefix = s.text(-1)
    if s.type() != "STRING" or not s.touches(-1) or prefix.lower() not in ("r", "b", "f", "u", "rb", "re"):
        return None
    place = s.span(-1, -1)
    if s.text(-3) == "regex":
        help, fix = 'write a pattern like `re"[0-9]+"`', replacing(place, "re", "safe")
    else:
        help, fix = 'a text has no prefix; a pattern is written like `re"[0-9]+"`', removing(place)
    return Found(place, f'no text begins with `{prefix}"`', help, fix)


def missing_comma(s: Situation) -> Found | None:
    """Two values side by side in a list."""
    if s.type() in _VALUES and s.type(-1) in _VALUES and "COMMA" in s.expected:
        left, right = shown(s.text(-1)), shown(s.text())
        message, help = f"a comma is missing between `{left}` and `{right}`", f"write `{left}, {right}`"
        return Found(s.span(-1), message, help, inserting(s.span(-1, -1).end, ","))
    return None


def range_in_words(s: Situation) -> Found | None:
    """``between 1 and 2``, ``from 1 to 2``, ``in 1..2``, ``in (1, 2)``: a range that is written in another way."""
    in_words = s.type() == "NAME" and s.text() in ("between", "from", "within") and s.index > 0
    if not in_words and not (s.type(-1) == "IN" and "LSQB" in s.expected):
        return None
    first = 0 if in_words else -1
    numbers = [i for i in range(first + 1, first + 7) if s.type(i) in ("INT", "NUMBER", "PERCENT")][:2]
    message = f"a range is not written with `{s.text(first)}`" if in_words else "`in` needs an interval here"
    between = range(max(first + 1, 1), numbers[1]) if len(numbers) == 2 else ()
    others = [i for i in between if s.type(i) in _VALUES and i not in numbers and s.text(i) != "to"]
    if len(numbers) < 2 or others:
        return Found(s.span(first, 0), message, "write it like `in [low, high]`; both ends are included")
    low, high = numbers
    last = high + (s.type(high + 1) in _CLOSING)
    right = f"in [{s.text(low)}, {s.text(high)}]"
    return Found(
        s.span(first, last), message, f"write `{shown(right)}`", replacing(s.span(first, last), right)
    )


def wrong_enclosure(s: Situation) -> Found | None:
    """A set where one value, an interval or a text belongs, and the other way round."""
    if s.type() == "LBRACE" and s.tokens[0].type == "LET":
        help = "a set is written where it is matched, for example `toxicity < 0.1 for lang in {en, de}`"
        return Found(s.span(), "a constant is a number, not a set", help)
    if s.type() == "LBRACE" and s.type(-1) == "EQUAL" and "NAME" in s.expected:
        fix = replacing(s.span(-1, -1), " in " if s.touches(-1) else " in", "safe")
        return Found(s.span(-1), "`=` matches one value, not a set", "a set is matched with `in`", fix)
    if s.type(-1) == "IN" and "LBRACE" in s.expected and s.type() in ("NAME", "LSQB", "LPAR", "STRING"):
        single = s.type() in ("NAME", "STRING") and s.type(1) not in ("COMMA", "DOT")
        in_braces = replacing(s.span(), f"{{{s.text()}}}", "safe") if single else None
        help = (
            f"write `{{{shown(s.text())}}}`"
            if single
            else "write the values in braces, for example `{en, de}`"
        )
        return Found(s.span(), "`in` needs a set of values here", help, in_braces)
    if s.place == "bound: LSQB INT" and s.type() == "RSQB":
        number = shown(s.text(-1))
        return Found(s.span(-2), "a bound has two ends", f"write `[0, {number}]`, or `[{number}, {number}]`")
    return None
