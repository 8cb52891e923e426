"""Findings of style, which are given only when asked for: PC901, brackets that change nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from constraintlang import nodes as n
from constraintlang.declarations import walk
from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import Edit, Fix
from constraintlang.limits import MAX_NESTING
from constraintlang.parser import tokens_of
from constraintlang.printer import format_statement
from constraintlang.source import SourceFile
from constraintlang.tokens import NEWLINE, Token, span_of


def check_style(source: SourceFile, tree: n.Policy) -> list[Diagnostic]:
    """The findings of style in the items that parsed."""
    tokens = [token for token in tokens_of(source.text) if token.type not in ("COMMENT", NEWLINE)]
    starts = [token.start_pos for token in tokens]
    found: list[Diagnostic] = []
    for item, _ in walk(tree.items):
        if isinstance(item, n.Statement):
            inside = tokens[bisect_left(starts, item.span.start) : bisect_left(starts, item.span.end)]
            found += [_needless(source, *pair) for pair in needless_brackets(inside, item)]
    return found


def needless_brackets(written: Sequence[Token], statement: n.Statement) -> list[tuple[Token, Token]]:
    """The pairs of round brackets of a statement's tokens that its canonical text does without.

    Both texts have the same other tokens, but for a `require` and plus signs, which only the written one may
    have. So a pair is known by the stretch of other tokens that it encloses.
    """
    needed = {stretch for stretch, _ in _pairs(tokens_of(format_statement(statement)))}
    needless = []
    for stretch, pair in reversed(_pairs(written)):
        # Of several pairs around one stretch the outermost stays: it may be that of a call.
        if stretch in needed:
            needed.remove(stretch)
        else:
            needless.append(pair)
    return needless[::-1]


def _pairs(tokens: Sequence[Token]) -> list[tuple[tuple[int, int], tuple[Token, Token]]]:
    """Every pair of round brackets with the numbers of the other tokens between them; inner pairs first."""
    found = []
    open_brackets: list[tuple[int, Token]] = []
    count = 0
    for token in tokens:
        if token.type == "LPAR":
            open_brackets.append((count, token))
        elif token.type == "RPAR" and open_brackets:
            start, opening = open_brackets.pop()
            found.append(((start, count), (opening, token)))
        elif token.type != "REQUIRE" and str(token) != "+":
            count += 1
    return found


def _needless(source: SourceFile, opening: Token, closing: Token) -> Diagnostic:
    span = span_of(opening).to(span_of(closing))
    edits = (
        Edit(span_of(opening), _space(source.text, opening.start_pos, opening.end_pos)),
        Edit(span_of(closing), _space(source.text, closing.start_pos, closing.end_pos)),
    )
    # Without the brackets, a line break between them could end the statement.
    fix = None if "\n" in source.extract(span) else Fix(edits, "safe")
    return Diagnostic("PC901", "warning", span, "these brackets change nothing", help="remove them", fix=fix)


def _space(text: str, start: int, end: int) -> str:
    """A space where two words would grow together without the bracket, and the brackets next to it."""
    before, after = text[max(0, start - MAX_NESTING) : start], text[end : end + MAX_NESTING]
    if text[start] == "(":
        after = after.lstrip("(")
    else:
        before = before.rstrip(")")
    return " " if _is_word(before[-1:]) and _is_word(after[:1]) else ""


def _is_word(char: str) -> bool:
    return char.isalnum() or char in tuple('_"%')
