"""Mistakes with operators, numbers and single characters, each recognised by one function."""

from __future__ import annotations

from itertools import takewhile

from constraintlang import vocabulary as v
from constraintlang import wording
from constraintlang.fixes import Fix, inserting, removing, replacing
from constraintlang.layout import CLAUSE_WORDS, DANGLING
from constraintlang.literals import exact_number
from constraintlang.normal_form import NEGATED
from constraintlang.open_texts import never_closed
from constraintlang.sentences import sentence
from constraintlang.situations import Found, Situation, shown
from constraintlang.source import Span
from constraintlang.tokens import NEWLINE

_NUMBERS = ("INT", "NUMBER", "PERCENT")
_BEHIND_NOT = {**NEGATED, "=": "!="}


def open_string(s: Situation) -> Found | None:
    """A text without its closing quote."""
    if s.type() != "BAD_STRING":
        return None
    found = never_closed(s.tokens[s.index], s.tokens[: s.index])
    return Found(found.span, found.message, found.help or "", found.fix)


def foreign_comment(s: Situation) -> Found | None:
    """``//``, ``/*`` or ``--`` where ``#`` is meant."""
    for index in range(min(s.index + 1, len(s.tokens) - 1)):
        offset = index - s.index
        sign = s.joined(offset, 2)
        if sign in ("//", "/*") or (sign == "--" and s.type() in ("NAME", "UNKNOWN")):
            return Found(
                s.span(offset, offset + 1), f"`{sign}` does not begin a comment", "comments begin with `#`"
            )
    return None


def markup(s: Situation) -> Found | None:
    """What comes along when a policy is copied from a page, a Markdown file or a merge."""
    marker = "".join(str(t) for t in s.tokens[:7]) if s.index <= 7 else ""
    if marker.startswith(("<<<<<<<", "=======", ">>>>>>>")):
        offset = -s.index
        message = "this is a conflict marker of version control"
        last = offset + (3 if marker.startswith("=") else 6)  # `=======` is cut into `==`, `==`, `==`, `=`
        return Found(s.span(offset, last), message, "keep one of the two versions and remove the markers")
    if s.joined(0, 3) == "```":
        return Found(s.span(0, 2), "a policy file has no code fence", "remove this line")
    entity = s.text(1)
    if s.text() == "&" and s.touches() and entity in wording.HTML_SIGNS:
        last = 2 if s.text(2) == ";" else 1
        sign = wording.HTML_SIGNS[entity]
        return Found(s.span(0, last), f"`&{entity};` is how HTML writes `{sign}`", f"write `{sign}`")
    return None


def foreign_operator(s: Situation) -> Found | None:
    """An operator of another language."""
    known = wording.FOREIGN_OPERATORS
    if s.type() == "MUL" and s.text(-1) + s.text() == "**":
        return Found(s.span(-1), "there is no power operator", "multiply it out: `a * a`")
    if s.type() == "CMP" and s.text(-1) == "-" and s.text() == ">" and s.touches(-1):
        return Found(s.span(-1), "`->` is not an operator of this language", "write `implies`")
    if s.type() not in ("UNKNOWN", "VBAR"):
        return None
    written, first, last = s.text(), 0, 0
    if written == "!" and s.text(1) in _BEHIND_NOT:
        span, right = s.span(0, 1), _BEHIND_NOT[s.text(1)]
        cut = s.text(1) == "=" and not s.touches()
        message = "`! =` is cut in two" if cut else f"`!{s.text(1)}` is not a comparison"
        return Found(span, message, f"write `{right}`", replacing(span, right, "safe" if cut else "unsafe"))
    if s.touches() and s.text() + s.text(1) in known:
        written, last = s.text() + s.text(1), 1
    elif (
        s.type(-1) == "VBAR" and s.type() == "VBAR"
    ):  # in `P(...)` the first one could be that of a condition
        written, first = "||", -1
    if written not in known:
        return None
    message = f"`{written}` is not an operator of this language"
    fix = _operator_fix(s, first, last, known[written]) if written not in "^|" else None
    return Found(s.span(first, last), message, f"write `{known[written]}`", fix)


def _operator_fix(s: Situation, first: int, last: int, operator: str) -> Fix:
    """The operator in the place of some tokens, with a space where a word would touch another."""
    text = operator
    if operator.isalpha():
        before = s.touches(first - 1) and s.type(first - 1) != "LPAR"
        text = f"{' ' if before else ''}{operator}{' ' if s.touches(last) else ''}"
    return replacing(s.span(first, last), text, "safe")


