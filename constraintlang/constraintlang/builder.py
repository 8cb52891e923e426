"""Reductions to nodes: one method per grammar rule, called by the parser bottom up, so never recursive."""

# ruff: noqa: D102 -- each method is named like the grammar rule that it builds; the rule has the comment
from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
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


class Builder:
    """Builds nodes; what is grammatical but makes no sense lands in ``diagnostics``."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []

    # ------------------------------------------------------------ helpers
    @staticmethod
    def span(children: Sequence[Any]) -> Span:
        return _place(children[0]).to(_place(children[-1])) if children else n.NO_SPAN

    def error(self, code: str, span: Span, message: str, help: str, fix: Fix | None = None) -> None:
        self.diagnostics.append(Diagnostic(code, "error", span, message, help=help, fix=fix))

    def as_formula(self, value: Any) -> Any:
        value = _bare(value)
        if isinstance(value, n.Name):
            return n.Flag(name=value, span=value.span)
        if isinstance(value, _EXPRESSIONS):
            self.error("PC011", value.span, *compared(value))
            return n.Truth(value=True, span=value.span)
        return value

    def as_expr(self, value: Any) -> Any:
        value = _bare(value)
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

    # ------------------------------------------------------------ files and declarations
    def start(self, c: list[Any]) -> Any:
        return [x for x in c if not _is_newline(x)]

    def edition(self, c: list[Any]) -> Any:
        return n.Edition(number=int(c[1]), span=self.span(c))

    def import_(self, c: list[Any]) -> Any:
        return n.Import(path=self.string(c[1]), alias=str(c[3]) if len(c) > 2 else None, span=self.span(c))

    def let(self, c: list[Any]) -> Any:
        return n.Let(name=str(c[1]), value=self.as_expr(c[3]), name_span=_place(c[1]), span=self.span(c))

    def attribute(self, c: list[Any]) -> Any:
        rest = c[4:]
        low = high = None
        if rest and _is(rest[0], "IN"):
            low, high = rest[1].value
            rest = rest[2:]
        fields = rest.pop().value if rest and isinstance(rest[-1], Part) else ()
        return n.Attribute(
            name=c[1].value,
            type=str(c[3]),
            low=low,
            high=high,
            flags=tuple(str(x) for x in rest),
            fields=fields,
            name_span=_place(c[1]),
            type_span=_place(c[3]),
            flag_spans=tuple(_place(x) for x in rest),
            span=self.span(c),
        )

    def dotted(self, c: list[Any]) -> Any:
        return Part("".join(map(str, c)), self.span(c))

    measured = dotted

    def fields(self, c: list[Any]) -> Any:
        return Part(tuple(x for x in c if isinstance(x, n.Field)), self.span(c))

    def field(self, c: list[Any]) -> Any:
        value = n.SetValue(values=c[2].value, span=c[2].span) if isinstance(c[2], Part) else c[2]
        return n.Field(name=str(c[0]), value=value, span=self.span(c))

    def call(self, c: list[Any]) -> Any:
        given = [x for x in c if isinstance(x, Part)]
        positional = tuple(x.value for x in given if isinstance(x.value, n.Scalar))
        named = [x for x in given if isinstance(x.value, tuple)]
        late = next((p for k, p in pairwise(given) if k.value.__class__ is tuple), None)
        if late is not None and isinstance(late.value, n.Scalar):
            self.error("PC001", late.span, "a plain argument cannot follow a named one", "put it first")
        if str(c[0]) == "regex" and positional and positional[0].kind == "string":
            # A pattern in plain quotes is told as such (PC117), whatever its backslashes would mean in a text.
            place = positional[0].span
            self.diagnostics[:] = [d for d in self.diagnostics if not place.start <= d.span.start < place.end]
        return n.Call(
            function=str(c[0]),
            arguments=positional,
            keywords=tuple(x.value for x in named),
            key_spans=tuple(map(_key_place, named)),
            span=self.span(c),
        )

    def keyword_arg(self, c: list[Any]) -> Any:
        return Part((str(c[0]), c[2]), self.span(c))

    def plain_arg(self, c: list[Any]) -> Any:
        return Part(c[0], self.span(c))

    def domain(self, c: list[Any]) -> Any:
        return n.Domain(name=str(c[1]), fields=c[2].value, name_span=_place(c[1]), span=self.span(c))

    def tag(self, c: list[Any]) -> Any:
        return n.Tag(key=str(c[1]), values=c[3].value, name_span=_place(c[1]), span=self.span(c))

    def group(self, c: list[Any]) -> Any:
        return n.Group(
            name=str(c[1]),
            clauses=_only_clauses(c),
            items=c[-1].value,
            name_span=_place(c[1]),
            span=self.span(c),
        )

    def block(self, c: list[Any]) -> Any:
        return Part(tuple(x for x in c if isinstance(x, n.Node)), self.span(c))

    # ------------------------------------------------------------ statements
    def stmt(self, c: list[Any]) -> Any:
        label = strength = label_span = None
        always = False
        formula: Any = None
        clauses = []
        for child in c:
            if isinstance(child, n.Clause):
                clauses.append(child)
            elif isinstance(child, Part) and child.value[0] == "label":
                label, label_span = child.value[1], child.value[2]
            elif isinstance(child, Part) and child.value[0] == "strength":
                strength = child.value[1]
            elif isinstance(child, Part):
                always = True
            else:
                formula = self.as_formula(child)
        return n.Statement(
            formula=formula,
            label=label,
            label_span=label_span,
            strength=strength or "require",
            always=always,
            clauses=tuple(clauses),
            span=self.span(c),
        )

    def label(self, c: list[Any]) -> Any:
        return Part(("label", str(c[0]), _place(c[0])), self.span(c))

    def strength(self, c: list[Any]) -> Any:
        return Part(("strength", str(c[0])), self.span(c))

    def always(self, c: list[Any]) -> Any:
        return Part(("always",), self.span(c))

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
        return n.Over(level=str(c[1]), operand=operand, level_span=_place(c[1]), span=self.span(c))

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
            span = _place(c[0]).to(_place(operand))
            left = n.Arithmetic(op=str(op), left=left, right=right, span=span)  # type: ignore[arg-type]
        return left

    product = sum

    def signed(self, c: list[Any]) -> Any:
        operand = self.as_expr(c[1])
        return n.Negate(operand=operand, span=self.span(c)) if str(c[0]) == "-" else operand

    def paren(self, c: list[Any]) -> Any:
        return Bracketed(_bare(c[1]), self.span(c))

    def number(self, c: list[Any]) -> Any:
        text = str(c[0])
        return n.Number(value=exact_number(text), percent=text.endswith("%"), span=self.span(c))

    def ref(self, c: list[Any]) -> Any:
        names = [str(x) for x in c if _is(x, "NAME")]
        model = names.pop() if any(_is(x, "AT") for x in c) else None
        return n.Name(parts=tuple(names), model=model, span=self.span(c))

    def apply(self, c: list[Any]) -> Any:
        function = str(c[0])
        arguments: list[Any] = []
        keywords: list[Any] = []
        given: Any = None
        separator = ""
        for child in map(_bare, c[1:]):
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
            function_span=_place(c[0]),
            span=self.span(c),
        )

    def kwarg(self, c: list[Any]) -> Any:
        return Part((str(c[0]), c[2]), self.span(c))

    # ------------------------------------------------------------ clauses and prompts
    def for_(self, c: list[Any]) -> Any:
        return n.ForClause(predicate=_bare(c[1]), span=self.span(c))

    def per(self, c: list[Any]) -> Any:
        return n.PerClause(keys=tuple(str(x) for x in c[1::2]), span=self.span(c))

    def under(self, c: list[Any]) -> Any:
        given = c[1::2]
        keys = tuple(map(_key_place, given))
        return n.UnderClause(settings=tuple(x.value for x in given), key_spans=keys, span=self.span(c))

    def setting(self, c: list[Any]) -> Any:
        return Part((str(c[0]), c[2]), self.span(c))

    def weight(self, c: list[Any]) -> Any:
        return n.WeightClause(value=self.as_expr(c[1]), span=self.span(c))

    def priority(self, c: list[Any]) -> Any:
        return n.PriorityClause(value=int(c[1]), span=self.span(c))

    def confidence(self, c: list[Any]) -> Any:
        return n.ConfidenceClause(value=c[1], span=self.span(c))

    def because(self, c: list[Any]) -> Any:
        return n.BecauseClause(reason=self.string(c[1]), span=self.span(c))

    def dom_or(self, c: list[Any]) -> Any:
        return n.DomainOr(operands=tuple(map(_bare, c[::2])), span=self.span(c))

    def dom_and(self, c: list[Any]) -> Any:
        return n.DomainAnd(operands=tuple(map(_bare, c[::2])), span=self.span(c))

    def dom_not(self, c: list[Any]) -> Any:
        return n.DomainNot(operand=_bare(c[1]), span=self.span(c))

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

    # ------------------------------------------------------------ tests
    def test(self, c: list[Any]) -> Any:
        items = tuple(x for x in c if isinstance(x, n.Given | n.Expect))
        return n.Test(name=self.string(c[1]), clauses=_only_clauses(c), items=items, span=self.span(c))

    def given(self, c: list[Any]) -> Any:
        model = str(c[3]) if _is(c[2], "AT") else None
        place = _place(c[1])
        return n.Given(name=c[1].value, value=c[-1].value, model=model, name_span=place, span=self.span(c))

    def series(self, c: list[Any]) -> Any:
        return Part(tuple(x.value for x in c if isinstance(x, Part)), self.span(c))

    def signed_number(self, c: list[Any]) -> Any:
        value = exact_number(str(c[-1]))
        return Part(value.copy_negate() if str(c[0]) == "-" else value, self.span(c))

    def expect(self, c: list[Any]) -> Any:
        text = next((self.string(x) for x in c if _is(x, "STRING")), None)
        on = str(c[-1]) if len(c) > 2 and _is(c[-2], "ON") else None
        return n.Expect(outcome=str(c[0]), text=text, on=on, span=self.span(c))


def _bare(child: Any) -> Any:
    return child.node if isinstance(child, Bracketed) else child


def _place(child: Any) -> Span:
    built = isinstance(child, n.Node | Part | Bracketed)
    return child.span if built else Span(child.start_pos, child.end_pos)


def _key_place(pair: Part) -> Span:
    """Where the key of ``key = value`` stands."""
    return Span(pair.span.start, pair.span.start + len(pair.value[0]))


def _is(child: Any, kind: str) -> bool:
    return not isinstance(child, n.Node | Part | Bracketed) and child.type == kind


def _is_newline(child: Any) -> bool:
    return _is(child, "_NL")


def _only_clauses(c: list[Any]) -> tuple[Any, ...]:
    return tuple(x for x in c if isinstance(x, n.Clause))
