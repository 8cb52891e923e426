"""What to say where the text stops being a policy: situations, each with texts that must produce it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from constraintlang import wording
from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import Edit, Fix, inserting, removing, replacing
from constraintlang.layout import CLAUSE_WORDS, DANGLING, NEWLINE, Token, span_of
from constraintlang.source import Span
from constraintlang.suggestions import closest


@dataclass(frozen=True)
class Situation:
    """Where parsing an item stopped: its tokens, the index that did not fit, and what would have."""

    tokens: Sequence[Token]
    index: int
    expected: frozenset[str]

    def type(self, offset: int = 0) -> str:
        """The type of the token ``offset`` places from the failing one, empty outside the item."""
        index = self.index + offset
        return self.tokens[index].type if 0 <= index < len(self.tokens) else ""

    def text(self, offset: int = 0) -> str:
        """The text of that token."""
        index = self.index + offset
        return str(self.tokens[index]) if 0 <= index < len(self.tokens) else ""

    @property
    def at_end(self) -> bool:
        """Whether the item is over."""
        return self.index >= len(self.tokens) or self.type() == NEWLINE

    def span(self, first: int = 0, last: int = 0) -> Span:
        """From the token ``first`` places away to the one ``last`` places away."""
        clamp = range(len(self.tokens))
        start = self.tokens[max(0, min(self.index + first, clamp[-1]))]
        end = self.tokens[max(0, min(self.index + last, clamp[-1]))]
        return span_of(start).to(span_of(end))


@dataclass(frozen=True)
class Found:
    """What a rule of the table answers."""

    span: Span
    message: str
    help: str
    fix: Fix | None = None


@dataclass(frozen=True)
class Mistake:
    """A situation that has its own words; every text in ``examples`` must produce ``code``."""

    code: str
    recognise: Callable[[Situation], Found | None]
    examples: tuple[str, ...]


def explain(situation: Situation) -> Diagnostic:
    """The message for a place where an item does not fit the grammar."""
    for mistake in MISTAKES:
        found = mistake.recognise(situation)
        if found is not None:
            return Diagnostic(
                mistake.code, "error", found.span, found.message, help=found.help, fix=found.fix
            )
    return _expected_something_else(situation)


def _expected_something_else(s: Situation) -> Diagnostic:
    wanted = wording.expected_phrase(s.expected)
    if s.at_end:
        span, seen = s.span(-1, -1), "the line ends"
        return Diagnostic(
            "PC001", "error", span, f"{seen} here, but {wanted} should follow", help=f"add {wanted}"
        )
    seen = wording.found_phrase(s.type(), s.text())
    return Diagnostic(
        "PC001", "error", s.span(), f"expected {wanted}, found {seen}", help=f"put {wanted} here"
    )


# ---------------------------------------------------------------- the situations
def _open_string(s: Situation) -> Found | None:
    if s.type() != "BAD_STRING":
        return None
    end = s.span().start + len(s.text().rstrip())
    fix = None if s.text().rstrip().endswith("\\") else inserting(end, '"')
    return Found(s.span(), "this text is never closed", 'end it with `"` on the same line', fix)


def _foreign_operator(s: Situation) -> Found | None:
    pair, known = s.text() + s.text(1), wording.FOREIGN_OPERATORS
    adjacent = s.type(1) and s.span().end == s.span(1, 1).start
    if s.type() == "MUL" and s.text(-1) + s.text() == "**":
        return Found(s.span(-1), "there is no power operator", "write `a * a`")
    if s.type() not in ("UNKNOWN", "VBAR"):
        return None
    written, first, last = (pair, 0, 1) if adjacent and pair in known else (s.text(), 0, 0)
    if s.type(-1) == "VBAR" and s.type() == "VBAR":  # in `P(...)` the first one could be that of a condition
        written, first = "||", -1
    if written not in known:
        return None
    message = f"`{written}` is not an operator of this language"
    fix = _operator_fix(s, first, last, known[written]) if written not in "^|" else None
    return Found(s.span(first, last), message, f"write `{known[written]}`", fix)


def _operator_fix(s: Situation, first: int, last: int, operator: str) -> Fix:
    """The operator in the place of some tokens, with a space where a word would touch another."""
    span, text = s.span(first, last), operator
    if operator.isalpha():
        previous = s.span(first - 1, first - 1) if s.index + first > 0 else None
        before = previous is not None and previous.end == span.start and s.type(first - 1) != "LPAR"
        behind = bool(s.type(last + 1)) and s.span(last + 1, last + 1).start == span.end
        text = f"{' ' if before else ''}{operator}{' ' if behind else ''}"
    return replacing(span, text, "safe")


def _misspelt_comparison(s: Situation) -> Found | None:
    first, second, before = s.text(), s.text(1), s.text(-1)
    touching = bool(s.type(1)) and s.span().end == s.span(1, 1).start
    touched = s.index > 0 and s.span(-1, -1).end == s.span().start
    if touching and (first + second) in wording.WRONG_COMPARISONS:
        return _wrong_comparison(first + second, s.span(0, 1))
    if s.type(-1) == "CMP" and (before + first) in wording.WRONG_COMPARISONS and touched:
        return _wrong_comparison(before + first, s.span(-1))
    if s.type(-1) == "CMP" and s.type() == "EQUAL" and before in "<>":
        fix = replacing(s.span(-1), f"{before}=", "safe")
        return Found(s.span(-1), f"`{before} =` is cut in two", f"write `{before}=` without a space", fix)
    if s.type() == "EQUAL" and "CMP" in s.expected:
        # `cap = 0.1` may also be a constant whose `let` was forgotten.
        fix = replacing(s.span(), "==", "unsafe" if s.index == 1 else "safe")
        return Found(s.span(), "`=` does not compare", "write `==` to compare; `=` sets a value", fix)
    if s.type() == "CMP" and first == "==" and "EQUAL" in s.expected:
        fix = replacing(s.span(), "=", "safe")
        return Found(
            s.span(), "`==` compares numbers; here a value is set or a tag is matched", "write `=`", fix
        )
    return None


def _wrong_comparison(written: str, span: Span) -> Found:
    right = wording.WRONG_COMPARISONS[written]
    clear = written in wording.CLEAR_COMPARISONS
    fix = replacing(span, right.split("`")[1], "safe" if clear else "unsafe")
    return Found(span, f"`{written}` is not a comparison", f"write {right}", fix)


def _nothing_follows(s: Situation) -> Found | None:
    if s.index == 0 or not (s.at_end or _ends_an_operand(s)) or s.type(-1) not in DANGLING:
        return None
    word = s.text(-1)
    need = wording.NEEDS.get(s.type(-1)) or f"add {wording.expected_phrase(s.expected)} after `{word}`"
    return Found(s.span(-1, -1), f"nothing follows `{word}`", need)


def _ends_an_operand(s: Situation) -> bool:
    # `for` and its like after an operator: the operand is what is missing, the word itself is in its place.
    operators = ("CMP", "ADD", "MUL", "AND", "OR", "IMPLIES", "NOT", "VBAR")
    closes = CLAUSE_WORDS | {"AND", "OR", "IMPLIES", "RPAR", "RSQB", "RBRACE", "COMMA"}
    return (s.type(-1) in operators and s.type() in closes) or (
        s.type(-1) in CLAUSE_WORDS | {"EQUAL"} and s.type() in CLAUSE_WORDS | {"RPAR", "RBRACE", "COMMA"}
    )


def _missing_operand(s: Situation) -> Found | None:
    if s.type() in ("CMP", "MUL") and "NAME" in s.expected and "CMP" not in s.expected:
        side = "before" if s.index == 0 or s.type(-1) != "CMP" else "between it and the one before"
        return Found(
            s.span(), f"a value is missing {side} `{s.text()}`", "write what is compared or calculated"
        )
    if s.index == 0 and s.type() in ("AND", "OR", "IMPLIES"):
        return Found(s.span(), f"a condition is missing before `{s.text()}`", "write both sides")
    return None


def _decimal_point(s: Situation) -> Found | None:
    if (
        s.type() == "DOT"
        and s.type(1) in ("INT", "NUMBER", "PERCENT")
        and s.type(-1) not in ("INT", "NUMBER")
    ):
        number, first = s.text(1), s.span().start
        clear = s.type(1) != "NUMBER" and s.type(-1) != "NAME" and s.span().end == s.span(1, 1).start
        fix = inserting(first, "0", "safe") if clear else None
        return Found(s.span(0, 1), "a number cannot begin with a point", f"write `0.{number}`", fix)
    if s.type() == "DOT" and s.type(-1) in ("INT", "NUMBER"):
        return Found(s.span(-1, 0), "a number cannot end with a point or have two", "write it as `1.0`")
    if s.type() == "UNKNOWN" and s.text() == "%":
        between = Span(s.span(-1, -1).end, s.span().start)
        fix = removing(between, "safe") if s.type(-1) in ("INT", "NUMBER") else None
        return Found(s.span(), "`%` must stand directly behind a number", "write `2%` without a space", fix)
    return None


def _unknown_character(s: Situation) -> Found | None:
    if s.type() != "UNKNOWN":
        return None
    name = wording.character_phrase(s.text())
    ends = s.index == len(s.tokens) - 1 or s.type(1) == NEWLINE
    fix = removing(s.span(), "safe") if s.text() == ";" and ends and s.index > 0 else None
    return Found(s.span(), f"{name} has no meaning here", wording.character_help(s.text()), fix)


def _reserved_word(s: Situation) -> Found | None:
    if "NAME" not in s.expected or s.type() not in wording.KEYWORDS or s.index == 0:
        return None
    if s.type(-1) in ("EQUAL", "LBRACE", "COMMA") and "STRING" in s.expected:
        fix = replacing(s.span(), f'"{s.text()}"', "safe")
        return Found(s.span(), f"`{s.text()}` is a reserved word", f'put it in quotes: `"{s.text()}"`', fix)
    return Found(
        s.span(), f"`{s.text()}` is a reserved word and cannot be a name here", "choose another name"
    )


def _wrong_case(s: Situation) -> Found | None:
    # The word may be the failing one or, like `LET x`, the one before it that was taken for a name.
    for offset in (0, -1):
        text = s.text(offset)
        if s.type(offset) == "NAME" and text != text.lower() and text.upper() in wording.KEYWORDS:
            if offset == -1 and s.index != 1:
                continue
            return Found(
                s.span(offset, offset),
                f"`{text}` is not a keyword",
                f"keywords are lower case: `{text.lower()}`",
                replacing(s.span(offset, offset), text.lower(), "safe"),
            )
    return None


def _misspelt_keyword(s: Situation) -> Found | None:
    if s.type() == "NAME":
        near = closest(s.text(), [w.lower() for w in s.expected & wording.KEYWORDS])
        if near is not None and "NAME" not in s.expected:
            help = f"a similar keyword exists: `{near}`"
            return Found(s.span(), f"`{s.text()}` is not a keyword", help, replacing(s.span(), near))
    if s.index == 1 and s.type(-1) == "NAME" and s.type() in ("NAME", "STRING", "INT"):
        near = closest(s.text(-1), [w.lower() for w in wording.FIRST_WORDS])
        if near is not None:
            help, place = f"a similar keyword exists: `{near}`", s.span(-1, -1)
            return Found(place, f"`{s.text(-1)}` is not a keyword", help, replacing(place, near))
    return None


def _missing_operator(s: Situation) -> Found | None:
    values = ("NAME", "NUMBER", "INT", "PERCENT", "LPAR", "NOT", "STRING")
    ends = ("NAME", "NUMBER", "INT", "PERCENT", "RPAR", "RSQB")
    if s.type() in values and s.type(-1) in ends and "CMP" in s.expected:
        left, right = s.text(-1), s.text()
        return Found(
            s.span(-1),
            f"an operator is missing between `{left}` and `{right}`",
            "write a comparison such as `<`, an operator such as `*`, or start a new line",
        )
    return None


def _missing_comma(s: Situation) -> Found | None:
    values = ("NAME", "NUMBER", "INT", "PERCENT", "STRING", "REGEX")
    if s.type() in values and s.type(-1) in values and "COMMA" in s.expected:
        message = f"a comma is missing between `{s.text(-1)}` and `{s.text()}`"
        return Found(s.span(-1), message, "write `,`", inserting(s.span(-1, -1).end, ","))
    return None


def _several_values_for_equals(s: Situation) -> Found | None:
    if s.type() == "LBRACE" and s.type(-1) == "EQUAL" and "NAME" in s.expected:
        equal = s.span(-1, -1)
        edits = (Edit(equal, " in" + (" " if equal.end == s.span().start else "")),)
        return Found(s.span(-1), "`=` matches one value, not a set", "write `in {...}`", Fix(edits, "safe"))
    if s.type(-1) == "IN" and "LBRACE" in s.expected and s.type() in ("NAME", "LSQB", "LPAR", "STRING"):
        around = (
            Edit(Span(s.span().start, s.span().start), "{"),
            Edit(Span(s.span().end, s.span().end), "}"),
        )
        fix = Fix(around, "safe") if s.type() in ("NAME", "STRING") and s.type(1) != "COMMA" else None
        return Found(s.span(), "`in` needs a set of values here", "write `in {a, b}`", fix)
    if s.type(-1) == "IN" and "LSQB" in s.expected:
        return Found(
            s.span(-1), "`in` needs an interval here", "write `in [low, high]`; both ends are included"
        )
    return None


MISTAKES: tuple[Mistake, ...] = (
    Mistake("PC008", _open_string, ('a < 1 because "never', 'import "x')),
    Mistake("PC004", _misspelt_comparison, (
        "a =< 1", "a => 1", "a = 1", "a <> 1", "a === 1", "a !== 1", "a < = 1", "a < 1 for domain == x",
        "a >> 1",
        "a =! 1",
    )),
    Mistake("PC006", _foreign_operator, (
        "a < 1 && b < 1", "a < 1 || b < 1", "!flag", "a ≤ 1", "a < 1 ∧ b < 1", "a < 1 & b < 1", "a ** 2 < 1",
        "a × 2 < 1", "a → b", "a < 1 | b < 1", "P(a < 1 || b < 1) < 1",
    )),
    Mistake("PC005", _nothing_follows, (
        "a <", "a < 1 and", "mean(a) + ", "a < 1 for", "a < 1 weight", "let x =", "always", "cap:", "not",
        "a <\nlet x = 1", "a < for domain=x", "a < 1 and or b < 1", "(a < ) and b < 1", "a < 1 for domain=",
        "a < 1 under", "require", "a in", "let", "a@", "P(a|) < 1",
    )),
    Mistake("PC007", _decimal_point, ("a < .5", "a < 1.", "a < 1.2.3", "a < 5 %")),
    Mistake("PC005", _missing_operand, (
        "< 0.1", "and a < 1", "a < < 1", "a < 1 and <= 2", "* a < 1", "a < * 2", "or a < 1",
    )),
    Mistake("PC007", _unknown_character, (
        "a < 1;", "a $ 1", "a < 'x'", "тoxicity < 1", "a < 1 ? b", "`a` < 1", "a < 1 \u2028", "a < “x”",
    )),
    Mistake("PC009", _reserved_word, (
        "a < 1 for domain=test", "let and = 1", "tag lang in {en, or}", "group test { }", "a < 1 for group=x",
        "attribute for: score", "a < 1 for and b < 1 for domain = x",
    )),
    Mistake("PC001", _wrong_case, ("a < 1 AND b < 1", "LET x = 1", "a < 1 For domain=x", "NOT flag")),
    Mistake("PC001", _misspelt_keyword, (
        "a < 1 wieght 2", "attribut a: score", "editon 1", 'a < 1 becuse "x"', "reqire a < 1",
        "a < 1 adn b < 1",
    )),
    Mistake("PC001", _missing_operator, ("a 0.1", "a < 1 b < 1", "mean(a) 0.1", "a < 1 (b < 1)", "2 a < 1")),
    Mistake("PC001", _missing_comma, ("tag lang in {en de}", "a < 1 for x in {1 2}")),
    Mistake("PC001", _several_values_for_equals, (
        "a < 1 for domain={x, y}", "a < 1 for lang in en", "a in 3", "a in {1, 2}", "tag lang in [en]",
    )),
)  # fmt: skip
"""INVARIANT: the first row that recognises a situation answers; the order is from special to general."""

GENERAL_EXAMPLES = (
    "group { a < 1 }", "attribute a score", "a < 1 priority x", "edition one", "a[0] < 1", "@", "a @ 1 < 2",
    "let 3 = 4", "test clean { }", "a < 1 for domain", "a < 1 per 3", "attribute a: score { backend }",
    "import x",
    "over (a < 1)", "a < 1 because x", "{ a }", "a..b < 1", "eventually[1] a < 1", "a in [1]",
    "a in [1, 2, 3]",
    "label: label: a < 1", 'test "x" { given }', "for domain=x", "a,b", "a < 1 under temperature", "()",
    "a < ()",
    '"text"', "a ~ 1", "edition 1.5", "tag lang in {}", "a < 1 confidence x",
)  # fmt: skip
"""Texts that meet the general message."""
