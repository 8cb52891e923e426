"""Reductions to nodes of formulas, expressions and conditions on prompts: one method per grammar rule."""

# ruff: noqa: D102 -- each method is named like the grammar rule that it builds; the rule has the comment
from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from constraintlang import nodes as n
from constraintlang.comparison_examples import compared
from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import Fix
from constraintlang.literals import exact_number, unescape
from constraintlang.source import Span

_EXPRESSIONS = (n.Number, n.Name, n.Negate, n.Arithmetic, n.Apply)


class Part:
    """An intermediate result that is no node: a rule's values and the place they came from."""

    def __init__(self, value: Any, span: Span) -> None:
        self.value = value
        self.span = span


class Bracketed:
    """A node in round brackets: its parent's span covers them, its own does not."""

    def __init__(self, node: Any, span: Span) -> None:
        self.node = node
        self.span = span


class FormulaBuilder:
    """Builds what stands inside a statement; what is grammatical but makes no sense lands in ``diagnostics``."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []

    # ------------------------------------------------------------ helpers
    @staticmethod
    def span(children: Sequence[Any]) -> Span:
        return place_of(children[0]).to(place_of(children[-1])) if children else n.NO_SPAN

    def error(self, code: str, span: Span, message: str, help: str, fix: Fix | None = None) -> None:
        self.diagnostics.append(Diagnostic(code, "error", span, message, help=help, fix=fix))

    def as_formula(self, value: Any) -> Any:
        value = bare(value)
        if isinstance(value, n.Name):
            return n.Flag(name=value, span=value.span)
        if isinstance(value, _EXPRESSIONS):
            self.error("PC011", value.span, *compared(value))
            return n.Truth(value=True, span=value.span)
        return value

    def as_expr(self, value: Any) -> Any:
        value = bare(value)
        if isinstance(value, _EXPRESSIONS):
            return value
        self.error(
            "PC012",
            value.span,
            "this is a condition, not a number",
            "join conditions with `and`, `or`, `implies`; compare and calculate with numbers only",
        )
        return n.Number(value=Decimal(0), span=value.span)

    def string(self, token: Any) -> str:
        return unescape(str(token)[1:-1], token.start_pos + 1, self.error)

    # ------------------------------------------------------------ formulas
    def implies(self, c: list[Any]) -> Any:
        return n.Implies(left=self.as_formula(c[0]), right=self.as_formula(c[2]), span=self.span(c))

    def or_(self, c: list[Any]) -> Any:
        return n.Or(operands=tuple(map(self.as_formula, c[::2])), span=self.span(c))

    def and_(self, c: list[Any]) -> Any:
        return n.And(operands=tuple(map(self.as_formula, c[::2])), span=self.span(c))

    def temporal_binary(self, c: list[Any]) -> Any:
        left, right = self.as_formula(c[0]), self.as_formula(c[2])
        return n.TemporalBinary(op=c[1].value, left=left, right=right, span=self.span(c))

    def untilop(self, c: list[Any]) -> Any:
        return Part(str(c[0]), self.span(c))

    tunop = untilop

    def not_(self, c: list[Any]) -> Any:
        return n.Not(operand=self.as_formula(c[1]), span=self.span(c))

    def temporal(self, c: list[Any]) -> Any:
        bounds = c[1].value if len(c) == 3 else None
        operand = self.as_formula(c[-1])
        return n.Temporal(op=c[0].value, operand=operand, bounds=bounds, span=self.span(c))

    def bound(self, c: list[Any]) -> Any:
        return Part((int(c[1]), int(c[3])), self.span(c))

    def compare(self, c: list[Any]) -> Any:
        operands = tuple(map(self.as_expr, c[::2]))
        operators: Any = tuple(map(str, c[1::2]))
        return n.Compare(operands=operands, operators=operators, span=self.span(c))

    def in_range(self, c: list[Any]) -> Any:
        low, high = c[2].value
        return n.InRange(operand=self.as_expr(c[0]), low=low, high=high, span=self.span(c))

    def over(self, c: list[Any]) -> Any:
        operand = self.as_formula(c[3])
        return n.Over(level=str(c[1]), operand=operand, level_span=place_of(c[1]), span=self.span(c))

    def last(self, c: list[Any]) -> Any:
        return n.Last(span=self.span(c))

    def truth(self, c: list[Any]) -> Any:
        return n.Truth(value=str(c[0]) == "true", span=self.span(c))

    def interval(self, c: list[Any]) -> Any:
        return Part((self.as_expr(c[1]), self.as_expr(c[3])), self.span(c))

    # ------------------------------------------------------------ arithmetic
    def sum(self, c: list[Any]) -> Any:
        left = self.as_expr(c[0])
        for op, operand in zip(c[1::2], c[2::2], strict=True):
            right = self.as_expr(operand)
            span = place_of(c[0]).to(place_of(operand))
            left = n.Arithmetic(op=str(op), left=left, right=right, span=span)  # type: ignore[arg-type]
        return left

    product = sum

    def signed(self, c: list[Any]) -> Any:
        operand = self.as_expr(c[1])
        return n.Negate(operand=operand, span=self.span(c)) if str(c[0]) == "-" else operand

    def paren(self, c: list[Any]) -> Any:
        return Bracketed(bare(c[1]), self.span(c))

    def number(self, c: list[Any]) -> Any:
        text = str(c[0])
        return n.Number(value=exact_number(text), percent=text.endswith("%"), span=self.span(c))

    def ref(self, c: list[Any]) -> Any:
        names = [str(x) for x in c if is_token(x, "NAME")]
        model = names.pop() if any(is_token(x, "AT") for x in c) else None
        return n.Name(parts=tuple(names), model=model, span=self.span(c))

    def apply(self, c: list[Any]) -> Any:
        function = str(c[0])
        arguments: list[Any] = []
        keywords: list[Any] = []
        given: Any = None
        separator = ""
        for child in map(bare, c[1:]):
            if isinstance(child, Part):
                keywords.append(child.value)
            elif not isinstance(child, n.Node):
                separator = child.type
            elif separator == "VBAR":
                given = child
            else:
                if keywords:
                    message = "a plain argument cannot follow a named one"
                    self.error("PC001", child.span, message, "put it first")
                # The argument of `P` is a condition, so a bare name there is a flag.
                is_flag = function == "P" and isinstance(child, n.Name)
                arguments.append(self.as_formula(child) if is_flag else child)
        return n.Apply(
            function=function,
            arguments=tuple(arguments),
            keywords=tuple(keywords),
            given=given,
            function_span=place_of(c[0]),
            span=self.span(c),
        )

    def kwarg(self, c: list[Any]) -> Any:
        return Part((str(c[0]), c[2]), self.span(c))

    # ------------------------------------------------------------ prompts and values
    def dom_or(self, c: list[Any]) -> Any:
        return n.DomainOr(operands=tuple(map(bare, c[::2])), span=self.span(c))

    def dom_and(self, c: list[Any]) -> Any:
        return n.DomainAnd(operands=tuple(map(bare, c[::2])), span=self.span(c))

    def dom_not(self, c: list[Any]) -> Any:
        return n.DomainNot(operand=bare(c[1]), span=self.span(c))

    def dom_equals(self, c: list[Any]) -> Any:
        return n.DomainEquals(key=c[0].value, value=c[2], span=self.span(c))

    def dom_in(self, c: list[Any]) -> Any:
        return n.DomainIn(key=c[0].value, values=c[2].value, span=self.span(c))

    dom_paren = paren

    def dkey(self, c: list[Any]) -> Any:
        return Part(str(c[0]), self.span(c))

    def set(self, c: list[Any]) -> Any:
        return Part(tuple(x for x in c if isinstance(x, n.Scalar)), self.span(c))

    def scalar(self, c: list[Any]) -> Any:
        token, span = c[-1], self.span(c)
        text = str(token)
        if token.type in ("NUMBER", "INT", "PERCENT"):
            value = exact_number(text)
            kind: Any = "percent" if token.type == "PERCENT" else "number"
            return n.Scalar(value=value.copy_negate() if str(c[0]) == "-" else value, kind=kind, span=span)
        if token.type == "STRING":
            return n.Scalar(value=self.string(token), kind="string", span=span)
        if token.type == "REGEX":
            return n.Scalar(value=text[3:-1], kind="regex", span=span)
        if token.type in ("TRUE", "FALSE"):
            return n.Scalar(value=text == "true", kind="truth", span=span)
        return n.Scalar(value=text, kind="name", span=span)


def bare(child: Any) -> Any:
    """The node without brackets around it."""
    return child.node if isinstance(child, Bracketed) else child


def place_of(child: Any) -> Span:
    """Where a token, a node or an intermediate result stands."""
    built = isinstance(child, n.Node | Part | Bracketed)
    return child.span if built else Span(child.start_pos, child.end_pos)


def is_token(child: Any, kind: str) -> bool:
    """Whether a child is a token of a kind."""
    return not isinstance(child, n.Node | Part | Bracketed) and child.type == kind