def misspelt_comparison(s: Situation) -> Found | None:
    """A comparison that is written in another way, or `=` and `==` in each other's place."""
    first, second, before = s.text(), s.text(1), s.text(-1)
    if s.touches() and first + second == "=>":
        return _arrow(s)
    if s.touches() and (first + second) in wording.WRONG_COMPARISONS:
        return _wrong_comparison(first + second, s.span(0, 1))
    if s.type(-1) == "CMP" and (before + first) in wording.WRONG_COMPARISONS and s.touches(-1):
        return _wrong_comparison(before + first, s.span(-1))
    if s.type(-1) == "CMP" and s.type() == "EQUAL" and before in "<>":
        fix = replacing(s.span(-1), f"{before}=", "safe")
        return Found(s.span(-1), f"`{before} =` is cut in two", f"write `{before}=` without a space", fix)
    if s.type() == "EQUAL" and "CMP" in s.expected and (statistic := _statistic_before(s)):
        message = f"`=` does not compare, and `{statistic}` cannot be shown to be exactly a number"
        help = f"write a bound, for example `{wording.BOUNDS[statistic == v.PROBABILITY]}`"
        if statistic == v.PROBABILITY and s.text(1) == "0":
            help = "write `always not` before the condition where no response may meet it"
        return Found(s.span(), message, help)
    if s.type() == "EQUAL" and "CMP" in s.expected:
        # `cap = 0.1` may also be a constant whose `let` was forgotten.
        fix = replacing(s.span(), "==", "unsafe" if s.index == 1 else "safe")
        return Found(s.span(), "`=` does not compare", "write `==` to compare; `=` sets a value", fix)
    if s.type() == "CMP" and first == "==" and "EQUAL" in s.expected:
        message = "`==` compares numbers; here a value is set or a tag is matched"
        return Found(s.span(), message, "write `=`", replacing(s.span(), "=", "safe"))
    if s.type() in ("EQUAL", "COLON") and s.type(-1) in CLAUSE_WORDS:
        word = s.text(-1)
        return Found(s.span(-1), f"no `{first}` follows `{word}`", sentence(s.place))
    return None


def _statistic_before(s: Situation) -> str | None:
    """The statistic whose closing bracket stands before the failing token."""
    depth = 0
    for offset in range(-1, -s.index - 1, -1):
        depth += {"RPAR": 1, "LPAR": -1}.get(s.type(offset), 0)
        if depth == 0:
            before = s.text(offset - 1)
            return before if s.type() and s.type(-1) == "RPAR" and before in v.STATISTICS else None
    return None


def _arrow(s: Situation) -> Found:
    """`=>`: a comparison before a number, `implies` between conditions, and between two names nobody knows."""
    ends = {*CLAUSE_WORDS, "AND", "OR", "IMPLIES", "COMMA", "RPAR", "LPAR", NEWLINE}
    left = takewhile(lambda kind: kind not in ends, (s.type(-i) for i in range(1, s.index + 1)))
    right = takewhile(lambda kind: kind not in ends, (s.type(i) for i in range(2, len(s.tokens) - s.index)))
    conditions = {"CMP", "IN", "NOT", *wording.TIME_WORDS}
    has_condition = not conditions.isdisjoint(left) or not conditions.isdisjoint(right)
    message, place = "`=>` is not a comparison", s.span(0, 1)
    if has_condition:
        return Found(place, message, "write `implies`", replacing(place, "implies"))
    if s.type(2) in _NUMBERS:
        return Found(place, message, "write `>=`", replacing(place, ">="))
    return Found(place, message, "write `>=` to compare, `implies` between conditions")


def _wrong_comparison(written: str, span: Span) -> Found:
    right = wording.WRONG_COMPARISONS[written]
    clear = written in wording.CLEAR_COMPARISONS
    fix = replacing(span, right.split("`")[1], "safe" if clear else "unsafe")
    return Found(span, f"`{written}` is not a comparison", f"write {right}", fix)


def nothing_follows(s: Situation) -> Found | None:
    """An operator or a word at the end of its item, or before what cannot be its operand."""
    if s.index == 0 or not (s.at_end or _ends_an_operand(s)) or s.type(-1) not in DANGLING:
        return None
    return Found(s.span(-1, -1), f"nothing follows `{s.text(-1)}`", sentence(s.place))


