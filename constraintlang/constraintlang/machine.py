"""The parse tables: made by lark from ``grammar.lark``, kept in ``grammar_table.json``, loaded once.

The tables are a cache; one that does not match the grammar or the lark in use is ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import lark
from lark.lexer import BasicLexer, Token
from lark.parsers.lalr_analysis import IntParseTable, Shift

GRAMMAR = Path(__file__).with_name("grammar.lark")
TABLE = Path(__file__).with_name("grammar_table.json")


@dataclass(frozen=True)
class Machine:
    """A parser, and for each of its states the place in the grammar that it stands for (see ``sentences.py``)."""

    lark: lark.Lark
    places: dict[int, str]

    @cached_property
    def _lexer(self) -> BasicLexer:
        return BasicLexer(self.lark.lexer_conf)

    def tokens(self, text: str) -> Iterator[Token]:
        """The tokens of a text; every text has some. Those of ``Lark.lex``, without lines and columns.

        INVARIANT: every character belongs to a terminal (``UNKNOWN`` at the last), so nothing lies between two matches.
        """
        lexer = self._lexer
        (pattern,) = lexer.scanner._mres
        kinds: dict[str, str] = {}
        for match in pattern.finditer(text):
            kind = match.lastgroup
            if kind in lexer.ignore_types:
                continue
            word = match[0]
            if kind in lexer.callback:  # tells keywords from names
                kind = kinds.get(word) or lexer.callback[kind](Token(kind, word)).type
                kinds[word] = kind
            yield Token(kind, word, match.start(), end_pos=match.end())

    def accepted(self, stack: list[int]) -> frozenset[str]:
        """The terminals that may come next; like lark's ``accepts``, which builds nodes to find out."""
        table = self.lark.parser.parser._parse_table
        end = table.end_states["start"]
        return frozenset(
            kind
            for kind in table.states[stack[-1]]
            if kind.isupper() and _is_shifted(table.states, stack, kind, end)
        )


def _is_shifted(states: Any, stack: list[int], kind: str, end: int) -> bool:
    """Whether the reductions that a terminal brings about end in a shift."""
    stack = list(stack)
    while (action := states[stack[-1]].get(kind)) is not None:
        if action[0] is Shift:
            return True
        rule = action[1]
        del stack[len(stack) - len(rule.expansion) :]
        stack.append(states[stack[-1]][rule.origin.name][1])
        if kind == "$END" and stack[-1] == end:
            return True
    return False


class _KeepAll:
    """Keeps terminals that no rule mentions, so that mistakes and comments arrive as tokens."""

    always_accept = ("UNKNOWN", "BAD_STRING", "COMMENT")

    def process(self, stream: Any) -> Any:
        return stream


def grammar_text() -> str:
    """The grammar as it is shipped."""
    return GRAMMAR.read_text(encoding="utf-8")


def build_machine(*, strict: bool = False) -> Machine:
    """The parser from the grammar itself; ``strict`` makes lark refuse every conflict."""
    built = lark.Lark(
        grammar_text(),
        parser="lalr",
        lexer="basic",
        keep_all_tokens=True,
        maybe_placeholders=False,
        postlex=_KeepAll(),
        strict=strict,
        debug=True,  # keeps the item sets, from which the places are read
    )
    owner = built.parser.parser
    table = owner._parse_table
    places = {number: _place(state) for number, state in enumerate(table.states)}
    owner._parse_table = owner.parser.parse_table = IntParseTable.from_ParseTable(table)
    owner.parser.debug = False
    return Machine(built, places)


def _place(state: Any) -> str:
    """The rules that have been begun in a state, each with the last two symbols before the point."""
    names = set()
    for item in state:
        if item.index or item.rule.origin.name.startswith("$root"):
            seen = item.rule.expansion[max(0, item.index - 2) : item.index]
            names.add(" ".join([f"{_stable(item.rule.origin)}:", *map(_stable, seen)]))
    # What lark makes of a repetition is named only where nothing else is begun.
    named = {name for name in names if not name.startswith("__")}
    return "|".join(sorted(named or names))


def _stable(symbol: Any) -> str:
    """The name of a symbol without the number that lark gives to a repetition."""
    return re.sub(r"_\d+\Z", "", symbol.name)


def table_key() -> str:
    """What the cached tables depend on."""
    return hashlib.sha256(f"{lark.__version__}\n{grammar_text()}".encode()).hexdigest()


def table_text() -> str:
    """The content that ``grammar_table.json`` must have."""
    machine = build_machine()
    machine.lark.options.options["postlex"] = None
    machine.lark.options.options["debug"] = False
    data, memo = machine.lark.memo_serialize([lark.lexer.TerminalDef, lark.grammar.Rule])
    table = {"key": table_key(), "places": machine.places, "data": data, "memo": memo}
    return json.dumps(table, separators=(",", ":")) + "\n"


def write_table() -> None:
    """Renew ``grammar_table.json`` after a change of the grammar or of lark."""
    TABLE.write_text(table_text(), encoding="utf-8")


@cache
def load_machine() -> Machine:
    """The parser from the cached tables, or from the grammar when they do not fit."""
    if TABLE.is_file():
        table = json.loads(TABLE.read_text(encoding="utf-8"))
        if table["key"] == table_key():
            places = {int(state): place for state, place in table["places"].items()}
            return Machine(_load(table["data"], table["memo"]), places)
    return build_machine()


def _load(data: Any, memo: Any) -> lark.Lark:
    """The machine of the cached tables; JSON has text keys only, and these tables are keyed by numbers."""
    table = data["parser"]["parser"]
    table["tokens"] = {int(k): v for k, v in table["tokens"].items()}
    table["states"] = {
        int(state): {int(k): v for k, v in actions.items()} for state, actions in table["states"].items()
    }
    return lark.Lark._load_from_dict(data, {int(k): v for k, v in memo.items()})
