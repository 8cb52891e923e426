"""A lexer for Pygments.

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
            (r"\s+", Whitespace),
            (r"#[^\n]*", Comment.Single),
            (r're"(\\.|[^"\\\n])*"', String.Regex),
            (r'"(\\.|[^"\\\n])*"', String.Double),
            (r'"(\\.|[^"\\\n])*', Error),
            (r"[0-9]+(\.[0-9]+)?%", Number),
            (r"[0-9]+\.[0-9]+([eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+", Number.Float),
            ("[0-9]+", Number.Integer),
            (r"\b(?:as|attribute|domain|edition|given|group|import|let|on|tag|test)\b", Keyword.Declaration),
            (r"\b(?:always|because|before|confidence|eventually|for|globally|next|over|per|prefer|preserve|priority|release|require|under|until|weak_next|weak_until|weight)\b", Keyword),
            (r"\b(?:and|implies|in|not|or)\b", Operator.Word),
            (r"\b(?:false|last|true)\b", Keyword.Constant),
            (r"\b(?:P|classifier|code|code_tests|cvar|json|json_schema|judge|language|length|lexicon|logprob|max|mean|median|min|nli|perplexity|pii|python|quantile|readability|regex|repetition|reward|secrets|similarity)\b(?=\s*\()", Name.Builtin),
            (r"\b(?:accuracy|base|higher_is_better|lower_is_better|perplexity)\b", Name.Builtin.Pseudo),
            (r"[A-Za-z_][A-Za-z0-9_]*(?=\s*:)", Name.Label),
            (r"[A-Za-z_][A-Za-z0-9_]*(?=\s*=(?!=))", Name.Attribute),
            ("[A-Za-z_][A-Za-z0-9_]*", Name),
            ("(?:<=|>=|==|!=|<|>)", Operator),
            ("[-+*/]", Operator),
            (r"[\]\[(){},:=|.@]", Punctuation),
        ]
    }
