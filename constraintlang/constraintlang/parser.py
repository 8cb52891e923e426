"""Text to nodes: item by item, so that one run reports every syntax error and keeps every good item.

Only this module, ``entries.py`` and ``machine.py`` import lark.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise, takewhile
from typing import Any

from lark.exceptions import UnexpectedToken
from lark.lexer import Token
from lark.parsers.lalr_parser_state import ParseConf
from msgspec.structs import replace

from constraintlang import nodes as n
from constraintlang.builder import Builder
from constraintlang.diagnostics import Diagnostic, Label, sort_diagnostics
from constraintlang.entries import entries
from constraintlang.fixes import Edit, Fix
from constraintlang.layout import CONTINUING, MAX_ERRORS, Chunk, split
from constraintlang.limits import (
    MAX_NESTING,
    MAX_TOKENS,
    limit,
    text_limits,
    token_limits,
    too_many_errors,
)
from constraintlang.machine import load_machine, write_table
from constraintlang.memory import Memory
from constraintlang.situations import Situation
from constraintlang.source import SourceFile, Span
from constraintlang.syntax_errors import explain
from constraintlang.tokens import span_of
from constraintlang.tree import tree_depth

__all__ = ["ParseResult", "parse", "parse_detailed", "write_table"]


@dataclass
class ParseResult:
    """A tree of the items that parsed, the errors of the others, and the names those would have defined."""

    policy: n.Policy
    diagnostics: list[Diagnostic]
    lost_names: frozenset[str] = frozenset()
    lost_labels: frozenset[str] = frozenset()


def parse(source: SourceFile | str) -> tuple[n.Policy, list[Diagnostic]]:
    """The tree of a policy and its syntax errors; any text is accepted and nothing is raised.

    >>> policy, diagnostics = parse("toxicity < 0.1")
    >>> len(policy.items), diagnostics
    (1, [])
    """
    result = parse_detailed(source if isinstance(source, SourceFile) else SourceFile(source))
    return result.policy, result.diagnostics


def parse_detailed(source: SourceFile, memory: Memory | None = None) -> ParseResult:
    """``parse``, and the names that later stages must not complain about."""
    too_large = text_limits(source.text)
    if too_large is not None:
        return ParseResult(n.Policy(span=Span(0, len(source.text))), [too_large])
    return _Reader(source, memory).read()


def tokens_of(text: str, memory: Memory | None = None, most: int | None = None) -> list[Any]:
    """The tokens of a text with comments and newlines, perhaps not more than ``most``; every text has some.

    INVARIANT: no token goes over the end of a line, so each line can be read alone.
    """
    if memory is None:
        return list(islice(load_machine().tokens(text), most))
    memory.begin("line")
    tokens: list[Any] = []
    start = 0
    for line in text.split("\n"):
        tokens += memory.recall("line", line, 0, partial(_Line, line)).at(start)
        start += len(line) + 1
        if start <= len(text):
            tokens.append(Token("_NL", "\n", start - 1, end_pos=start))
    return tokens


class _Line:
    """The tokens of one line, made again only when it begins elsewhere than before."""

    def __init__(self, text: str) -> None:
        self.shape = [(t.type, str(t), t.start_pos, t.end_pos) for t in load_machine().tokens(text)]
        self.start = -1
        self.tokens: list[Any] = []

    def at(self, start: int) -> list[Any]:
        """The tokens when the line begins at an offset; the list must not be changed."""
        if start != self.start:
            self.start = start
            self.tokens = [
                Token(kind, word, start + first, end_pos=start + end) for kind, word, first, end in self.shape
            ]
        return self.tokens


def accepted_after(tokens: Sequence[Any]) -> frozenset[str]:
    """What may follow the first tokens of an item; empty when they already begin none."""
    run = _item_parser().started()
    try:
        for token in tokens:
            run.feed_token(token)
    except UnexpectedToken:
        return frozenset()
    return load_machine().accepted(run.parser_state.state_stack)


# ---------------------------------------------------------------- reading one file
@dataclass
class _Reader:
    source: SourceFile
    memory: Memory | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    lost_names: set[str] = field(default_factory=set)
    lost_labels: set[str] = field(default_factory=set)
    parser: _ItemParser = field(default_factory=lambda: _item_parser())

    def read(self) -> ParseResult:
        tokens = tokens_of(self.source.text, self.memory, most=MAX_TOKENS + 1)
        if self.memory is not None:
            self.memory.begin("item")
        beyond = token_limits(tokens)  # before comments are removed: they are among those that were read
        comments = _layout_trivia(self.source, [t for t in tokens if t.type == "COMMENT"])
        tokens = [t for t in tokens if t.type != "COMMENT"]
        whole = Span(0, len(self.source.text))
        if beyond is not None:
            return ParseResult(n.Policy(comments=comments, span=whole), [beyond])
        chunks, bracket_errors = split(tokens)
        self.diagnostics.extend(bracket_errors)
        items = self.items(chunks)
        self.diagnostics = list(_without_sets_of_constants(self.diagnostics, items, self.lost_names))
        if len(self.diagnostics) > MAX_ERRORS:
            found = sort_diagnostics(self.diagnostics)[:MAX_ERRORS]
            return ParseResult(
                n.Policy(comments=comments, span=whole), [*found, too_many_errors(found[-1].span)]
            )
        return ParseResult(
            n.Policy(items=items, comments=comments, span=whole),
            sort_diagnostics(self.diagnostics),
            frozenset(self.lost_names),
            frozenset(self.lost_labels),
        )

    def items(self, chunks: list[Chunk]) -> tuple[Any, ...]:
        # Groups nest at most MAX_NESTING deep (see token_limits), so this recursion is bounded.
        found = []
        for chunk in chunks:
            if len(self.diagnostics) > MAX_ERRORS:
                break
            for part in self.parts(chunk):
                item = self.group(part) if part.body is not None else self.item(part.tokens, part)
                if item is not None:
                    found.append(item)
        return tuple(found)

    def parts(self, chunk: Chunk) -> list[Chunk]:
        """The chunk, or its lines where it makes no sense as one item and they could be items of their own."""
        if not chunk.cut_at or self.remembered(chunk.tokens, chunk)[0] is not None:
            return [chunk]
        places = pairwise([0, *chunk.cut_at, len(chunk.tokens)])
        return [Chunk(chunk.tokens[start:end]) for start, end in places]

    def group(self, chunk: Chunk) -> Any:
        assert chunk.body is not None
        closing = chunk.closing or Token(
            "RBRACE", "}", chunk.tokens[-1].start_pos, end_pos=chunk.tokens[-1].end_pos
        )
        group = self.item([*chunk.tokens, closing], chunk)
        items = self.items(chunk.body)
        if group is None:
            # The header is wrong: its statements are checked on their own, without the clauses.
            return n.Group(name="", items=items, span=span_of(chunk.tokens[0]).to(span_of(closing)))
        return replace(group, items=items)

    def item(self, tokens: list[Any], chunk: Chunk) -> Any:
        item = None
        if not chunk.broken:
            item, found = self.remembered(tokens, chunk)
            self.diagnostics.extend(found)
        if item is None:
            self.remember_lost(tokens)
            return self.parser.partial_test(tokens)
        return item

    def remembered(self, tokens: list[Any], chunk: Chunk) -> tuple[Any, tuple[Diagnostic, ...]]:
        if self.memory is None or chunk.body is not None:  # the text of a group is not that of its head
            return self.parsed(tokens, chunk)
        start = tokens[0].start_pos
        key = (self.source.text[start : tokens[-1].end_pos], len(tokens), tuple(chunk.joined_at))
        return self.memory.recall("item", key, start, lambda: self.parsed(tokens, chunk))

    def parsed(self, tokens: list[Any], chunk: Chunk) -> tuple[Any, tuple[Diagnostic, ...]]:
        item, found = self.parser.parse(tokens)
        if item is not None:
            found = [*found, *self.joined_lines(tokens, chunk)]
        return item, tuple(found)

    def remember_lost(self, tokens: list[Any]) -> None:
        first, second = tokens[0], tokens[1] if len(tokens) > 1 else None
        if second is not None and second.type == "COLON":
            self.lost_labels.add(str(first))
        elif second is not None and second.type == "NAME":
            self.lost_names.add(str(second))
            # `attribute self-harm: score` loses both halves.
            rest = takewhile(lambda t: t.type != "COLON", tokens[2:])
            self.lost_names.update(str(t) for t in rest if t.type == "NAME" and first.type == "ATTRIBUTE")
        elif first.type == "IMPORT":
            self.lost_names.update(str(t) for t in tokens if t.type == "NAME")

    def joined_lines(self, tokens: list[Any], chunk: Chunk) -> Iterator[Diagnostic]:
        for start, end in pairwise([*chunk.joined_at, len(tokens)]):
            line = tokens[start:end]
            if not any(t.type in ("CMP", "IN") for t in line):
                continue
            item, found = self.parser.parse(line)
            if item is None or found:
                continue
            operator, fix = tokens[start - 1], None
            help = f"put `{operator}` at the beginning of this line, or brackets around the whole"
            if operator.type == "COLON":
                help = "write the condition on the line of its label"
            if operator.type in CONTINUING and start > 1:
                gap = Span(tokens[start - 2].end_pos, operator.end_pos)
                fix = Fix(
                    (Edit(gap, ""), Edit(Span(line[0].start_pos, line[0].start_pos), f"{operator} ")), "safe"
                )
            yield Diagnostic(
                "PC014",
                "warning",
                span_of(line[0]).to(span_of(line[-1])),
                "this line continues the statement above it, yet it could stand alone",
                help=help,
                labels=(Label(span_of(operator), "the statement goes on after this"),),
                fix=fix,
            )


class _ItemParser:
    """Parses one item after the other with a builder of its own."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.machine = load_machine()
        self.callbacks = self.machine.lark._parse_tree_builder.create_callback(self.builder)

    def started(self) -> Any:
        """A parser in front of an item."""
        run = self.machine.lark.parse_interactive()
        conf = run.parser_state.parse_conf
        run.parser_state.parse_conf = ParseConf(conf.parse_table, self.callbacks, conf.start)
        return run

    def parse(self, tokens: list[Any]) -> tuple[Any, list[Diagnostic]]:
        """The node of one item, or None and the reasons."""
        item, first = self.parse_whole(tokens)
        if item is not None or not first:
            return item, first
        found, reported = [*first], max(d.span.end for d in first)
        for entry in entries(tokens):
            if len(found) > MAX_ERRORS:
                break
            new = [d for d in self.parse_whole(entry)[1] if d.span.start > reported]
            found += new
            reported = max([reported, *(d.span.end for d in new)])
        return item, found

    def partial_test(self, tokens: list[Any]) -> n.Test | None:
        """What can be read of a test that cannot be read as a whole; None without such entries, or for another item."""
        if tokens[0].type != "TEST":
            return None
        read = [item for entry in entries(tokens) if (item := self.parse_whole(entry)[0]) is not None]
        items = tuple(inner for item in read for inner in item.items)
        span = span_of(tokens[0]).to(span_of(tokens[-1]))
        return n.Test(name=str(tokens[1]).strip('"'), items=items, partial=True, span=span) if items else None

    def parse_whole(self, tokens: list[Any]) -> tuple[Any, list[Diagnostic]]:
        """The same; what follows the first place that does not fit the grammar is not looked at."""
        found: list[Diagnostic] = []
        self.builder.diagnostics = found
        run = self.started()
        index = 0
        try:
            for token in tokens:
                run.feed_token(token)
                index += 1
            items = run.feed_eof(tokens[-1])
        except UnexpectedToken:
            # If what came before already makes no sense, one message is enough.
            if found:
                return None, found[:1]
            place = self.machine.places[run.parser_state.position]
            expected = self.machine.accepted(run.parser_state.state_stack)
            return None, [explain(Situation(tokens, index, expected, place))]
        if found:
            return None, found
        item = items[0]
        # A token adds at most two levels (a name in a flag), so most items are too short to be too deep.
        if 2 * len(tokens) + 3 > MAX_NESTING and tree_depth(item) > MAX_NESTING:
            message = f"the item is nested more than {MAX_NESTING} levels deep"
            return None, [limit(item.span, message, "name parts with `let` or split the statement")]
        return item, []


