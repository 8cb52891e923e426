"""Tokens to chunks: which newlines end an item, so that each item is parsed, and can fail, alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from constraintlang.diagnostics import Diagnostic, Label
from constraintlang.fixes import inserting, removing, replacing
from constraintlang.open_texts import never_closed, num_swallowed
from constraintlang.tokens import CLOSING, NEWLINE, OPEN_TEXT, OPENING, PARTNER, Token, span_of
from constraintlang.vocabulary import ATTRIBUTE_FIELDS, DOMAIN_FIELDS

FIELDS = frozenset([*ATTRIBUTE_FIELDS, *DOMAIN_FIELDS])
MAX_ERRORS = 1_000
"""After so many errors nothing more is read or checked."""
MAX_LOOKAHEAD = 100  # tokens; without an end, many wrong brackets on one line would take quadratic time
_PREFIXES = frozenset(["GLOBALLY", "EVENTUALLY", "NEXT", "WEAK_NEXT", "OVER"])
_TEMPORAL = _PREFIXES | frozenset(["UNTIL", "WEAK_UNTIL", "RELEASE", "BEFORE"])
CLAUSE_WORDS = frozenset(["FOR", "PER", "UNDER", "WEIGHT", "PRIORITY", "CONFIDENCE", "BECAUSE"])
STRENGTH_WORDS = frozenset(["REQUIRE", "PREFER", "PRESERVE"])
# A line cannot end after these; after all but `=` the next line continues it ...
DANGLING = (
    frozenset(
        [
            "CMP",
            "ADD",
            "MUL",
            "AND",
            "OR",
            "IMPLIES",
            "NOT",
            "EQUAL",
            "COMMA",
            "COLON",
            "DOT",
            "AT",
            "IN",
            "VBAR",
            "ALWAYS",
            "AS",
            "LET",
        ]
    )
    | _TEMPORAL
    | CLAUSE_WORDS
    | STRENGTH_WORDS
)
# ... and a line that begins with these belongs to the one before it.
CONTINUING = frozenset(["AND", "OR", "IMPLIES", "UNTIL", "WEAK_UNTIL", "RELEASE", "BEFORE"]) | CLAUSE_WORDS
# An operand is missing after the others, and after these the next line may well be it.
_JOINING = _TEMPORAL | frozenset(["AND", "OR", "IMPLIES", "NOT", "COMMA"])
# What begins with these takes no clauses; a clause that begins an item is a mistake, and one is enough.
_WITHOUT_CLAUSES = CLAUSE_WORDS | frozenset(["EDITION", "IMPORT", "LET", "ATTRIBUTE", "DOMAIN", "TAG"])
_BRACED = frozenset(["ATTRIBUTE", "DOMAIN", "TAG", "TEST"])
_ITEM_WORDS = (
    frozenset(["EDITION", "IMPORT", "LET", "ATTRIBUTE", "TAG", "GROUP", "TEST", "GIVEN"]) | STRENGTH_WORDS
)
_FIRST = (
    _ITEM_WORDS
    | _PREFIXES
    | frozenset(["NAME", "DOMAIN", "ALWAYS", "NOT", "LPAR", "ADD", "INT", "NUMBER", "PERCENT", "UNKNOWN"])
)


@dataclass
class Chunk:
    """The tokens of one item; ``body`` holds the chunks between the braces of a group."""

    tokens: list[Token] = field(default_factory=list)
    body: list[Chunk] | None = None
    closing: Token | None = None
    broken: bool = False  # already reported, must not be parsed
    joined_at: list[int] = field(
        default_factory=list
    )  # indices of tokens that begin a line after an operator
    cut_at: list[int] = field(default_factory=list)
    """Those of them where another item begins, should the chunk make no sense as one."""


def split(tokens: Sequence[Token]) -> tuple[list[Chunk], list[Diagnostic]]:
    """Cut a token sequence into chunks and report brackets that do not match.

    A bracket that is never closed would join all lines to the end of the file. When there is one, a second look
    ends its item at the next line that could begin another.
    """
    kept, indents = _single_newlines(tokens)
    splitter = _Splitter(kept, indents)
    splitter.run()
    if splitter.open_at:
        splitter = _Splitter(kept, indents, never_closed_at=splitter.open_at)
        splitter.run()
    return splitter.top, splitter.diagnostics


def _single_newlines(tokens: Sequence[Token]) -> tuple[list[Token], dict[int, int]]:
    """Of several newlines in a row the first, and the indentation of each line by where its first token starts.

    So whoever looks for the next line takes one step.
    """
    kept: list[Token] = []
    indents: dict[int, int] = {}
    line_start = 0
    for token in tokens:
        if token.type == NEWLINE:
            line_start = token.start_pos + str(token).rfind("\n") + 1
            if kept and kept[-1].type == NEWLINE:
                continue
        elif not kept or kept[-1].type == NEWLINE:
            indents[token.start_pos] = token.start_pos - line_start
        kept.append(token)
    return kept, indents


class _Splitter:
    def __init__(
        self, tokens: Sequence[Token], indents: Mapping[int, int], never_closed_at: Set[int] = frozenset()
    ) -> None:
        self.tokens = tokens
        self.indents = indents
        self.never_closed_at = never_closed_at
        self.open_at: set[int] = set()  # where the brackets stand that were open at the end of their item
        self.text_is_open = False  # a text of the item has swallowed what follows it on its line
        self.line_start = 0
        self.top: list[Chunk] = []
        self.groups: list[Chunk] = []
        self.current = Chunk()
        self.brackets: list[Token] = []
        self.diagnostics: list[Diagnostic] = []
        self.last_closed: Token | None = None

    def run(self) -> None:
        for index, token in enumerate(self.tokens):
            if len(self.diagnostics) > MAX_ERRORS:
                break
            if token.type == NEWLINE:
                self.newline(index, token)
            elif token.type == "RBRACE":
                self.closing_brace(index, token)
            elif token.type in CLOSING:
                self.closing_bracket(index, token)
            elif token.type == OPEN_TEXT:
                self.open_text(token)
            else:
                self.other(index, token)
        self.end_of_item()
        for group in self.groups:
            self.unclosed(group.tokens[-1])

    # ------------------------------------------------------------ one method per situation
    def newline(self, index: int, token: Token) -> None:
        self.last_closed = None
        self.line_start = token.end_pos
        if not self.current.tokens:
            return
        new_item = self.item_starts(index + 1)
        if self.brackets:
            if new_item or self.is_left_open(index + 1):
                self.end_of_item()
            elif not any(b.type != "LBRACE" for b in self.brackets):
                self.current.tokens.append(token)
            return
        following = self.following(index + 1)
        if following is not None and following.type in CONTINUING:
            if self.current.tokens[0].type in _WITHOUT_CLAUSES:
                self.end_of_item()
            return
        last = self.current.tokens[-1].type
        if last in DANGLING and last != "EQUAL" and following is not None and not new_item:
            self.current.joined_at.append(len(self.current.tokens))
            if last not in _JOINING and self.may_start(following):
                self.current.cut_at.append(len(self.current.tokens))
            return
        self.end_of_item()

    def closing_brace(self, index: int, token: Token) -> None:
        if any(b.type == "LBRACE" for b in self.brackets):
            self.closing_bracket(index, token)
            return
        self.end_of_item()  # reports what is still open
        if self.groups:
            self.groups.pop().closing = token
            self.last_closed = token
        else:
            self.unmatched(token)

    def closing_bracket(self, index: int, token: Token) -> None:
        opening = CLOSING[token.type]
        if not any(b.type == opening for b in self.brackets):
            if self.brackets and not self.is_closed_on_its_line(index, self.brackets[-1]):
                self.mistaken(self.brackets.pop(), token)
            else:
                self.current.broken |= bool(self.brackets)
                self.unmatched(token)
            return
        while self.brackets[-1].type != opening:
            self.unclosed(self.brackets.pop(), before=token)
            self.current.broken = True
        self.brackets.pop()
        self.current.tokens.append(token)

    def open_text(self, token: Token) -> None:
        group = self.groups[-1].tokens[-1] if self.groups else None
        on_this_line = [group] if group is not None and group.start_pos >= self.line_start else []
        opened = [*on_this_line, *self.brackets]
        swallowed = num_swallowed(token, opened)
        if swallowed or (self.brackets and self.brackets[-1].type != "LBRACE"):
            self.diagnostics.append(never_closed(token, self.current.tokens, opened))
            self.current.broken = self.text_is_open = True
        self.current.tokens.append(token)
        del self.brackets[max(0, len(self.brackets) - swallowed) :]
        if on_this_line and swallowed == len(opened):
            self.end_of_item()
            self.groups.pop()

    def other(self, index: int, token: Token) -> None:
        if self.last_closed is not None:
            self.diagnostics.append(
                Diagnostic(
                    "PC001",
                    "error",
                    span_of(token),
                    "a new item must start on a new line",
                    help="break the line after `}`",
                    fix=inserting(token.start_pos, "\n", "safe"),
                )
            )
            self.last_closed = None
        tokens = self.current.tokens
        opens_group = (
            token.type == "LBRACE"
            and not self.brackets
            and tokens
            and (tokens[0].type == "GROUP" or self.holds_statements(index + 1))
            and tokens[-1].type != "IN"
        )
        tokens.append(token)
        if opens_group:
            group, self.current = self.current, Chunk()
            group.body = []
            self.add(group)
            self.groups.append(group)
        elif token.type in OPENING:
            self.brackets.append(token)

    # ------------------------------------------------------------ helpers
    def following(self, index: int) -> Token | None:
        while index < len(self.tokens) and self.tokens[index].type == NEWLINE:
            index += 1
        return self.tokens[index] if index < len(self.tokens) else None

    def type_at(self, index: int) -> str:
        return self.tokens[index].type if index < len(self.tokens) else ""

    def item_starts(self, index: int) -> bool:
        """Whether the next line begins with what can only be the beginning of an item."""
        while index < len(self.tokens) and self.tokens[index].type == NEWLINE:
            index += 1
        first, second, third = (self.type_at(i) for i in (index, index + 1, index + 2))
        if first == "GIVEN":
            return not (self.current.tokens and self.current.tokens[0].type == "TEST")
        if first == "DOMAIN":
            return second == "NAME" and third == "LBRACE"
        if first == "NAME" and second == "COLON":
            return not (self.brackets and self.brackets[-1].type == "LBRACE" and self.sets_a_field(index))
        return first in _ITEM_WORDS

    def may_start(self, token: Token) -> bool:
        """Whether the first token of a line may begin an item, by what it is and how far it is indented."""
        first = self.current.tokens[0]
        return token.type in _FIRST and self.indents[token.start_pos] <= self.indents.get(first.start_pos, 0)

    def is_left_open(self, index: int) -> bool:
        """Whether a bracket that is never closed was meant to be, before the line that begins at ``index``."""
        following = self.following(index)
        if following is None or not any(b.start_pos in self.never_closed_at for b in self.brackets):
            return False
        goes_on = self.current.tokens[-1].type in DANGLING | OPENING.keys()
        is_field = self.brackets[-1].type == "LBRACE" and self.sets_a_field(index)
        return self.may_start(following) and not is_field and not goes_on

    def sets_a_field(self, index: int) -> bool:
        """Whether a line begins like `backend = ...`, or like `backend: ...`, which is not a label."""
        if self.type_at(index + 1) == "COLON":
            return str(self.tokens[index]) in FIELDS
        return self.type_at(index + 1) == "EQUAL" and self.type_at(index + 2) != "CMP"

    def holds_statements(self, index: int) -> bool:
        """Whether a brace behind no declaration is followed by a line with a comparison."""
        if self.current.tokens[0].type in _BRACED or self.type_at(index) != NEWLINE:
            return False
        line = (token.type for token in self.tokens[index + 1 : index + 1 + MAX_LOOKAHEAD])
        first_sign = next((kind for kind in line if kind in (NEWLINE, "CMP", "GIVEN")), "")
        return first_sign == "CMP" and not self.sets_a_field(index + 1)

    def is_closed_on_its_line(self, index: int, opening: Token) -> bool:
        """Whether the right partner of a bracket follows before the end of the line."""
        for token in self.tokens[index + 1 : index + 1 + MAX_LOOKAHEAD]:
            if token.type in (NEWLINE, OPENING[opening.type]):
                return token.type != NEWLINE
        return False

    def add(self, chunk: Chunk) -> None:
        body = self.groups[-1].body if self.groups else self.top
        assert body is not None
        body.append(chunk)

    def end_of_item(self) -> None:
        # One message per item: the innermost bracket is the one whose partner is missing.
        if self.brackets:
            self.open_at.update(b.start_pos for b in self.brackets)
            if not self.text_is_open:  # which may have swallowed the partner
                self.unclosed(self.brackets[-1])
            self.current.broken = True
            self.brackets.clear()
        self.text_is_open = False
        if self.current.tokens:
            while self.current.tokens[-1].type == NEWLINE:
                self.current.tokens.pop()
            self.add(self.current)
        self.current = Chunk()

    def unclosed(self, opening: Token, before: Token | None = None) -> None:
        labels = (Label(span_of(before), "this closes another bracket"),) if before is not None else ()
        closing = PARTNER[opening.type]
        self.diagnostics.append(
            Diagnostic(
                "PC002",
                "error",
                span_of(opening),
                f"this `{opening}` is never closed",
                help=f"add `{closing}` where the part that it opens ends",
                labels=labels,
            )
        )

    def mistaken(self, opening: Token, closing: Token) -> None:
        right = PARTNER[opening.type]
        self.current.broken = True
        self.diagnostics.append(
            Diagnostic(
                "PC003",
                "error",
                span_of(closing),
                f"`{closing}` does not close `{opening}`",
                help=f"write `{right}`",
                labels=(Label(span_of(opening), "opened here"),),
                fix=replacing(span_of(closing), right),
            )
        )

    def unmatched(self, token: Token) -> None:
        self.diagnostics.append(
            Diagnostic(
                "PC003",
                "error",
                span_of(token),
                f"this `{token}` closes nothing",
                help="remove it, or add the opening bracket before it",
                fix=removing(span_of(token)),
            )
        )
