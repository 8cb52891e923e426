"""Nodes to canonical text: one spelling per tree, with the fewest brackets that preserve it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from itertools import repeat, takewhile, zip_longest

from constraintlang import nodes as n
from constraintlang.wording import KEYWORDS
from constraintlang.wrapping import wrap

INDENT = "  "
MAX_WIDTH = 110
"""A declaration whose braces do not fit into this many columns gets one field per line."""

# How tightly each kind of formula and expression binds; higher binds tighter.
_IMPLIES, _OR, _AND, _UNTIL, _PREFIX, _COMPARE, _SUM, _PRODUCT, _UNARY, _ATOM = range(10)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Characters that cannot be seen or that turn the line round are written as escapes.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\u3164"
    "\ufe00-\ufe0d\ufeff\uffa0]"
    # As in ``characters.py``; what lies beyond four digits has no escape.
    "|(?<![\u00a9\u00ae\u203c-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])[\ufe0e\ufe0f](?!\u20e3)"
)


def format_policy(policy: n.Policy) -> str:
    """The canonical text of a whole file, its comments kept in order; ends with one newline unless empty.

    Formatting twice changes nothing, and parsing the result gives the same tree.
    """
    return _Layout(policy).text()


def format_statement(statement: n.Statement) -> str:
    """The canonical text of one statement on one line.

    >>> from constraintlang import parse
    >>> format_statement(parse("cap:require toxicity<(0.10)")[0].items[0])
    'cap: toxicity < 0.1'
    """
    words = [f"{statement.label}:"] if statement.label else []
    if statement.strength != "require":
        words.append(statement.strength)
    if statement.always:
        words.append("always")
    words.append(format_formula(statement.formula))
    return " ".join(words + [format_clause(c) for c in statement.clauses])


# ---------------------------------------------------------------- formulas and expressions
def format_formula(node: n.Formula | n.Expr) -> str:
    """The canonical text of a formula or an expression."""
    return _term(node)[0]


def _within(node: n.Formula | n.Expr, least: int) -> str:
    text, strength = _term(node)
    return text if strength >= least else f"({text})"


def _term(node: n.Formula | n.Expr) -> tuple[str, int]:
    """The text of a node and how tightly its outermost construct binds."""
    if isinstance(node, n.Implies):
        return f"{_within(node.left, _OR)} implies {_within(node.right, _IMPLIES)}", _IMPLIES
    if isinstance(node, n.Or):
        return _join(" or ", node.operands, _AND), _OR
    if isinstance(node, n.And):
        return _join(" and ", node.operands, _UNTIL), _AND
    if isinstance(node, n.TemporalBinary):
        return f"{_within(node.left, _PREFIX)} {node.op} {_within(node.right, _UNTIL)}", _UNTIL
    if isinstance(node, n.Not):
        return f"not {_within(node.operand, _PREFIX)}", _PREFIX
    if isinstance(node, n.Temporal):
        bounds = f"[{node.bounds[0]}, {node.bounds[1]}]" if node.bounds else ""
        return f"{node.op}{bounds} {_within(node.operand, _PREFIX)}", _PREFIX
    if isinstance(node, n.Compare):
        words = [_within(node.operands[0], _SUM)]
        for operator, operand in zip(node.operators, node.operands[1:], strict=True):
            words += [operator, _within(operand, _SUM)]
        return " ".join(words), _COMPARE
    if isinstance(node, n.InRange):
        return f"{_within(node.operand, _SUM)} in {_interval(node.low, node.high)}", _COMPARE
    if isinstance(node, n.Arithmetic):
        level = _SUM if node.op in "+-" else _PRODUCT
        # Left associative: an equal on the right needs its brackets.
        return f"{_within(node.left, level)} {node.op} {_within(node.right, level + 1)}", level
    if isinstance(node, n.Negate):
        return f"-{_within(node.operand, _UNARY)}", _UNARY
    return _atom(node), _ATOM


def _atom(node: n.Formula | n.Expr) -> str:
    if isinstance(node, n.Flag):
        return format_formula(node.name)
    if isinstance(node, n.Truth):
        return "true" if node.value else "false"
    if isinstance(node, n.Over):
        return f"over {node.level} ({format_formula(node.operand)})"
    if isinstance(node, n.Last):
        return "last"
    if isinstance(node, n.Number):
        return format_number(node.value, percent=node.percent)
    if isinstance(node, n.Name):
        return ".".join(node.parts) + (f"@{node.model}" if node.model else "")
    assert isinstance(node, n.Apply)
    inside = [format_formula(a) for a in node.arguments] + [_keyword(k) for k in node.keywords]
    given = f" | {format_domain(node.given)}" if node.given else ""
    return f"{node.function}({', '.join(inside)}{given})"


def _join(word: str, operands: Sequence[n.Formula], least: int) -> str:
    # map, not a generator: at most three frames per level keep 200 levels clear of the recursion limit.
    return word.join(map(_within, operands, repeat(least)))


def _interval(low: n.Expr, high: n.Expr) -> str:
    return f"[{format_formula(low)}, {format_formula(high)}]"


def format_number(value: Decimal, *, percent: bool = False) -> str:
    """A number written out in full, without an exponent and without idle zeros.

    >>> format_number(Decimal("0.010")), format_number(Decimal("0.010"), percent=True)
    ('0.01', '1%')
    """
    # Not normalize() and not scaleb(): both round to the decimal context.
    if percent:
        sign, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int)
        value = Decimal((sign, digits, exponent + 2))
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    if text.lstrip("-0") == "":
        text = "0"
    return text + ("%" if percent else "")


# ---------------------------------------------------------------- clauses and prompts
def format_clause(clause: n.Clause) -> str:
    """The canonical text of a clause."""
    if isinstance(clause, n.ForClause):
        return f"for {format_domain(clause.predicate)}"
    if isinstance(clause, n.PerClause):
        return f"per {', '.join(clause.keys)}"
    if isinstance(clause, n.UnderClause):
        return f"under {', '.join(_keyword(s) for s in clause.settings)}"
    if isinstance(clause, n.WeightClause):
        return f"weight {format_formula(clause.value)}"
    if isinstance(clause, n.PriorityClause):
        return f"priority {clause.value}"
    if isinstance(clause, n.ConfidenceClause):
        return f"confidence {format_formula(clause.value)}"
    return f"because {_quoted(clause.reason)}"


def format_domain(node: n.DomainPredicate) -> str:
    """The canonical text of a condition on prompts."""
    return _domain(node)[0]


def _domain(node: n.DomainPredicate) -> tuple[str, int]:
    if isinstance(node, n.DomainOr):
        return " or ".join(_domain_within(o, _AND) for o in node.operands), _OR
    if isinstance(node, n.DomainAnd):
        return " and ".join(_domain_within(o, _PREFIX) for o in node.operands), _AND
    if isinstance(node, n.DomainNot):
        return f"not {_domain_within(node.operand, _PREFIX)}", _PREFIX
    if isinstance(node, n.DomainIn):
        return f"{node.key} in {_set(node.values)}", _ATOM
    return f"{node.key}={format_scalar(node.value)}", _ATOM


def _domain_within(node: n.DomainPredicate, least: int) -> str:
    text, strength = _domain(node)
    return text if strength >= least else f"({text})"


def format_scalar(scalar: n.Scalar) -> str:
    """The canonical text of a bare value."""
    value = scalar.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format_number(value, percent=scalar.kind == "percent")
    if scalar.kind == "regex":
        return f're"{value}"'
    if scalar.kind == "name" and _NAME.match(value) and not (value.islower() and value.upper() in KEYWORDS):
        return value
    return _quoted(value)


def plain_text(scalar: n.Scalar) -> str:
    """A bare value as tags of prompts and arguments of backends carry it: without quotes, numbers in full."""
    if isinstance(scalar.value, bool):
        return "true" if scalar.value else "false"
    return format_number(scalar.value) if isinstance(scalar.value, Decimal) else scalar.value


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for char, escape in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        escaped = escaped.replace(char, escape)
    return '"' + _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", escaped) + '"'


def _keyword(pair: tuple[str, n.Scalar]) -> str:
    return f"{pair[0]}={format_scalar(pair[1])}"


def _set(values: Sequence[n.Scalar]) -> str:
    return "{" + ", ".join(map(format_scalar, values)) + "}"


# ---------------------------------------------------------------- items
def _fields(head: str, fields: Sequence[n.Field]) -> list[str]:
    written = [f"{f.name} = {_field_value(f.value)}" for f in fields]
    one_line = f"{head} {{ {', '.join(written)} }}"
    if len(one_line) <= MAX_WIDTH:
        return [one_line]
    return [f"{head} {{", *(INDENT + w for w in written), "}"]


def _field_value(value: n.Call | n.SetValue | n.Scalar) -> str:
    if isinstance(value, n.SetValue):
        return _set(value.values)
    if isinstance(value, n.Scalar):
        return format_scalar(value)
    inside = [format_scalar(a) for a in value.arguments] + [_keyword(k) for k in value.keywords]
    return f"{value.function}({', '.join(inside)})"


def _attribute(item: n.Attribute) -> list[str]:
    head = f"attribute {item.name}: {item.type}"
    if item.low is not None and item.high is not None:
        head += f" in {_interval(item.low, item.high)}"
    head = " ".join([head, *item.flags])
    return _fields(head, item.fields) if item.fields else [head]


def _test_line(item: n.Given | n.Expect) -> str:
    if isinstance(item, n.Given):
        name = item.name + (f"@{item.model}" if item.model else "")
        if isinstance(item.value, tuple):
            return f"given {name} = [{', '.join(map(format_number, item.value))}]"
        return f"given {name} = {format_number(item.value)}"
    text = f" {_quoted(item.text)}" if item.text is not None else ""
    return f"{item.outcome}{text}" + (f" on {item.on}" if item.on else "")


def _simple_item(item: n.Item, width: int) -> list[str]:
    if isinstance(item, n.Edition):
        return [f"edition {item.number}"]
    if isinstance(item, n.Import):
        return [f"import {_quoted(item.path)}" + (f" as {item.alias}" if item.alias else "")]
    if isinstance(item, n.Let):
        return wrap(f"let {item.name} = {format_formula(item.value)}", width)
    if isinstance(item, n.Attribute):
        return _attribute(item)
    if isinstance(item, n.Domain):
        return _fields(f"domain {item.name}", item.fields)
    if isinstance(item, n.Tag):
        return wrap(f"tag {item.key} in {_set(item.values)}", width)
    assert isinstance(item, n.Statement)
    return wrap(format_statement(item), width)


class _Layout:
    """Writes items line by line and puts every comment where it stood between them."""

    def __init__(self, policy: n.Policy) -> None:
        self.policy = policy
        self.comments = deque(policy.comments)
        self.lines: list[str] = []
        self.num_lines_at_opening = 0  # no empty line directly behind an opening brace or at the top

    def text(self) -> str:
        self.items(self.policy.items, "", self.policy.span.end)
        self.flush(None, "")
        self.drop_empty_lines()
        return "\n".join(self.lines) + "\n" if self.lines else ""

    def items(self, items: Sequence[n.Item | n.Given | n.Expect], indent: str, end: int) -> None:
        for item, following in zip_longest(items, items[1:]):
            self.flush(item.span.start, indent)
            if isinstance(item, n.Group | n.Test):
                self.block(item, indent)
            else:
                # A comment inside an item goes before it, because the item becomes one line.
                self.flush(item.span.end, indent, keep_empty=False)
                width = max(MAX_WIDTH - len(indent), 1)
                lines = (
                    wrap(_test_line(item), width)
                    if isinstance(item, n.Given | n.Expect)
                    else _simple_item(item, width)
                )
                self.lines += [indent + line for line in lines]
            self.trailing(following.span.start if following else end)

    def block(self, item: n.Group | n.Test, indent: str) -> None:
        head = f"group {item.name}" if isinstance(item, n.Group) else f"test {_quoted(item.name)}"
        header = wrap(
            " ".join([head, *map(format_clause, item.clauses), "{"]), max(MAX_WIDTH - len(indent), 1)
        )
        # The last comment of the header stays with it; others inside it go before it.
        inside = item.items[0].span.start if item.items else item.span.end
        behind = [c for c in takewhile(lambda c: c.span.start < inside, self.comments) if not c.own_line]
        if behind:
            self.flush(behind[-1].span.start, indent, keep_empty=False)
        self.lines += [indent + line for line in header]
        if behind:
            self.trailing(inside)
        self.num_lines_at_opening = len(self.lines)
        self.items(item.items, indent + INDENT, item.span.end)
        self.flush(item.span.end, indent + INDENT)
        self.drop_empty_lines()
        self.lines.append(indent + "}")

    def flush(self, before: int | None, indent: str, *, keep_empty: bool = True) -> None:
        """Write what comes before an offset, each comment on a line of its own."""
        while self.comments and (before is None or self.comments[0].span.start < before):
            comment = self.comments.popleft()
            if comment.text:
                self.lines.append(indent + comment.text)
            elif keep_empty and len(self.lines) > self.num_lines_at_opening and self.lines[-1]:
                self.lines.append("")

    def trailing(self, before: int) -> None:
        """A comment that follows an item on its last line stays there."""
        if self.comments and not self.comments[0].own_line and self.comments[0].span.start < before:
            self.lines[-1] += "  " + self.comments.popleft().text

    def drop_empty_lines(self) -> None:
        while self.lines and not self.lines[-1]:
            self.lines.pop()
