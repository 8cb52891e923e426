"""Mistakes with conditions on prompts and with settings of the sampling, each recognised by one function."""

from __future__ import annotations

from constraintlang import vocabulary as v
from constraintlang.fixes import Edit, Fix, inserting, removing, replacing
from constraintlang.layout import CLAUSE_WORDS
from constraintlang.situations import MAX_ITEM, Found, Situation, shown
from constraintlang.source import Span

_ALL = ("all", "any", "everything", "everyone", "anything", "anyone", "*", "true")
_NAMES = ("NAME", "STRING")
_VALUES = ("NAME", "NUMBER", "INT", "PERCENT", "STRING")


def all_prompts(s: Situation) -> Found | None:
    """``for all``: what a statement without ``for`` says."""
    word = next((i for i in (0, -1) if s.text(i).lower() in _ALL and s.type(i - 1) == "FOR"), None)
    if word is None or "CMP" in s.expected or (word == -1 and s.type() in ("EQUAL", "IN", "CMP")):
        return None
    place = s.span(word - 1, word)
    ends = word + 1 >= len(s.tokens) - s.index or s.type(word + 1) in CLAUSE_WORDS
    fix = removing(Span(s.span(word - 2, word - 2).end, place.end)) if ends and s.index + word > 1 else None
    return Found(place, "a statement without `for` speaks of all prompts", "remove it", fix)


def repeated_for(s: Situation) -> Found | None:
    """``for domain=chat and for lang=en``."""
    if s.type() != "FOR" or s.type(-1) not in ("AND", "OR", "NOT", "FOR") or "DOMAIN" not in s.expected:
        return None
    place = Span(s.span().start, s.span(1, 1).start if s.type(1) else s.span().end)
    message = "one `for` stands before all conditions on prompts"
    return Found(s.span(), message, "remove it", removing(place, "safe"))


def compared_tag(s: Situation) -> Found | None:
    """``for lang != en``, ``for age < 13``, ``for lang not in {en}``."""
    if s.type(-1) not in ("NAME", "DOMAIN") or not {"EQUAL", "IN"} <= s.expected or "CMP" in s.expected:
        return None
    key = s.text(-1)
    if s.type() == "CMP" and s.text() == "!=" and s.type(1) in _VALUES:
        place, right = s.span(-1, 1), f"not {key}={s.text(1)}"
        fix = replacing(place, right, "safe") if s.type(-2) != "NOT" else None
        return Found(place, "prompts are left out with `not`", f"write `{shown(right)}`", fix)
    if s.type() == "CMP" and s.text() != "==":
        message = f"a tag has values, and `{s.text()}` compares numbers"
        return Found(
            s.span(), message, f"list the values that are meant, for example `{shown(key)} in {{11, 12}}`"
        )
    return None


def tag_as_condition(s: Situation) -> Found | None:
    """``lang = de implies polite``, ``domain == "chat"``: prompts are chosen where responses are judged."""
    key = _key_of_a_condition(s)
    if key is None:
        return None
    # Behind a comparison the value is next, behind `in {` one further.
    operator = next(i for i in range(key + 1, key + 3) if s.type(i) in ("EQUAL", "CMP", "IN"))
    braced = s.type(operator) == "IN"
    value = operator + 1 + braced
    written = s.text(value)
    chosen = f"{shown(s.text(key))}={shown(written)}"
    if s.text(operator) == "!=":
        chosen = f"not {chosen}"
    help = f"write `toxicity < 0.1 for {chosen}`, and inside a statistic `P(toxicity > 0.5 | {chosen})`"
    if s.type(key) == "NAME" and not braced and s.type(value) == "NAME":
        help += "; numbers are compared with `==`"
    message = f"`{chosen}` chooses prompts, and a condition speaks of responses"
    return Found(s.span(key, value), message, help)


