"""Reserved words in the wrong place, each mistake recognised by one function."""

from __future__ import annotations

from constraintlang import wording
from constraintlang.fixes import replacing
from constraintlang.layout import CLAUSE_WORDS, STRENGTH_WORDS
from constraintlang.sentences import sentence
from constraintlang.situations import MAX_ITEM, Found, Situation, shown

_TRUTHS = ("TRUE", "FALSE")
_VALUE_ENDS = ("NAME", "INT", "NUMBER", "PERCENT", "STRING", "RBRACE", "RPAR", *_TRUTHS)
_CONDITION_STARTS = (
    {"NAME", "LPAR", "NOT", "ALWAYS", "OVER", "INT", "NUMBER", "PERCENT", *_TRUTHS}
    | STRENGTH_WORDS
    | wording.TIME_WORDS
)


def compared_truth(s: Situation) -> Found | None:
    """A flag that is compared with ``true`` or ``false``."""
    operator = next((i for i in (0, -1) if s.text(i) in ("==", "!=", "=", "is")), None)
    if operator is None or (s.text(operator) == "=" and "CMP" not in s.expected):
        return None
    right = operator + 1 if s.type(operator + 1) in _TRUTHS else None
    if right is None and s.type(operator - 1) in _TRUTHS and s.type(operator + 1) == "NAME":
        first, last, truth = operator - 1, operator + 1, s.type(operator - 1)
        name = s.text(last)
    elif right is not None and s.type(operator - 1) == "NAME":
        first, last, truth = operator - 1, right, s.type(right)
        while s.type(first - 1) == "DOT" and s.type(first - 2) == "NAME":
            first -= 2
        name = s.written(first, operator - 1)
    else:
        return None
    if s.type(first - 1) in ("CMP", "ADD", "MUL", "DOT", "AT") or s.type(last + 1) in ("DOT", "AT", "CMP"):
        return None
    condition = name if (truth == "TRUE") != (s.text(operator) == "!=") else f"not {name}"
    place, message = s.span(first, last), f"`{shown(name)}` is true or false by itself"
    return Found(place, message, f"write `{shown(condition, MAX_ITEM)}`", replacing(place, condition, "safe"))


def clause_first(s: Situation) -> Found | None:
    """``for domain=chat toxicity < 0.1``: a clause before the condition that it belongs to."""
    before = s.type(-1)
    if s.type() not in CLAUSE_WORDS or "NOT" not in s.expected or not (s.index == 0 or before == "COLON"):
        return None
    word, number = s.text(), len(s.tokens) - s.index
    message = f"`{word}` stands behind the condition that it belongs to"
    brace = next(
        (i for i in range(1, number) if s.type(i) == "LBRACE" and s.type(i - 1) not in ("IN", "EQUAL")), 0
    )
    if brace:
        help = f"statements share clauses in a group: `group name {shown(s.written(0, brace - 1))} {{ ... }}`"
        return Found(s.span(), message, help)
    start = _behind_clause(s, number)
    if start is None:
        return Found(
            s.span(), message, "write the condition first, for example `toxicity < 0.1 for domain=chat`"
        )
    end = start - 2 if s.type(start - 1) in ("COLON", "COMMA") else start - 1
    place = s.span(0, number - 1)
    right = f"{s.written(start, number - 1)} {s.written(0, end)}"
    return Found(place, message, f"write `{shown(right, MAX_ITEM)}`", replacing(place, right))


def _behind_clause(s: Situation, number: int) -> int | None:
    """Where behind a clause the condition begins: two words stand side by side there."""
    for offset in range(2, number):
        left, right = s.type(offset - 1), s.type(offset)
        if right not in _CONDITION_STARTS:
            continue
        comma = (
            left == "COMMA" and s.type() == "FOR" and s.type(offset + 1) not in ("EQUAL", "COMMA", "RBRACE")
        )
        if left == "COLON" or left in _VALUE_ENDS or comma:
            return offset
    return None


def clauses_first(s: Situation) -> Found | None:
    """``for domain=chat toxicity < 0.1`` behind a statement, to which its clauses belong."""
    if s.type() not in _CONDITION_STARTS or "BECAUSE" not in s.expected or "CMP" in s.expected:
        return None
    if s.type(-1) not in _VALUE_ENDS or "CMP" not in (token.type for token in s.tokens[s.index :]):
        return None
    message = "the condition before these clauses is complete"
    help = "clauses stand behind their condition, on a line of its own: `toxicity < 0.1 for domain=chat`"
    return Found(s.span(), message, help)


def misplaced_word(s: Situation) -> Found | None:
    """``always``, ``require`` and their like in the middle of a condition, and ``per domain``."""
    word, before = s.text(), s.type(-1)
    if s.type() in STRENGTH_WORDS and before == "ALWAYS":
        right = f"{word} always"
        place = s.span(-1)
        if s.type() == "PRESERVE":
            message = "`always` judges single responses, and `preserve` speaks of all of them together"
            return Found(place, message, "write `preserve` alone", replacing(place, word))
        return Found(
            place, f"`{word}` stands before `always`", f"write `{right}`", replacing(place, right, "safe")
        )
    if s.type() == "ALWAYS" and "NOT" in s.expected and s.index > 0:
        message = "`always` stands at the beginning of a statement only"
        if "OVER" in (token.type for token in s.tokens[: s.index]):
            return Found(s.span(), message, "write `globally`", replacing(s.span(), "globally"))
        return Found(
            s.span(), message, "write it before the whole condition, for example `always toxicity < 0.1`"
        )
    if s.type() in STRENGTH_WORDS and "NOT" in s.expected and s.index > 0:
        message = f"`{word}` stands at the beginning of a statement only"
        return Found(s.span(), message, f"write it before the whole condition: `{word} toxicity < 0.1`")
    if s.type() == "DOMAIN" and s.place.startswith(("per:", "__per_star:")):
        help = "write a statement for each domain, for example `mean(toxicity) < 0.1 for domain=chat`"
        return Found(s.span(), "`per` takes tags, and a domain is none", help)
    return None


def reserved_word(s: Situation) -> Found | None:
    """A reserved word where a name is needed."""
    if "NAME" not in s.expected or s.type() not in wording.KEYWORDS or s.index == 0:
        return None
    if s.type(-1) in ("EQUAL", "LBRACE", "COMMA") and "STRING" in s.expected:
        fix = replacing(s.span(), f'"{s.text()}"', "safe")
        return Found(s.span(), f"`{s.text()}` is a reserved word", f'put it in quotes: `"{s.text()}"`', fix)
    message = f"`{s.text()}` is a reserved word and cannot be a name here"
    names = s.type(-1) in {*wording.NAMING_WORDS, "AS", "ON", "GIVEN", "PER"} or s.type(1) in (
        "EQUAL", "COLON", "IN", "CMP", "DOT",
    )  # fmt: skip
    help = f"choose another name, for example `{s.text()}_`" if names else sentence(s.place)
    return Found(s.span(), message, help)
