"""The words for tokens: no message ever names a terminal of the grammar."""

from __future__ import annotations

import unicodedata

_WORDS = """
EDITION IMPORT AS LET ATTRIBUTE IN DOMAIN TAG GROUP TEST GIVEN ON REQUIRE PREFER PRESERVE ALWAYS
IMPLIES OR AND NOT UNTIL WEAK_UNTIL RELEASE BEFORE GLOBALLY EVENTUALLY NEXT WEAK_NEXT OVER LAST TRUE FALSE
FOR PER UNDER WEIGHT PRIORITY CONFIDENCE BECAUSE
"""
KEYWORDS = frozenset(_WORDS.split())
"""The reserved words, in the upper case that the grammar gives them."""

FIRST_WORDS = frozenset(
    [
        "EDITION",
        "IMPORT",
        "LET",
        "ATTRIBUTE",
        "DOMAIN",
        "TAG",
        "GROUP",
        "TEST",
        "REQUIRE",
        "PREFER",
        "PRESERVE",
        "ALWAYS",
    ]
)
"""The reserved words that an item may begin with."""

FOREIGN_OPERATORS = {
    "&&": "and",
    "&": "and",
    "∧": "and",
    "||": "or",
    "|": "or",
    "∨": "or",
    "!": "not",
    "¬": "not",
    "→": "implies",
    "⇒": "implies",
    "≤": "<=",
    "⩽": "<=",
    "≥": ">=",
    "⩾": ">=",
    "≠": "!=",
    "×": "*",
    "·": "*",
    "÷": "/",
    "−": "-",
    "–": "-",
    "^": "a * a",
}

WRONG_COMPARISONS = {
    "=<": "`<=`",
    "=>": "`>=` to compare, `implies` between conditions",
    "<>": "`!=`",
    "===": "`==`",
    "!==": "`!=`",
    "=!": "`!=`",
    ">>": "`>`",
    "<<": "`<`",
    "><": "`!=`",
    "<==": "`<=`",
    ">==": "`>=`",
}

CLEAR_COMPARISONS = frozenset(["=<", "<>", "===", "!==", "=!", "<==", ">=="])
"""Those of them that can be read in one way only."""

NEEDS = {
    "FOR": "say which prompts, for example `for domain=toxigen`",
    "PER": "name a tag, for example `per target_group`",
    "UNDER": "name a setting, for example `under temperature=1`",
    "WEIGHT": "give a number, for example `weight 0.5`",
    "PRIORITY": "give a whole number, for example `priority 1`",
    "CONFIDENCE": "give a number below 1, for example `confidence 0.95`",
    "BECAUSE": 'give the reason in quotes, for example `because "counsel 2025-03"`',
    "LET": "name a constant, for example `let cap = 0.1`",
    "AT": "name the model, for example `reference_perplexity@base`",
    "IN": "give an interval such as `[0, 1]`, or for tags a set such as `{en, de}`",
    "CMP": "write the value to compare with, for example `toxicity < 0.1`",
    "COLON": "write the statement that the label names, or the type of the attribute",
    "ALWAYS": "write the condition, for example `always toxicity < 0.5`",
    "NOT": "write the condition that must not hold",
    "AND": "write the second condition, or remove the word",
    "OR": "write the second condition, or remove the word",
    "IMPLIES": "write what must follow, for example `medical_advice implies disclaimer`",
    "REQUIRE": "write the condition, for example `require toxicity < 0.1`",
    "PREFER": "write the condition, for example `prefer mean(formality) >= 0.6`",
    "PRESERVE": "write the condition, for example `preserve mean(perplexity) <= 1.02 * base`",
}
"""What a word wants after it, when nothing or the wrong thing follows."""

