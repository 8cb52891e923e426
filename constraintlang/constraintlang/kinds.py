"""Kinds of terms and formulas: what speaks of one response, of the distribution, of the user's rows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.arithmetic_kinds import BASE_HELP, CONST, ERROR, NOT_COMPILED, Term, arithmetic_kind
from constraintlang.base_model import reads_base, same_text_fits, scaling_fits
from constraintlang.constants import fold
from constraintlang.declarations import Declarations
from constraintlang.fixes import Fix, inserting, replacing
from constraintlang.mixtures import Level, report_mixed, report_units
from constraintlang.names import Meaning, resolve
from constraintlang.printer import format_formula
from constraintlang.report import Report
from constraintlang.situations import MAX_ITEM, shown
from constraintlang.source import Span
from constraintlang.statistic_kinds import statistic_kind
from constraintlang.temporal import base_fits, level_fits, temporal_kind
from constraintlang.undeclared import Use
from constraintlang.units import unit_of

RANGE_HELP = "ask for a range, for example `mean(toxicity) in [0.05, 0.15]`"


class Kinds:
    """Assigns kinds within one statement and reports what does not fit."""

    def __init__(self, declarations: Declarations, report: Report, *, preserve: bool) -> None:
        self.declarations = declarations
        self.report = report
        self.preserve = preserve
        self.statistic: str | None = None  # the statistic whose argument is being read
        self.choice: str | None = None  # the `or`, `implies` or `not` that the formula stands under
        self.over: str | None = None  # the level whose parts are being read
        self.unordered = False  # whether words of order stand around without an `over`, which has been said
        self.use = Use()  # of a name in the comparison that is being read
        self.models: set[str | None] = set()  # whose scores that argument mentions; None is the model's own

    # ------------------------------------------------------------ formulas
    def formula(self, node: n.Formula) -> Level:
        """The level of a formula; "error" when it has been complained about."""
        if isinstance(node, n.Truth):
            return "const"
        if isinstance(node, n.Flag):
            return self._flag(node)
        if isinstance(node, n.Compare):
            repeated = (None, *range(len(node.operators)))
            return self._comparison(node.span, node.operands, node.operators, repeated)
        if isinstance(node, n.InRange):
            operands = (node.low, node.operand, node.high)
            return self._comparison(node.span, operands, ("<=", "<="), repeated=(1, None, 1))
        if isinstance(node, n.Not):
            return self._alternative("not", node.span, [node.operand])
        if isinstance(node, n.And):
            return self._junction("and", node.span, node.operands)
        if isinstance(node, n.Or):
            return self._alternative("or", node.span, node.operands)
        if isinstance(node, n.Implies):
            return self._alternative("implies", node.span, [node.left, node.right])
        return temporal_kind(self, node)

    def _junction(self, word: str, span: Span, operands: Sequence[n.Formula]) -> Level:
        levels: list[Level] = []
        for operand in operands:
            levels.append(self.formula(operand))
        if "error" in levels:
            return "error"
        return self._one_level(list(zip(levels, (o.span for o in operands), strict=True)))

    def _alternative(self, word: str, span: Span, operands: Sequence[n.Formula]) -> Level:
        outer, self.choice = self.choice, word
        level = self._junction(word, span, operands)
        self.choice = outer
        if level == "rows" and not (word == "not" and _is_single_comparison(operands[0])):
            help = "turn the comparison round instead" if word == "not" else "write a policy for each case"
            self.report.error("PC120", span, f"`{word}` between conditions on your rows {NOT_COMPILED}", help)
            return "error"
        return level

    def _one_level(self, parts: list[tuple[Level, Span]]) -> Level:
        """The common level of the parts of a formula; PC201 when there is none."""
        kinds = {level for level, _ in parts} - {"const"}
        if len(kinds) <= 1:
            if kinds & {"dist", "rows"} and any(level == "const" for level, _ in parts):
                span = next(s for level, s in parts if level == "const")
                message = "this part is a constant and says nothing about the distribution"
                self.report.error("PC226", span, message, "remove it")
                return "error"
            return next(iter(kinds), "const")
        report_mixed(self.report, parts, self.choice)
        return "error"

    def _flag(self, node: n.Flag) -> Level:
        name = ".".join(node.name.parts)
        found = resolve(node.name, self.declarations, self.report, Use(as_flag=True))
        if found is None:
            return "error"
        if not self._model_fits(node.name, found):
            return "error"
        if found.attribute is not None and found.attribute.type == "flag":
            return "seq" if level_fits(self, node.name, found.attribute) else "error"
        example = "0.1" if found.attribute is None or found.attribute.type in v.CONTINUOUS else "10"
        bound = v.ROWS_QUANTITIES[name].usual if found.kind == "rows" else f"< {example}"
        if self.statistic == v.PROBABILITY:
            message = f"`P` takes a condition, and `{name}` is a number"
            self.report.error("PC208", node.span, message, f"write `P({name} > {example})` or `mean({name})`")
        else:
            message = f"`{name}` is a number, not a condition"
            fix = inserting(node.span.end, f" {bound}", "placeholder")
            help = f"compare it, for example `{name} {bound}`"
            self.report.error("PC220", node.span, message, help, fix=fix)
        return "error"

    # ------------------------------------------------------------ comparisons
    def _comparison(
        self,
        span: Span,
        operands: Sequence[n.Expr],
        operators: Sequence[str],
        repeated: Sequence[int | None],
    ) -> Level:
        """The level of a comparison; ``base`` in operand i stands for operand ``repeated[i]``."""
        equality = any(op in ("==", "!=") for op in operators)
        terms: list[Term] = []
        outer, self.use = self.use, Use(equality=equality, numbers=self._numbers(operands))
        for operand in operands:
            terms.append(self.expression(operand))
        self.use = outer
        levels = {t.level for t in terms} - {"const"}
        if "error" in levels or self._turns_back(operands, operators):
            return "error"
        parts = [(t.level, o.span) for t, o in zip(terms, operands, strict=True)]
        if "base" in levels:
            for term, left, (_, place) in zip(terms, repeated, parts, strict=True):
                if term.level == "base" and (left is None or terms[left].level in ("const", "base")):
                    message = "`base` stands for the left side of a comparison: there is none to repeat here"
                    self.report.error("PC225", place, message, BASE_HELP)
                    return "error"
                same_text = term.level == "base" and self.statistic is None and "seq" in levels
                if same_text and not same_text_fits(operands[left or 0], self.declarations, self.report):
                    return "error"
            levels -= {"base"}
            parts = [part for part in parts if part[0] != "base"]
        if len(levels) > 1:
            report_mixed(self.report, parts, "comparison")
            return "error"
        level: Level = next(iter(levels), "const")
        if not self._same_units(operands, terms):
            return "error"
        if any(reads_base(operand) for operand in operands):
            for operand, left in zip(operands, repeated, strict=True):
                whole = None if left is None else operands[left]
                if not scaling_fits(operand, whole, self.declarations, self.report):
                    return "error"
        if level in ("dist", "rows"):
            return self._statistic_comparison(span, operands, terms, equality, level)
        if equality and any(t.continuous for t in terms):
            self.report.error(
                "PC202",
                span,
                "a continuous score is almost never exactly equal to a number",
                "ask for a range, for example `in [0.4, 0.6]`",
                fix=_range_fix(span, operands),
            )
            return "error"
        return level

    def _numbers(self, operands: Sequence[n.Expr]) -> tuple[Fraction, ...]:
        found = (fold(operand, self.declarations.values.fractions) for operand in operands)
        return tuple(number for number in found if number is not None)

    def _turns_back(self, operands: Sequence[n.Expr], operators: Sequence[str]) -> bool:
        """PC004 for a chain such as `toxicity > 0.1 < 0.2`, which does not say what it seems to."""
        directions = {op[0] for op in operators} & {"<", ">"}
        if len(directions) < 2:
            return False
        self.report.error(
            "PC004",
            operands[0].span.to(operands[-1].span),
            "the comparisons of this chain point in different directions",
            "write a range such as `0.1 < toxicity < 0.2`, or two comparisons joined by `and`",
        )
        return True

    def _statistic_comparison(
        self, span: Span, operands: Sequence[n.Expr], terms: list[Term], equality: bool, level: Level
    ) -> Level:
        if equality:
            help = self._instead_of_equality(operands)
            self.report.error(
                "PC202",
                span,
                "no number of samples decides whether a statistic is exactly equal to a number",
                help,
                fix=_range_fix(span, operands) if help == RANGE_HELP else None,
            )
            return "error"
        if level == "rows" and sum(t.num_statistics for t in terms) > 1:
            self.report.error(
                "PC120",
                span,
                f"a comparison of two quantities of your rows {NOT_COMPILED}",
                "compare each of them with a number or with `base`, in a statement of its own",
            )
            return "error"
        return level

    def _instead_of_equality(self, operands: Sequence[n.Expr]) -> str:
        """What to write for a statistic that is set equal to something."""
        chance = next((o for o in operands if isinstance(o, n.Apply) and o.function == v.PROBABILITY), None)
        if any(map(reads_base, operands)):
            band = "mean(toxicity) >= 0.95 * base and mean(toxicity) <= 1.05 * base"
            return f"ask for a band, for example `{band}`"
        numbers = [int(number) for number in self._numbers(operands) if number in (0, 1)]
        if chance is not None and chance.given is None and numbers:
            condition = shown(format_formula(chance.arguments[0]), MAX_ITEM)
            if numbers == [1]:
                return f"write `always {condition}`"
            is_name = isinstance(chance.arguments[0], n.Flag)
            return f"write `always not {condition}`" if is_name else f"write `always not ({condition})`"
        return RANGE_HELP

    def _same_units(self, operands: Sequence[n.Expr], terms: list[Term]) -> bool:
        with_unit = [(o, t) for o, t in zip(operands, terms, strict=True) if t.unit is not None]
        for operand, term in with_unit[1:]:
            if term.unit != with_unit[0][1].unit:
                report_units(self.report, with_unit[0][0], with_unit[0][1].unit, operand, term.unit)
                return False
        return True

    # ------------------------------------------------------------ expressions
    def expression(self, node: n.Formula | n.Expr) -> Term:
        """What is known of an expression; its level is "error" when it has been complained about."""
        if isinstance(node, n.Number):
            return CONST
        if isinstance(node, n.Negate):
            return self.expression(node.operand)
        if isinstance(node, n.Arithmetic):
            return arithmetic_kind(self, node)
        if isinstance(node, n.Apply):
            return statistic_kind(self, node)
        if isinstance(node, n.Name):
            return self._name(node)
        raise AssertionError(f"{type(node).__name__} is no expression")

    def _name(self, node: n.Name) -> Term:
        found = resolve(node, self.declarations, self.report, self.use)
        name = ".".join(node.parts)
        if found is None:
            return ERROR
        if not self._model_fits(node, found):
            return ERROR
        if found.kind == "let":
            return CONST
        if found.kind in ("rows", "base"):
            if found.kind == "rows" and not self.preserve:
                message = f"`{name}` speaks of the model on your rows, which only `preserve` does"
                self.report.error("PC225", node.span, message, BASE_HELP)
                return ERROR
            if found.kind == "base" and not base_fits(self, node):
                return ERROR
            self.models.update({"base"} if found.kind == "base" else ())
            is_rows = found.kind == "rows" and node.model is None
            return Term("rows" if is_rows else "base", num_statistics=int(is_rows))
        attribute = found.attribute
        assert attribute is not None
        if attribute.type == "flag":
            if self.statistic not in (None, v.PROBABILITY):
                message = f"`{self.statistic}` takes a number, and `{name}` is true or false"
                self.report.error("PC208", node.span, message, f"write `P({name})`")
            else:
                message = f"`{name}` is true or false, not a number"
                self.report.error(
                    "PC221", node.span, message, f"use it as a condition: `{name}` or `not {name}`"
                )
            return ERROR
        if not level_fits(self, node, attribute):
            return ERROR
        return Term("seq", unit_of(attribute), attribute.type in v.CONTINUOUS)

    def _model_fits(self, node: n.Name, found: Meaning) -> bool:
        """Whether the model after ``@`` exists and has a score of its own here."""
        name = ".".join(node.parts)
        if found.kind == "attribute":
            self.models.add(node.model)
        if node.model is None or (node.model == "base" and found.kind == "rows"):
            return True
        if node.model == "base" and not base_fits(self, node):
            return False
        if node.model != "base":
            message = f"no model is called `{node.model}`"
            self.report.error("PC115", node.span, message, f"write `{name}@base`")
            return False
        if found.kind != "attribute":
            message = f"`{name}` is the same for every model"
            self.report.error("PC225", node.span, message, f"write `{name}`")
            return False
        return self.statistic is not None or same_text_fits(node, self.declarations, self.report)


def _range_fix(span: Span, operands: Sequence[n.Expr]) -> Fix | None:
    if len(operands) != 2:
        return None
    return replacing(span, f"{format_formula(operands[0])} in [low, high]", "placeholder")


def _is_single_comparison(node: n.Formula) -> bool:
    return isinstance(node, n.Compare) and len(node.operators) == 1