def _key_of_a_condition(s: Situation) -> int | None:
    """Where the tag stands that a condition compares with a name or a text; None for every other mistake."""
    if s.type() == "EQUAL" and s.type(-1) == "DOMAIN" and s.index == 1:
        return -1 if s.type(1) in _NAMES and s.type(2) in ("IMPLIES", "AND", "OR") else None
    if s.type() == "EQUAL" and "CMP" in s.expected and s.type(-1) == "NAME" and s.type(-2) != "DOT":
        number = s.type(2) in ("DOT", "LPAR", "AT") or s.text(1) == "base"
        return -1 if s.type(1) in _NAMES and not number else None
    if s.type() == "STRING" and s.text(-1) in ("==", "!=") and s.type(-2) == "NAME" and s.type(-3) != "DOT":
        return -2
    if s.type() == "LBRACE" and s.type(-1) == "IN" and s.type(-2) == "NAME" and "LSQB" in s.expected:
        return -2 if s.type(1) in _NAMES and s.type(-3) != "DOT" else None
    if s.type() == "DOMAIN" and "NOT" in s.expected and s.index > 0:
        braced = s.type(1) == "IN" and s.type(2) == "LBRACE"
        compared = s.type(1) == "EQUAL" or s.text(1) in ("==", "!=")
        return 0 if s.type(3 if braced else 2) in _NAMES and (braced or compared) else None
    return None


def turned_in(s: Situation) -> Found | None:
    """``x not in ...`` where ``not x in ...`` is meant."""
    if s.type() != "NOT" or s.type(1) != "IN" or s.type(-1) not in ("NAME", "DOMAIN"):
        return None
    name = s.span(-1, -1)
    moved = Edit(Span(name.start, name.start), "not "), Edit(Span(s.span().start, s.span(1, 1).start), "")
    fix = Fix(moved, "safe") if s.type(-2) not in ("DOT", "ADD", "MUL", "NOT") else None
    return Found(
        s.span(-1, 1), "`not` stands before the whole condition", f"write `not {shown(s.text(-1))} in`", fix
    )


def value_without_tag(s: Situation) -> Found | None:
    """``for toxigen``: the value of a tag stands where the tag belongs."""
    if s.type(-1) != "NAME" or not {"EQUAL", "IN"} <= s.expected or "CMP" in s.expected:
        return None
    name = shown(s.text(-1))
    before = [token.type for token in s.tokens[max(0, s.index - 4) : s.index - 1]]
    message = f"`{name}` stands alone, and prompts are chosen by tag and value"
    if s.type(-2) == "OR" and before[:2] == ["EQUAL", "NAME"]:
        place, right = s.span(-5, -1), f"{s.text(-5)} in {{{s.text(-3)}, {s.text(-1)}}}"
        return Found(place, message, f"write `{shown(right)}`", replacing(place, right))
    if s.type(-2) in ("FOR", "AND", "OR", "NOT", "VBAR", "LPAR"):
        return Found(s.span(-1, -1), message, f"write `domain={name}`")
    return None


def setting_form(s: Situation) -> Found | None:
    """Settings of the sampling as if they were clauses, or without a comma between them."""
    name = s.text()
    if s.type() != "NAME" or name not in v.UNDER or not {"UNDER", "CMP"} & s.expected or s.index == 0:
        return None
    settings, last = _settings(s)
    clauses = [token.type for token in s.tokens[: s.index] if token.type in CLAUSE_WORDS]
    written = shown(settings, MAX_ITEM)
    if clauses[-1:] == ["UNDER"] and "COMMA" in s.expected:
        message, help = f"a comma is missing before `{name}`", f"write `, {written}`"
        return Found(s.span(0, last), message, help, inserting(s.span(-1, -1).end, ",", "safe"))
    place, message = s.span(0, last), f"`{name}` is a setting of `under`"
    fix = replacing(place, f"under {settings}") if "UNDER" not in clauses and "UNDER" in s.expected else None
    return Found(place, message, f"write `under {written}`", fix)


def _settings(s: Situation) -> tuple[str, int]:
    """The settings that stand in a row from here on, as they belong behind ``under``, and where they end."""
    found, offset, last = [], 0, 0
    while s.text(offset) in v.UNDER:
        skip = 2 if s.type(offset + 1) in ("EQUAL", "COLON") else 1
        given = s.type(offset + skip) in ("INT", "NUMBER", "PERCENT")
        last = offset + skip if given else offset
        found.append(f"{s.text(offset)}={shown(s.text(last)) if given else '1'}")
        offset = last + 1
        offset += s.type(offset) == "COMMA"
    return ", ".join(found), last
