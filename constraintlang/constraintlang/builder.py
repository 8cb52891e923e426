"""Reductions to nodes of items: one method per grammar rule, called by the parser bottom up, so never recursive."""

# ruff: noqa: D102 -- each method is named like the grammar rule that it builds; the rule has the comment
from __future__ import annotations

from itertools import pairwise
from typing import Any

from constraintlang import nodes as n
from constraintlang.formula_builder import FormulaBuilder, Part, bare, is_token, place_of
from constraintlang.literals import exact_number
from constraintlang.source import Span


class Builder(FormulaBuilder):
    """Builds the items of a file, clauses and tests among them."""

    # ------------------------------------------------------------ files and declarations
    def start(self, c: list[Any]) -> Any:
        return [x for x in c if not _is_newline(x)]

    def edition(self, c: list[Any]) -> Any:
        return n.Edition(number=int(c[1]), span=self.span(c))

    def import_(self, c: list[Any]) -> Any:
        return n.Import(path=self.string(c[1]), alias=str(c[3]) if len(c) > 2 else None, span=self.span(c))

    def let(self, c: list[Any]) -> Any:
        return n.Let(name=str(c[1]), value=self.as_expr(c[3]), name_span=place_of(c[1]), span=self.span(c))

    def attribute(self, c: list[Any]) -> Any:
        rest = c[4:]
        low = high = None
        if rest and is_token(rest[0], "IN"):
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
            name_span=place_of(c[1]),
            type_span=place_of(c[3]),
            flag_spans=tuple(place_of(x) for x in rest),
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
        return n.Domain(name=str(c[1]), fields=c[2].value, name_span=place_of(c[1]), span=self.span(c))

    def tag(self, c: list[Any]) -> Any:
        return n.Tag(key=str(c[1]), values=c[3].value, name_span=place_of(c[1]), span=self.span(c))

    def group(self, c: list[Any]) -> Any:
        return n.Group(
            name=str(c[1]),
            clauses=_only_clauses(c),
            items=c[-1].value,
            name_span=place_of(c[1]),
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
        return Part(("label", str(c[0]), place_of(c[0])), self.span(c))

    def strength(self, c: list[Any]) -> Any:
        return Part(("strength", str(c[0])), self.span(c))

    def always(self, c: list[Any]) -> Any:
        return Part(("always",), self.span(c))

    # ------------------------------------------------------------ clauses and prompts
    def for_(self, c: list[Any]) -> Any:
        return n.ForClause(predicate=bare(c[1]), span=self.span(c))

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

    # ------------------------------------------------------------ tests
    def test(self, c: list[Any]) -> Any:
        items = tuple(x for x in c if isinstance(x, n.Given | n.Expect))
        return n.Test(name=self.string(c[1]), clauses=_only_clauses(c), items=items, span=self.span(c))

    def given(self, c: list[Any]) -> Any:
        model = str(c[3]) if is_token(c[2], "AT") else None
        place = place_of(c[1])
        return n.Given(name=c[1].value, value=c[-1].value, model=model, name_span=place, span=self.span(c))

    def series(self, c: list[Any]) -> Any:
        return Part(tuple(x.value for x in c if isinstance(x, Part)), self.span(c))

    def signed_number(self, c: list[Any]) -> Any:
        value = exact_number(str(c[-1]))
        return Part(value.copy_negate() if str(c[0]) == "-" else value, self.span(c))

    def expect(self, c: list[Any]) -> Any:
        text = next((self.string(x) for x in c if is_token(x, "STRING")), None)
        on = str(c[-1]) if len(c) > 2 and is_token(c[-2], "ON") else None
        return n.Expect(outcome=str(c[0]), text=text, on=on, span=self.span(c))


def _key_place(pair: Part) -> Span:
    """Where the key of ``key = value`` stands."""
    return Span(pair.span.start, pair.span.start + len(pair.value[0]))


def _is_newline(child: Any) -> bool:
    return is_token(child, "_NL")


def _only_clauses(c: list[Any]) -> tuple[Any, ...]:
    return tuple(x for x in c if isinstance(x, n.Clause))
