"""Write the highlighters from the grammar and its tables of words: ``python docs/editors/make_highlighters.py``.

The TextMate grammar serves VS Code and others; the Pygments lexer serves Sphinx, MkDocs and terminals. Both cut a
text where the lexer of the language cuts it, because they are made of the same terminals.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from constraintlang import layout, wording
from constraintlang import vocabulary as v
from constraintlang.machine import build_machine

ROOT = Path(__file__).parents[2]
TEXTMATE = ROOT / "docs" / "editors" / "vscode" / "syntaxes" / "policy.tmLanguage.json"
PYGMENTS = ROOT / "constraintlang" / "constraintc" / "pygments_lexer.py"

STRENGTH = layout.STRENGTH_WORDS | {"ALWAYS"}
CLAUSES = layout.CLAUSE_WORDS
LOGIC = frozenset(["AND", "OR", "NOT", "IMPLIES", "IN"])
CONSTANTS = frozenset(["TRUE", "FALSE", "LAST"])
DECLARING = (wording.FIRST_WORDS - STRENGTH) | {"AS", "ON", "GIVEN"}
ORDER = wording.KEYWORDS - STRENGTH - CLAUSES - LOGIC - CONSTANTS - DECLARING  # words of time

# lark turns the `\n` of a pattern into a line end.
TERMINALS = {t.name: t.pattern.value.replace("\n", r"\n") for t in build_machine().lark.terminals}
PUNCTUATION = r"[\]\[(){},:=|.@]"
NAME = TERMINALS["NAME"]


def either(names: Iterable[str], *, lower: bool = False) -> str:
    """A pattern for one of some whole words, in an order that never changes."""
    return r"\b(?:" + "|".join(sorted(name.lower() if lower else name for name in names)) + r")\b"


# ---------------------------------------------------------------- TextMate
def textmate() -> str:
    """The TextMate grammar."""
    patterns = [
        ("comment.line.number-sign.policy", TERMINALS["COMMENT"]),
        ("string.regexp.policy", TERMINALS["REGEX"]),
        ("string.quoted.double.policy", TERMINALS["STRING"]),
        ("invalid.illegal.unclosed.policy", TERMINALS["BAD_STRING"]),
        ("constant.numeric.percent.policy", TERMINALS["PERCENT"]),
        ("constant.numeric.decimal.policy", TERMINALS["NUMBER"]),
        ("constant.numeric.integer.policy", TERMINALS["INT"]),
        ("keyword.declaration.policy", either(DECLARING, lower=True)),
        ("storage.modifier.strength.policy", either(STRENGTH, lower=True)),
        ("keyword.control.clause.policy", either(CLAUSES, lower=True)),
        ("keyword.operator.logical.policy", either(LOGIC, lower=True)),
        ("keyword.operator.temporal.policy", either(ORDER, lower=True)),
        ("constant.language.policy", either(CONSTANTS, lower=True)),
        ("support.function.statistic.policy", either(v.STATISTICS) + r"(?=\s*\()"),
        ("support.function.backend.policy", either(v.BACKENDS) + r"(?=\s*\()"),
        ("support.constant.direction.policy", either(v.DIRECTIONS)),
        ("support.variable.policy", either(["base", *v.ROWS_QUANTITIES])),
        ("entity.name.label.policy", rf"{NAME}(?=\s*:)"),
        ("variable.parameter.policy", rf"{NAME}(?=\s*=(?!=))"),
        ("support.type.policy", rf"(?<=:){either(v.TYPES)}|(?<=: ){either(v.TYPES)}"),
        ("variable.other.policy", NAME),
        ("keyword.operator.comparison.policy", TERMINALS["CMP"]),
        ("keyword.operator.arithmetic.policy", r"[-+*/]"),
        ("punctuation.policy", PUNCTUATION),
    ]
    grammar = {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "comment": "Written by docs/editors/make_highlighters.py; edit the tables of the language, not this file.",
        "name": "Policy",
        "scopeName": "source.policy",
        "fileTypes": ["policy"],
        "patterns": [{"name": name, "match": match} for name, match in patterns],
    }
    return json.dumps(grammar, indent=2) + "\n"


# ---------------------------------------------------------------- Pygments
PYGMENTS_HEAD = '''"""A lexer for Pygments.

Written by docs/editors/make_highlighters.py; edit the tables of the language, not this file.
"""

# fmt: off
# ruff: noqa: E501
from __future__ import annotations

from pygments.lexer import RegexLexer
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, Punctuation, String, Whitespace


class PolicyLexer(RegexLexer):
    """The tokens of `.policy` files."""

    name = "Policy"
    aliases = ["policy"]
    filenames = ["*.policy"]
    tokens = {
        "root": [
'''


def pygments_module() -> str:
    """The module of the Pygments lexer."""
    rules = [
        (r"\s+", "Whitespace"),
        (TERMINALS["COMMENT"], "Comment.Single"),
        (TERMINALS["REGEX"], "String.Regex"),
        (TERMINALS["STRING"], "String.Double"),
        (TERMINALS["BAD_STRING"], "Error"),
        (TERMINALS["PERCENT"], "Number"),
        (TERMINALS["NUMBER"], "Number.Float"),
        (TERMINALS["INT"], "Number.Integer"),
        (either(DECLARING, lower=True), "Keyword.Declaration"),
        (either(STRENGTH | CLAUSES | ORDER, lower=True), "Keyword"),
        (either(LOGIC, lower=True), "Operator.Word"),
        (either(CONSTANTS, lower=True), "Keyword.Constant"),
        (either([*v.STATISTICS, *v.BACKENDS]) + r"(?=\s*\()", "Name.Builtin"),
        (either([*v.DIRECTIONS, "base", *v.ROWS_QUANTITIES]), "Name.Builtin.Pseudo"),
        (rf"{NAME}(?=\s*:)", "Name.Label"),
        (rf"{NAME}(?=\s*=(?!=))", "Name.Attribute"),
        (NAME, "Name"),
        (TERMINALS["CMP"], "Operator"),
        (r"[-+*/]", "Operator"),
        (PUNCTUATION, "Punctuation"),
    ]
    lines = [f"            ({quoted(pattern)}, {token})," for pattern, token in rules]
    return PYGMENTS_HEAD + "\n".join(lines) + "\n        ]\n    }\n"


def quoted(pattern: str) -> str:
    """A pattern as Python source, raw where it holds a backslash, in the quotes that ruff prefers."""
    quote = "'" if '"' in pattern else '"'
    return ("r" if "\\" in pattern else "") + quote + pattern + quote


FILES = {TEXTMATE: textmate, PYGMENTS: pygments_module}

if __name__ == "__main__":
    for path, made in FILES.items():
        path.write_text(made(), encoding="utf-8")
        print(path)