_LITERALS = {
    "EQUAL": "=",
    "COLON": ":",
    "LBRACE": "{",
    "RBRACE": "}",
    "COMMA": ",",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "VBAR": "|",
    "DOT": ".",
    "AT": "@",
}
_NOUNS = {
    "NAME": "a name",
    "INT": "a whole number",
    "NUMBER": "a number",
    "PERCENT": "a percentage",
    "STRING": "a text in double quotes",
    "REGEX": "a regular expression",
    "BAD_STRING": "a text that is not closed",
    "UNKNOWN": "an unknown character",
    "CMP": "a comparison such as `<`",
    "ADD": "`+` or `-`",
    "MUL": "`*` or `/`",
    "COMMENT": "a comment",
    "_NL": "the end of the line",
    "$END": "the end of the line",
}
_NUMBERS = {"INT", "NUMBER", "PERCENT", "ADD"}
_TERMS = {"NAME", "LPAR", *_NUMBERS}
_ORDER = {"UNTIL", "WEAK_UNTIL", "RELEASE", "BEFORE"}
_PREFIXES = {"NOT", "GLOBALLY", "EVENTUALLY", "NEXT", "WEAK_NEXT", "OVER", "TRUE", "FALSE", "LAST"}
_BEGINNINGS = {"ALWAYS", "REQUIRE", "PREFER", "PRESERVE"}
_CLAUSES = {"FOR", "PER", "UNDER", "WEIGHT", "PRIORITY", "CONFIDENCE", "BECAUSE"}
# A set of tokens that together mean one thing; the first that fits swallows its members.
_GROUPS: tuple[tuple[str, set[str], set[str]], ...] = (
    (
        "a statement or a declaration",
        {"EDITION", "NAME", "REQUIRE", "LPAR"},
        {*KEYWORDS, *_TERMS, "_NL", "$END"},
    ),
    ("a condition", {"NOT", "NAME", "NUMBER"}, {*_PREFIXES, *_TERMS, *_BEGINNINGS}),
    ("a condition on prompts", {"NOT", "NAME", "DOMAIN"}, {"NOT", "NAME", "DOMAIN", "LPAR"}),
    ("a number or a name", {"NAME", "NUMBER", "LPAR"}, _TERMS),
    ("a value", {"NAME", "STRING", "NUMBER"}, {"NAME", "STRING", "REGEX", "TRUE", "FALSE", *_NUMBERS}),
    ("a number", {"NUMBER", "INT"}, _NUMBERS),
    (
        "a comparison such as `<`",
        {"CMP", "ADD", "MUL"},
        {"CMP", "ADD", "MUL", "IN", "LPAR", "DOT", "AT", "COLON"},
    ),
    ("an operator such as `+`", {"ADD", "MUL"}, {"ADD", "MUL", "LPAR", "DOT", "AT"}),
    ("`and`, `or` or `implies`", {"AND", "OR"}, {"AND", "OR", "IMPLIES", *_ORDER}),
    ("a clause such as `for`", {"FOR", "WEIGHT"}, _CLAUSES),
    ("a word of order such as `before`", {"UNTIL", "BEFORE"}, _ORDER),
    ("the end of the line", {"_NL", "$END"}, {"_NL", "$END"}),
)


def word(terminal: str) -> str:
    """What one kind of token is called."""
    if terminal in _NOUNS:
        return _NOUNS[terminal]
    return f"`{_LITERALS.get(terminal, terminal.lower())}`"


def expected_phrase(terminals: frozenset[str]) -> str:
    """A set of acceptable tokens in words, at most four of them."""
    left = set(terminals)
    phrases = []
    for phrase, needed, swallowed in _GROUPS:
        if needed <= left:
            phrases.append(phrase)
            left -= swallowed
    phrases = sorted({word(t) for t in left - {"_NL", "$END"}} - set(phrases)) + phrases
    if left & {"_NL", "$END"} and "the end of the line" not in phrases:
        phrases.append("the end of the line")
    if len(phrases) > 4:
        phrases = [*phrases[:3], "something else"]
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " or " + phrases[-1]


def found_phrase(terminal: str, text: str) -> str:
    """What stands there instead."""
    if terminal in ("_NL", "$END"):
        return "the end of the line"
    if terminal == "UNKNOWN":
        return character_phrase(text)
    shown = text if len(text) <= 40 else text[:37] + "..."
    return f"the text {shown}" if terminal in ("STRING", "BAD_STRING") else f"`{shown}`"


def character_phrase(char: str) -> str:
    """A character, by sign where it can be seen and by its Unicode name outside ASCII."""
    if char.isascii() and char.isprintable():
        return f"`{char}`"
    name = unicodedata.name(char, "").lower()
    code = f"U+{ord(char):04X}"
    shown = f"`{char}` " if char.isprintable() and not char.isspace() else ""
    return f"the character {shown}({code}{', ' + name if name else ''})"


def character_help(char: str) -> str:
    """What to do about a character that the language does not use."""
    if char == ";":
        return "remove it: a statement ends with its line"
    if char in "'`\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}":
        return 'texts stand in double quotes: `"..."`'
    if char in "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}«»„":
        return 'use the plain double quote `"`'
    if not char.isascii():
        return "names, numbers and operators are plain ASCII; other characters belong in quotes or comments"
    return "remove it"
