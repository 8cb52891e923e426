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

BOUNDS = {True: "P(toxicity > 0.5) <= 1%", False: "mean(toxicity) <= 0.1"}
"""What to write where a statistic is set equal: for a chance, and for any other."""

WRONG_COMPARISONS = {
    "=<": "`<=`",
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

HTML_SIGNS = {"lt": "<", "gt": ">", "le": "<=", "ge": ">=", "amp": "and", "quot": '"'}
TIME_WORDS = frozenset(["GLOBALLY", "EVENTUALLY", "NEXT", "WEAK_NEXT", "OVER", "LAST"])
NAMING_WORDS = frozenset(["LET", "ATTRIBUTE", "DOMAIN", "TAG", "GROUP"])
"""The words that a name of the author's follows."""

OTHER_NAMES = {
    "avg": "mean",
    "average": "mean",
    "expectation": "mean",
    "expected": "mean",
    "E": "mean",
    "p": "P",
    "Pr": "P",
    "prob": "P",
    "probability": "P",
    "chance": "P",
    "share": "P",
    "rate": "P",
    "percentile": "quantile",
    "VaR": "quantile",
    "CVaR": "cvar",
    "expected_shortfall": "cvar",
    "float": "real",
    "double": "real",
    "number": "real",
    "decimal": "real",
    "bool": "flag",
    "boolean": "flag",
    "integer": "int",
    "probability_score": "score",
    "temp": "temperature",
    "max_new_tokens": "max_tokens",
    "n": "samples",
    "num_samples": "samples",
    "tol": "tolerance",
}
"""What authors know from elsewhere, and what it is called here."""

_WHERE = "say which prompts with `for`, for example `toxicity < 0.1 for domain=chat`"
_IF = "write `implies` between a condition and what must follow: `medical_advice implies disclaimer`"
_SIGN = "write a comparison: `<`, `<=`, `>`, `>=`, `==` or `!=`"
FOREIGN_WORDS = {
    **dict.fromkeys(["if", "then", "when", "whenever"], _IF),
    "else": "write one statement for each case",
    "xor": "write it out: `(a or b) and not (a and b)`",
    "nor": "write it out: `not (a or b)`",
    "nand": "write it out: `not (a and b)`",
    "iff": "write it out: `(a implies b) and (b implies a)`",
    "ratio": "compare with a multiple: `P(toxicity > 0.5 | lang=fr) <= 1.2 * P(toxicity > 0.5 | lang=en)`",
    "of": "a share of the responses is written like `P(toxicity > 0.5) <= 5%`",
    "unless": "write the exception with `for not`, or as a condition: `toxicity < 0.1 or refusal`",
    "except": "leave prompts out with `for not`, for example `for not domain=code`",
    **dict.fromkeys(["where", "on", "within"], _WHERE),
    **dict.fromkeys(
        ["is", "less", "greater", "more", "than", "below", "above", "under_", "at", "equals"], _SIGN
    ),
    **dict.fromkeys(
        ["must", "should", "shall", "may"],
        "write what is measured and its bound: `toxicity < 0.1`",
    ),
    "between": "write a range: `toxicity in [0.1, 0.2]`",
    "percent": "write the sign directly behind the number: `5%`",
    "version": "the language has editions: the first line is `edition 1`",
    **dict.fromkeys(
        ["from", "include", "use"], 'another file is read like `import "std/safety.policy" as safety`'
    ),
    **dict.fromkeys(["def", "const", "var", "set", "define"], "write a constant like `let cap = 0.1`"),
    **dict.fromkeys(["metric", "scorer"], "declare what is measured like `attribute toxicity: score`"),
    **dict.fromkeys(
        ["rule", "policy", "constraint", "assert", "deny", "allow"],
        "write the condition by itself: `toxicity < 0.1`",
    ),
    **dict.fromkeys(
        ["foreach", "each", "every"], "judge each value of a tag with `per`, for example `per lang`"
    ),
}
"""Words that authors bring from English and from other languages, and what to write here."""

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
    return f"the text `{shown}`" if terminal in ("STRING", "BAD_STRING") else f"`{shown}`"


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
    if char in LOOK_ALIKES:
        return f"write the Latin letter `{LOOK_ALIKES[char]}`, which looks like it"
    if unicodedata.category(char) == "Zs":
        return "put a plain space in its place"
    if unicodedata.category(char)[0] in "CZ":
        return "remove it"
    if not char.isascii():
        return "names, numbers and operators are plain ASCII; other characters belong in quotes or comments"
    return "remove it"


LOOK_ALIKES = dict(
    zip(
        "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u0501\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425"
        "\u03bf\u03b1\u03c1\u03bd\u0391\u0392\u0395\u039d\u039f\u03a1\u03a4\u03a7",
        "aeopcyxijsdhdABEKMHOPCTXoapvABENOPTX",
        strict=True,
    )
)
"""Cyrillic and Greek letters that cannot be told from Latin ones."""
