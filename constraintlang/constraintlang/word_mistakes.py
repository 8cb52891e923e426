"""Mistakes with words, names and labels, each recognised by one function."""

from __future__ import annotations

from constraintlang import vocabulary as v
from constraintlang import wording
from constraintlang.fixes import replacing
from constraintlang.situations import Found, Situation, shown
from constraintlang.suggestions import closest


def label_form(s: Situation) -> Found | None:
    """A label of two words or in quotes, a label where none is meant, a colon in the wrong place."""
    if s.index == 0 and s.type() == "STRING" and s.type(1) == "COLON":
        return Found(
            s.span(), "a label is a plain name without quotes", "write it like `cap: toxicity < 0.1`"
        )
    if s.index == 1 and s.type(-1) == "NAME" and s.type() == "NAME" and s.type(1) == "COLON":
        name = shown(f"{s.text(-1)}_{s.text()}")
        return Found(s.span(-1), "a label is one word", f"write `{name}:`")
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
    """A declared name with a hyphen in it."""
    declares = s.index == 2 and s.type(-1) == "NAME" and s.type(-2) in wording.NAMING_WORDS
    if declares and s.text() == "-" and s.touches(-1):
        name = shown(s.joined(-1, 9).replace("-", "_").partition(":")[0])
        return Found(s.span(-1, 1), "a name is made of letters, digits and `_`", f"write `{name}`")
    return None


def foreign_word(s: Situation) -> Found | None:
    """A word of plain English or of another language: at the failing place, or the one before it."""
    for offset in (0, -1):
        word = s.text(offset)
        if s.type(offset) != "NAME" or word.lower() not in wording.FOREIGN_WORDS:
            continue
        if offset == -1 and s.index > 1 and s.type() in ("CMP", "AND", "OR"):
            continue
        help = wording.FOREIGN_WORDS[word.lower()]
        if word.lower() == "percent" and s.type(offset - 1) in ("INT", "NUMBER"):
            help = f"write `{shown(s.text(offset - 1))}%`"
        return Found(s.span(offset, offset), f"`{word}` is not a word of this language", help)
    return None


def setting_without_under(s: Situation) -> Found | None:
    """A setting of the sampling as if it were a clause."""
    name = s.text()
    if s.type() != "NAME" or name not in v.UNDER or not {"UNDER", "CMP"} & s.expected or s.index == 0:
        return None
    skip = 2 if s.type(1) in ("EQUAL", "COLON") else 1
    value = s.text(skip) if s.type(skip) in ("INT", "NUMBER", "PERCENT") else "1"
    return Found(s.span(), f"`{name}` is a setting of `under`", f"write `under {name}={shown(value)}`")


def statistic_form(s: Situation) -> Found | None:
    """A statistic without round brackets."""
    name = s.text(-1)
    known = {**dict.fromkeys(v.STATISTICS), **wording.OTHER_NAMES}
    if s.type(-1) != "NAME" or name not in known:
        return None
    function = known[name] or name
    if s.type() == "LSQB" and s.touches(-1):
        message = "a statistic takes its argument in round brackets"
        return Found(s.span(-1), message, f"write `{function}(...)`")
    if s.type() == "NAME":
        message = f"`{name}` takes its argument in brackets"
        return Found(s.span(-1), message, f"write `{function}({shown(s.text())})`")
    return None


def reserved_word(s: Situation) -> Found | None:
    """A reserved word where a name is needed."""
    if "NAME" not in s.expected or s.type() not in wording.KEYWORDS or s.index == 0:
        return None
    if s.type(-1) in ("EQUAL", "LBRACE", "COMMA") and "STRING" in s.expected:
        fix = replacing(s.span(), f'"{s.text()}"', "safe")
        return Found(s.span(), f"`{s.text()}` is a reserved word", f'put it in quotes: `"{s.text()}"`', fix)
    message = f"`{s.text()}` is a reserved word and cannot be a name here"
    return Found(s.span(), message, f"choose another name, for example `{s.text()}_`")


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
