"""The entries between the braces of an item, each with a head of its own, so that each can be read alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lark.lexer import Token

from constraintlang.tokens import CLOSING, NEWLINE, OPENING

_HEADS = {
    "TEST": (("TEST", "test"), ("STRING", '"t"')),
    "ATTRIBUTE": (("ATTRIBUTE", "attribute"), ("NAME", "a"), ("COLON", ":"), ("NAME", "score")),
    "DOMAIN": (("DOMAIN", "domain"), ("NAME", "d")),
}
"""The shortest head of each kind: a long one would be read again with every entry."""


def entries(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """An item for each line between the braces of an item; nothing for one without braces."""
    head = _HEADS.get(tokens[0].type)
    brace = next((i for i in range(1, len(tokens)) if _opens(tokens, i)), None)
    if head is None or brace is None or tokens[-1].type != "RBRACE":
        return
    place = tokens[brace].start_pos
    written = [Token(kind, text, place, end_pos=place) for kind, text in head]
    depth, entry = 0, list[Token]()
    for token in tokens[brace + 1 :]:
        depth += (token.type in OPENING) - (token.type in CLOSING)
        if depth < 0 or (depth == 0 and token.type == NEWLINE):
            if entry:
                end = [token] if depth == 0 else []  # without it the item would seem to end at its brace
                yield [*written, tokens[brace], *entry, *end, tokens[-1]]
            entry = []
        else:
            entry.append(token)


def _opens(tokens: Sequence[Token], index: int) -> bool:
    return tokens[index].type == "LBRACE" and tokens[index - 1].type != "IN"
