"""Mistakes with words, names and labels, each recognised by one function."""

from __future__ import annotations

import re
from itertools import takewhile

from constraintlang import vocabulary as v
from constraintlang import wording
from constraintlang.fixes import Edit, Fix, replacing
from constraintlang.layout import CLAUSE_WORDS, STRENGTH_WORDS
from constraintlang.situations import MAX_ITEM, Found, Situation, shown
from constraintlang.suggestions import closest

_HYPHENATED = re.compile(r"[A-Za-z_]\w*(-\w+)+")


def label_form(s: Situation) -> Found | None:
    """A label of two words or in quotes, a label where none is meant, a colon in the wrong place."""
    if s.index == 0 and s.type() == "STRING" and s.type(1) == "COLON":
        return Found(
            s.span(), "a label is a plain name without quotes", "write it like `cap: toxicity < 0.1`"
        )
    if s.index == 1 and s.type(-1) == "NAME" and s.type() == "NAME" and s.type(1) == "COLON":
        if closest(s.text(-1), [w.lower() for w in wording.FIRST_WORDS]) is not None:
            return None  # `atribute q: score`
        name = f"{s.text(-1)}_{s.text()}"
        return Found(s.span(-1), "a label is one word", f"write `{shown(name)}`", replacing(s.span(-1), name))
    if s.index == 2 and s.type(-1) == "COLON" and s.type() in ("CMP", "IN"):
        name = shown(s.text(-2))
        message = f"`{name}:` is a label, so nothing stands to the left of `{s.text()}`"
        help = f"write what is compared before `{s.text()}`; remove the colon if that is `{name}`"
        return Found(s.span(-2, -1), message, help)
    if s.type() == "COLON" and "COLON" not in s.expected and "EQUAL" not in s.expected and s.index > 0:
        message = "`:` stands behind a label or the name of an attribute only"
        return Found(s.span(), message, "remove it")
    return None


def hyphenated_name(s: Situation) -> Found | None:
    """A name with a hyphen in it where it is declared, or stands as a label, a tag, or the value of one."""
    message = "a name is made of letters, digits and `_`"
    label = s.written(-s.index, -1) if s.type() == "COLON" else ""
    if _HYPHENATED.fullmatch(label):
        place, name = s.span(-s.index, -1), label.replace("-", "_")
        return Found(place, message, f"write `{shown(name)}`", replacing(place, name))
    if s.text() != "-" or s.type(-1) != "NAME" or not s.touches(-1) or not s.touches():
        return None
    words = _HYPHENATED.match(s.joined(-1, 9))
    last = 2 * words[0].count("-") - 1 if words is not None else 1
    place, written = s.span(-1, last), s.written(-1, last)
    name = shown(written.replace("-", "_"))
    declares = s.index == 2 and s.type(-2) in wording.NAMING_WORDS
    if declares:
        return Found(place, message, f"write `{name}`")
    if s.type(-2) == "ON" or (s.type(-2) in ("FOR", "PER", "AND", "OR", "NOT") and "CMP" not in s.expected):
        return Found(place, message, f"write `{name}`", replacing(place, written.replace("-", "_")))
    if s.type(-2) in ("EQUAL", "LBRACE", "COMMA") and "CMP" not in s.expected:
        text = f'"{written}"'
        return Found(place, message, f"put it in quotes: `{shown(text)}`", replacing(place, text, "safe"))
    return None


def never(s: Situation) -> Found | None:
    """``never x``, ``no x``: a condition that is denied in English."""
    word = next((i for i in (0, -1) if s.type(i) == "NAME" and s.text(i).lower() in ("never", "no")), None)
    if word is None or s.type(word + 1) not in ("NAME", "LPAR", "OVER", "INT", "NUMBER", "PERCENT"):
        return None
    before = [token.type for token in s.tokens[: s.index + word]]
    if "OVER" in before:
        right = "globally not" if before[-1] == "LPAR" else "not"
    else:
        right = "not" if before and before[-1] not in ("COLON", *STRENGTH_WORDS) else "always not"
    message = f"`{s.text(word)}` is not a word of this language"
    rest = (s.type(i) for i in range(word + 1, len(s.tokens) - s.index))
    condition = takewhile(lambda kind: kind not in CLAUSE_WORDS, rest)
    if not {"AND", "OR", "IMPLIES", "UNTIL", "BEFORE"}.isdisjoint(condition):
        return Found(s.span(word, word), message, f"write `{right}` and the condition in brackets behind it")
    return Found(s.span(word, word), message, f"write `{right}`", replacing(s.span(word, word), right))


def backend_as_condition(s: Situation) -> Found | None:
    """A backend where an attribute belongs."""
    name = s.text(-2)
    if s.type(-1) != "LPAR" or s.type() not in ("STRING", "REGEX") or name not in v.BACKENDS:
        return None
    return Found(s.span(-2, 0), f"`{name}` is a backend, not a condition", v.backend_help(name))