def _ends_an_operand(s: Situation) -> bool:
    # `for` and its like after an operator: the operand is what is missing, the word itself is in its place.
    operators = ("CMP", "ADD", "MUL", "AND", "OR", "IMPLIES", "NOT", "VBAR")
    closes = CLAUSE_WORDS | {"AND", "OR", "IMPLIES", "RPAR", "RSQB", "RBRACE", "COMMA"}
    return (s.type(-1) in operators and s.type() in closes) or (
        s.type(-1) in CLAUSE_WORDS | {"EQUAL"} and s.type() in CLAUSE_WORDS | {"RPAR", "RBRACE", "COMMA"}
    )


def missing_operand(s: Situation) -> Found | None:
    """An operator without its left side."""
    if s.type() in ("CMP", "MUL") and "NAME" in s.expected and "CMP" not in s.expected:
        if s.type(-1) in wording.TIME_WORDS:
            word = s.text(-1)
            message = f"`{word}` is a reserved word and cannot be compared"
            return Found(s.span(-1, -1), message, "give the attribute another name")
        side = "before" if s.index == 0 or s.type(-1) != "CMP" else "between it and the one before"
        return Found(
            s.span(), f"a value is missing {side} `{s.text()}`", "write what is compared or calculated"
        )
    if s.index == 0 and s.type() in ("AND", "OR", "IMPLIES"):
        return Found(s.span(), f"a condition is missing before `{s.text()}`", "write both sides")
    return None


def number_form(s: Situation) -> Found | None:
    """A number that is written in another way: `.5`, `1.`, `0,1`, `1_000`, `5 %`."""
    if s.type() == "DOT" and s.type(1) in _NUMBERS and s.type(-1) not in ("INT", "NUMBER"):
        clear = s.type(1) != "NUMBER" and s.type(-1) != "NAME" and s.touches()
        fix = inserting(s.span().start, "0", "safe") if clear else None
        help = f"write `0.{shown(s.text(1))}`"
        return Found(s.span(0, 1), "a number cannot begin with a point", help, fix)
    if s.type() == "DOT" and s.type(-1) in ("INT", "NUMBER"):
        return Found(s.span(-1, 0), "a number cannot end with a point or have two", "write it as `1.0`")
    if s.text() == "%" and s.type() == "UNKNOWN" and s.type(-1) in _NUMBERS and s.touches(-1):
        message = "a percentage has no exponent and no second `%`"
        right = s.text(-1) if s.type(-1) == "PERCENT" else f"{exact_number(s.text(-1)):f}%"
        return Found(s.span(-1), message, f"write `{shown(right)}`")
    if s.text() == "%" and s.type() == "UNKNOWN" and s.type(-1) in ("NAME", "RPAR"):
        help = "there is no remainder; a percentage is a number such as `5%`"
        return Found(s.span(), "`%` is not an operator of this language", help)
    if s.text() == "%" and s.type() == "UNKNOWN":
        side = -1 if s.type(-1) in _NUMBERS else int(s.type(1) in _NUMBERS)
        number = s.text(side) if side else "5"
        place = s.span(min(side, 0), max(side, 0))
        is_clear = s.type(side) in ("INT", "NUMBER") and (side < 0 or s.touches())
        fix = replacing(place, f"{number}%", "safe") if is_clear else None
        return Found(place, "`%` must stand directly behind a number", f"write `{shown(number)}%`", fix)
    left, right = s.text(-1), s.text(1)
    if s.type() == "COMMA" and "COMMA" not in s.expected and s.type(-1) == "INT" and s.type(1) in _NUMBERS:
        groups = len(right) == 3 and left != "0"
        number = f"{shown(left)}{right}" if groups else f"{shown(left)}.{shown(right)}"
        return Found(s.span(-1, 1), "a number has no comma in it", f"write `{number}`")
    if s.type() == "NAME" and s.type(-1) == "INT" and s.touches(-1) and s.text().strip("_").isdigit():
        number = shown(left) + shown(s.text().replace("_", ""))
        return Found(s.span(-1, 0), "the digits of a number are not separated", f"write `{number}`")
    return None


def unknown_character(s: Situation) -> Found | None:
    """A character that no rule knows."""
    if s.type() != "UNKNOWN":
        return None
    name = wording.character_phrase(s.text())
    ends = s.index == len(s.tokens) - 1 or s.type(1) == NEWLINE
    fix = removing(s.span(), "safe") if s.text() == ";" and ends and s.index > 0 else None
    return Found(s.span(), f"{name} has no meaning here", wording.character_help(s.text()), fix)
