"""Mistakes with what joins and encloses: commas, sets, intervals, braces, missing operators."""

from __future__ import annotations

from constraintlang.fixes import inserting, replacing
from constraintlang.sentences import sentence
from constraintlang.situations import Found, Situation, shown

_VALUES = ("NAME", "NUMBER", "INT", "PERCENT", "STRING", "REGEX")
_CLOSING = {"RBRACE": "LBRACE", "RPAR": "LPAR", "RSQB": "LSQB"}


def value_without_tag(s: Situation) -> Found | None:
    """``for toxigen``: the value of a tag stands where the tag belongs."""
    if s.type(-1) != "NAME" or not {"EQUAL", "IN"} <= s.expected or "CMP" in s.expected:
        return None
    name = shown(s.text(-1))
    before = [token.type for token in s.tokens[max(0, s.index - 4) : s.index - 1]]
    if s.type(-2) == "OR" and before[:2] == ["EQUAL", "NAME"]:
        help = f"write `in {{{shown(s.text(-3))}, {name}}}`"
    elif s.type(-2) in ("FOR", "AND", "OR", "NOT", "VBAR", "LPAR"):
        help = f"write `domain={name}`"
    else:
        return None
    return Found(s.span(-1, -1), f"`{name}` stands alone, and prompts are chosen by tag and value", help)


def comma_between_conditions(s: Situation) -> Found | None:
    """A comma where `and` is meant."""
    if s.type() != "COMMA" or "COMMA" in s.expected or s.index == 0 or not s.type(1):
        return None
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


def missing_comma(s: Situation) -> Found | None:
    """Two values side by side in a list."""
    if s.type() in _VALUES and s.type(-1) in _VALUES and "COMMA" in s.expected:
        left, right = shown(s.text(-1)), shown(s.text())
        message, help = f"a comma is missing between `{left}` and `{right}`", f"write `{left}, {right}`"
        return Found(s.span(-1), message, help, inserting(s.span(-1, -1).end, ","))
    return None


def wrong_enclosure(s: Situation) -> Found | None:
    """A set where one value, an interval or a text belongs, and the other way round."""
    if s.type() == "LBRACE" and s.type(-1) == "EQUAL" and "NAME" in s.expected:
        fix = replacing(s.span(-1, -1), " in " if s.touches(-1) else " in", "safe")
        return Found(s.span(-1), "`=` matches one value, not a set", "write `in {...}`", fix)
    if s.type(-1) == "IN" and "LBRACE" in s.expected and s.type() in ("NAME", "LSQB", "LPAR", "STRING"):
        single = s.type() in ("NAME", "STRING") and s.type(1) != "COMMA"
        in_braces = replacing(s.span(), f"{{{s.text()}}}", "safe") if single else None
        return Found(s.span(), "`in` needs a set of values here", "write `in {a, b}`", in_braces)
    if s.type(-1) == "IN" and "LSQB" in s.expected:
        return Found(
            s.span(-1), "`in` needs an interval here", "write `in [low, high]`; both ends are included"
        )
    if s.place == "bound: LSQB INT" and s.type() == "RSQB":
        number = shown(s.text(-1))
        return Found(s.span(-2), "a bound has two ends", f"write `[0, {number}]`, or `[{number}, {number}]`")
    return None
