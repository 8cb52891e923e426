"""Text to nodes: item by item, so that one run reports every syntax error and keeps every good item.

The only module that imports lark. The parse tables come from ``grammar_table.json``, a cache of what lark
makes of ``grammar.lark``; a cache that does not match the grammar or the lark in use is ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import lark
from lark.exceptions import UnexpectedToken
from lark.lexer import Token
from lark.parsers.lalr_parser_state import ParseConf
from msgspec.structs import replace

from constraintlang import nodes as n
from constraintlang.builder import Builder
from constraintlang.diagnostics import Diagnostic, Label, sort_diagnostics
from constraintlang.fixes import Edit, Fix
from constraintlang.layout import CONTINUING, OPENING, Chunk, span_of, split
from constraintlang.memory import Memory
from constraintlang.source import SourceFile, Span
from constraintlang.syntax_errors import Situation, explain
from constraintlang.tree import tree_depth

GRAMMAR = Path(__file__).with_name("grammar.lark")
TABLE = Path(__file__).with_name("grammar_table.json")
MAX_BYTES = 4 * 1024 * 1024
MAX_LINE = 100_000
MAX_NESTING = 200
MAX_DIGITS = 100
_NUMBERS = frozenset(["INT", "NUMBER", "PERCENT"])


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
    too_large = _size_limits(source.text)
    if too_large is not None:
        return ParseResult(n.Policy(span=Span(0, len(source.text))), [too_large])
    return _Reader(source, memory).read()


def tokens_of(text: str, memory: Memory | None = None) -> list[Any]:
    """The tokens of a text with comments and newlines; every text has some.

    INVARIANT: no token goes over the end of a line, so each line can be read alone.
    """
    if memory is None:
        return list(_machine().lex(text))
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
        self.shape = [(t.type, str(t), t.start_pos, t.end_pos) for t in _machine().lex(text)]
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
    run = _ItemParser().started()
    try:
        for token in tokens:
            run.feed_token(token)
    except UnexpectedToken:
        return frozenset()
    return frozenset(run.accepts())


# ---------------------------------------------------------------- the machine
class _KeepAll:
    """Keeps terminals that no rule mentions, so that mistakes and comments arrive as tokens."""

    always_accept = ("UNKNOWN", "BAD_STRING", "COMMENT")

    def process(self, stream: Any) -> Any:
        return stream


def grammar_text() -> str:
    """The grammar as it is shipped."""
    return GRAMMAR.read_text(encoding="utf-8")


def build_machine(*, strict: bool = False) -> lark.Lark:
    """The parser from the grammar itself; ``strict`` makes lark refuse every conflict."""
    return lark.Lark(
        grammar_text(),
        parser="lalr",
        lexer="basic",
        keep_all_tokens=True,
        maybe_placeholders=False,
        postlex=_KeepAll(),
        strict=strict,
    )


def table_key() -> str:
    """What the cached tables depend on."""
    return hashlib.sha256(f"{lark.__version__}\n{grammar_text()}".encode()).hexdigest()


def table_text() -> str:
    """The content that ``grammar_table.json`` must have."""
    machine = build_machine()
    machine.options.options["postlex"] = None
    data, memo = machine.memo_serialize([lark.lexer.TerminalDef, lark.grammar.Rule])
    return json.dumps({"key": table_key(), "data": data, "memo": memo}, separators=(",", ":")) + "\n"


def write_table() -> None:
    """Renew ``grammar_table.json`` after a change of the grammar or of lark."""
    TABLE.write_text(table_text(), encoding="utf-8")


@cache
def _machine() -> lark.Lark:
    if TABLE.is_file():
        table = json.loads(TABLE.read_text(encoding="utf-8"))
        if table["key"] == table_key():
            return _load(table["data"], table["memo"])
    return build_machine()


def _load(data: Any, memo: Any) -> lark.Lark:
    """The machine of the cached tables; JSON has text keys only, and these tables are keyed by numbers."""
    table = data["parser"]["parser"]
    table["tokens"] = {int(k): v for k, v in table["tokens"].items()}
    table["states"] = {
        int(state): {int(k): v for k, v in actions.items()} for state, actions in table["states"].items()
    }
    return lark.Lark._load_from_dict(data, {int(k): v for k, v in memo.items()})


# ---------------------------------------------------------------- limits
def _limit(span: Span, message: str, help: str) -> Diagnostic:
    return Diagnostic("PC010", "error", span, message, help=help)


def _size_limits(text: str) -> Diagnostic | None:
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return _limit(Span(0, 0), "the file is larger than 4 MiB", "split the policy into several files")
    start = 0
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if end - start > MAX_LINE:
            message = f"the line is longer than {MAX_LINE} characters"
            return _limit(Span(start, start + 1), message, "break the line inside brackets or before `and`")
        start = end + 1
    return None


def _token_limits(tokens: list[Any]) -> Diagnostic | None:
    depth = 0
    for token in tokens:
        if token.type in OPENING:
            depth += 1
            if depth > MAX_NESTING:
                message = f"brackets are nested more than {MAX_NESTING} deep"
                return _limit(span_of(token), message, "name parts with `let` or split the statement")
        elif token.type in OPENING.values():
            depth = max(0, depth - 1)
        elif token.type in _NUMBERS and _digits(token) > MAX_DIGITS:
            return _limit(
                span_of(token), f"the number has more than {MAX_DIGITS} digits", "shorten the number"
            )
    return None


def _digits(text: str) -> int:
    """Digits of the number once it is written out, so that an exponent cannot hide a huge one."""
    if len(text) < 10 and "e" not in text and "E" not in text:
        return len(text)  # most numbers, and this is asked of all of them after every key press
    mantissa, _, exponent = re.sub("%", "", text).lower().partition("e")
    digits = len(mantissa.replace(".", ""))
    if not exponent:
        return digits
    return digits + (abs(int(exponent)) if len(exponent) < 6 else MAX_DIGITS)


# ---------------------------------------------------------------- reading one file
@dataclass
class _Reader:
    source: SourceFile
    memory: Memory | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    lost_names: set[str] = field(default_factory=set)
    lost_labels: set[str] = field(default_factory=set)
    parser: _ItemParser = field(default_factory=lambda: _ItemParser())

    def read(self) -> ParseResult:
        tokens = tokens_of(self.source.text, self.memory)
        if self.memory is not None:
            self.memory.begin("item")
        comments = _layout_trivia(self.source, [t for t in tokens if t.type == "COMMENT"])
        tokens = [t for t in tokens if t.type != "COMMENT"]
        whole = Span(0, len(self.source.text))
        limit = _token_limits(tokens)
        if limit is not None:
            return ParseResult(n.Policy(comments=comments, span=whole), [limit])
        chunks, bracket_errors = split(tokens)
        self.diagnostics.extend(bracket_errors)
        items = self.items(chunks)
        return ParseResult(
            n.Policy(items=items, comments=comments, span=whole),
            sort_diagnostics(self.diagnostics),
            frozenset(self.lost_names),
            frozenset(self.lost_labels),
        )

    def items(self, chunks: list[Chunk]) -> tuple[Any, ...]:
        # Groups nest at most MAX_NESTING deep (see _token_limits), so this recursion is bounded.
        found = []
        for chunk in chunks:
            item = self.group(chunk) if chunk.body is not None else self.item(chunk.tokens, chunk)
            if item is not None:
                found.append(item)
        return tuple(found)

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
                help=f"put `{operator}` at the beginning of this line, or brackets around the whole",
                labels=(Label(span_of(operator), "the statement goes on after this"),),
                fix=fix,
            )


class _ItemParser:
    """Parses one item after the other with a builder of its own, so that threads share nothing but tables."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.machine = _machine()
        self.callbacks = self.machine._parse_tree_builder.create_callback(self.builder)

    def started(self) -> Any:
        """A parser in front of an item."""
        run = self.machine.parse_interactive()
        conf = run.parser_state.parse_conf
        run.parser_state.parse_conf = ParseConf(conf.parse_table, self.callbacks, conf.start)
        return run

    def parse(self, tokens: list[Any]) -> tuple[Any, list[Diagnostic]]:
        """The node of one item, or None and the reasons."""
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
            return None, found[:1] or [explain(Situation(tokens, index, frozenset(run.accepts())))]
        if found:
            return None, found
        item = items[0]
        if tree_depth(item) > MAX_NESTING:
            message = f"the item is nested more than {MAX_NESTING} levels deep"
            return None, [_limit(item.span, message, "name parts with `let` or split the statement")]
        return item, []


def _layout_trivia(source: SourceFile, comments: list[Any]) -> tuple[n.Comment, ...]:
    """Comments and runs of empty lines in order; what the formatter preserves."""
    text = source.text
    found = []
    for token in comments:
        line_start = text.rfind("\n", 0, token.start_pos) + 1
        own_line = not text[line_start : token.start_pos].strip()
        found.append(n.Comment(text=str(token).rstrip(), own_line=own_line, span=span_of(token)))
    for match in re.finditer(r"\n[ \t\r]*(?=\n)", text):
        found.append(n.Comment(text="", span=Span(match.start() + 1, match.start() + 1)))
    return tuple(sorted(found, key=lambda c: c.span.start))