_of_thread = threading.local()


def _item_parser() -> _ItemParser:
    """The parser of this thread, which shares the tables with others and nothing else."""
    machine = load_machine()
    found: _ItemParser | None = getattr(_of_thread, "parser", None)
    if found is None or found.machine is not machine:
        found = _of_thread.parser = _ItemParser()
    return found


def _without_sets_of_constants(
    found: Iterable[Diagnostic], items: Iterable[Any], lost: set[str]
) -> Iterator[Diagnostic]:
    """No fix puts braces around the name of a constant, which is no value of a tag."""
    lets = {item.name for item in items if isinstance(item, n.Let)} | lost
    for one in found:
        edit = one.fix.edits[0].text if one.fix is not None else ""
        if edit.startswith("{") and edit.endswith("}") and edit[1:-1] in lets:
            yield dataclasses.replace(
                one, fix=None, help="write the values in braces, for example `{en, de}`"
            )
        else:
            yield one


_EMPTY_LINES = re.compile(r"\n[ \t\r]*\n[ \t\r\n]*")


def _layout_trivia(source: SourceFile, comments: list[Any]) -> tuple[n.Comment, ...]:
    """Comments and runs of empty lines, one for each run, in order; what the formatter preserves."""
    text = source.text
    found = []
    for token in comments:
        line_start = text.rfind("\n", 0, token.start_pos) + 1
        own_line = not text[line_start : token.start_pos].strip()
        found.append(n.Comment(text=str(token).rstrip(), own_line=own_line, span=span_of(token)))
    for match in _EMPTY_LINES.finditer(text):
        found.append(n.Comment(text="", span=Span(match.start() + 1, match.start() + 1)))
    return tuple(sorted(found, key=lambda c: c.span.start))