def pattern_as_condition(s: Situation) -> Found | None:
    """A pattern, or its negation, where a condition belongs, or a negated backend where one is declared."""
    if s.type() == "REGEX" and (s.index == 0 or "NOT" in s.expected or s.type(-1) == "NOT"):
        place, word, message = 0, s.type(-1) == "NOT", "a pattern is not a condition"
    elif s.type() == "NOT" and s.text(-2) == "backend" and {s.type(1), s.type(3)} & {"REGEX"}:
        place, word, message = (1 if s.type(1) == "REGEX" else 3), True, "a backend cannot be negated"
    elif s.type() == "NOT" and s.text(-2) == "regex" and s.type(1) == "REGEX":
        place, word, message = 1, True, "a pattern cannot be negated"
    else:
        return None
    pattern = s.text(place) if len(s.text(place)) <= MAX_ITEM else 're"..."'
    use = "not found" if word else "found"
    help = f"declare `attribute found: flag {{ backend = regex({pattern}) }}`, then write `{use}`"
    return Found(s.span(), message, help)


def foreign_word(s: Situation) -> Found | None:
    """A word of plain English or of another language: at the failing place, or the one before it."""
    for offset in (0, -1):
        word = s.text(offset)
        if s.type(offset) != "NAME" or word.lower() not in wording.FOREIGN_WORDS:
            continue
        if word.lower() == "of" and s.text(offset - 1).lower() in wording.FOREIGN_WORDS:
            continue  # `ratio of`
        if offset == -1 and s.index > 1 and s.type() in ("CMP", "AND", "OR"):
            continue
        message = f"`{word}` is not a word of this language"
        if word.lower() == "percent" and s.type(offset - 1) in ("INT", "NUMBER"):
            place, number = s.span(offset - 1, offset), f"{s.text(offset - 1)}%"
            return Found(place, message, f"write `{shown(number)}`", replacing(place, number, "safe"))
        return Found(s.span(offset, offset), message, wording.FOREIGN_WORDS[word.lower()])
    return None


def statistic_form(s: Situation) -> Found | None:
    """A statistic without round brackets."""
    name = s.text(-1)
    known = {**dict.fromkeys(v.STATISTICS), **wording.OTHER_NAMES}
    if s.type(-1) != "NAME" or name not in known:
        return None
    function = known[name] or name
    if s.type() == "LSQB" and s.touches(-1):
        message = "a statistic takes its argument in round brackets"
        end = next((i for i in range(1, len(s.tokens) - s.index) if s.type(i) in ("LSQB", "RSQB")), 0)
        fix = None
        if s.type(end) == "RSQB":
            fix = Fix((Edit(s.span(-1), f"{function}("), Edit(s.span(end, end), ")")))
        return Found(
            s.span(-1), message, f"put them in the place of the square ones, as in `{function}(...)`", fix
        )
    if s.type() == "NAME":
        message = f"`{name}` takes its argument in brackets"
        return Found(s.span(-1), message, f"write `{function}({shown(s.text())})`")
    return None


def wrong_case(s: Situation) -> Found | None:
    """A keyword that is not in lower case: the failing word or, like ``LET x``, the one before it."""
    for offset in (0, -1):
        text = s.text(offset)
        if s.type(offset) == "NAME" and text != text.lower() and text.upper() in wording.KEYWORDS:
            if offset == -1 and s.index != 1:
                continue
            place, message = s.span(offset, offset), f"`{text}` is not a keyword"
            fix = replacing(place, text.lower(), "safe")
            return Found(place, message, f"keywords are lower case: `{text.lower()}`", fix)
    return None


def misspelt_keyword(s: Situation) -> Found | None:
    """A word that resembles the keyword that could stand there."""
    if s.type() == "NAME" and "NAME" not in s.expected and len(s.text()) > 2:
        near = closest(s.text(), [w.lower() for w in s.expected & wording.KEYWORDS])
        if near is not None:
            help = f"a similar keyword exists: `{near}`"
            fix = replacing(s.span(), near)
            return Found(s.span(), f"`{shown(s.text())}` is not a keyword", help, fix)
    if s.index == 1 and s.type(-1) == "NAME" and s.type() in ("NAME", "STRING", "INT"):
        near = closest(s.text(-1), [w.lower() for w in wording.FIRST_WORDS])
        if near is not None:
            help, place = f"a similar keyword exists: `{near}`", s.span(-1, -1)
            return Found(place, f"`{shown(s.text(-1))}` is not a keyword", help, replacing(place, near))
    return None


def prose(s: Situation) -> Found | None:
    """Three names in a row: a sentence, not a statement."""
    offset = -s.index
    if s.index <= 2 and all(s.type(offset + i) == "NAME" for i in range(3)) and "CMP" in s.expected:
        message = "this is a sentence of plain language, not a statement"
        return Found(s.span(offset, offset + 2), message, "name an attribute and its bound: `toxicity < 0.1`")
    return None
