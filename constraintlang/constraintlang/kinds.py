"""Kinds of terms and formulas: what speaks of one response, of the distribution, of the user's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.base_model import reads_base, same_text_fits, scaling_fits
from constraintlang.constants import fold
from constraintlang.declarations import Declarations
from constraintlang.fixes import Fix, inserting, replacing
from constraintlang.mixtures import Level, report_mixed, report_units
from constraintlang.names import Meaning, resolve
from constraintlang.printer import format_formula
from constraintlang.prompts import check_domain
from constraintlang.report import Report
from constraintlang.source import Span
from constraintlang.temporal import level_fits, temporal_kind
from constraintlang.units import Unit, multiply, unit_of

NOT_COMPILED = "parses but is not compiled by this release"


@dataclass(frozen=True)
class Term:
    """What is known of an expression; ``unit`` is None for constants, which fit every unit."""

    level: Level
    unit: Unit | None = None
    continuous: bool = False
    num_statistics: int = 0


ERROR = Term("error")
CONST = Term("const")
_BASE_HELP = "write `mean(toxicity) <= 0.9 * base`, or `preserve mean(perplexity) <= 1.02 * base`"


class Kinds:
    """Assigns kinds within one statement and reports what does not fit."""

    def __init__(self, declarations: Declarations, report: Report, *, preserve: bool) -> None:
        self.declarations = declarations
        self.report = report
        self.preserve = preserve
        self.statistic: str | None = None  # the statistic whose argument is being read
        self.models: set[str | None] = set()  # whose scores that argument mentions; None is the model's own
        self.over: str | None = None  # the level whose parts are being read

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
        level = self._junction(word, span, operands)
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
        report_mixed(self.report, parts)
        return "error"

    def _flag(self, node: n.Flag) -> Level:
        name = ".".join(node.name.parts)
        found = resolve(node.name, self.declarations, self.report, as_flag=True)
        if found is None:
            return "error"
        if not self._model_fits(node.name, found):
            return "error"
        if found.attribute is not None and found.attribute.type == "flag":
            return "seq" if level_fits(self, node.name, found.attribute) else "error"
        example = "0.1" if found.attribute is None or found.attribute.type in v.CONTINUOUS else "10"
        if self.statistic == v.PROBABILITY:
            message = f"`P` takes a condition, and `{name}` is a number"
            self.report.error("PC208", node.span, message, f"write `P({name} > {example})` or `mean({name})`")
        else:
            message = f"`{name}` is a number, not a condition"
            fix = inserting(node.span.end, f" < {example}", "placeholder")
            help = f"compare it, for example `{name} < {example}`"
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
        terms: list[Term] = []
        for operand in operands:
            terms.append(self._expr(operand))
        levels = {t.level for t in terms} - {"const"}
        if "error" in levels or self._turns_back(operands, operators):
            return "error"
        equality = any(op in ("==", "!=") for op in operators)
        parts = [(t.level, o.span) for t, o in zip(terms, operands, strict=True)]
        if "base" in levels:
            for term, left, (_, place) in zip(terms, repeated, parts, strict=True):
                if term.level == "base" and (left is None or terms[left].level in ("const", "base")):
                    message = "`base` stands for the left side of a comparison: there is none to repeat here"
                    self.report.error("PC225", place, message, _BASE_HELP)
                    return "error"
                same_text = term.level == "base" and self.statistic is None and "seq" in levels
                if same_text and not same_text_fits(operands[left or 0], self.declarations, self.report):
                    return "error"
            levels -= {"base"}
            parts = [part for part in parts if part[0] != "base"]
        if len(levels) > 1:
            report_mixed(self.report, parts)
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
            self.report.error(
                "PC202",
                span,
                "no number of samples decides whether a statistic is exactly equal to a number",
                "ask for a range, for example `mean(toxicity) in [0.05, 0.15]`",
                fix=_range_fix(span, operands),
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

    def _same_units(self, operands: Sequence[n.Expr], terms: list[Term]) -> bool:
        with_unit = [(o, t) for o, t in zip(operands, terms, strict=True) if t.unit is not None]
        for operand, term in with_unit[1:]:
            if term.unit != with_unit[0][1].unit:
                report_units(self.report, with_unit[0][0], with_unit[0][1].unit, operand, term.unit)
                return False
        return True

    # ------------------------------------------------------------ expressions
    def _expr(self, node: n.Formula | n.Expr) -> Term:
        """What is known of an expression; its level is "error" when it has been complained about."""
        if isinstance(node, n.Number):
            return CONST
        if isinstance(node, n.Negate):
            return self._expr(node.operand)
        if isinstance(node, n.Arithmetic):
            return self._arithmetic(node)
        if isinstance(node, n.Apply):
            return self._apply(node)
        if isinstance(node, n.Name):
            return self._name(node)
        raise AssertionError(f"{type(node).__name__} is no expression")

    def _name(self, node: n.Name) -> Term:
        found = resolve(node, self.declarations, self.report)
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
                self.report.error("PC225", node.span, message, _BASE_HELP)
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
        if node.model != "base":
            message = f"no model is called `{node.model}`"
            self.report.error("PC115", node.span, message, f"write `{name}@base`")
            return False
        if found.kind != "attribute":
            message = f"`{name}` is the same for every model"
            self.report.error("PC225", node.span, message, f"write `{name}`")
            return False
        return self.statistic is not None or same_text_fits(node, self.declarations, self.report)

    def _arithmetic(self, node: n.Arithmetic) -> Term:
        left, right = self._expr(node.left), self._expr(node.right)
        if "error" in (left.level, right.level):
            return ERROR
        if node.op == "/" and fold(node.right, self.declarations.values.fractions) == 0:
            self.report.error("PC223", node.span, "this divides by zero", "divide by another number")
            return ERROR
        levels = {left.level, right.level} - {"const"}
        statistics = left.num_statistics + right.num_statistics
        if len(levels) > 1:
            if "base" in levels:
                place = node.left if left.level == "base" else node.right
                message = "`base` stands for the whole left side of a comparison and adds to numbers only"
                self.report.error("PC225", place.span, message, _BASE_HELP)
            else:
                report_mixed(self.report, [(left.level, node.left.span), (right.level, node.right.span)])
            return ERROR
        level: Level = next(iter(levels), "const")
        if level in ("dist", "rows", "base"):
            const_first = left.level == "const"
            if (node.op == "*" and "const" not in (left.level, right.level)) or (
                node.op == "/" and const_first
            ):
                self.report.error(
                    "PC120",
                    node.span,
                    f"arithmetic that is not linear in the statistic {NOT_COMPILED}",
                    "multiply and divide a statistic by numbers only",
                )
                return ERROR
            if (node.op == "/" and right.level != "const") or (
                level == "base" and "const" not in (left.level, right.level)
            ):
                help = "mention it once, multiplied by and added to numbers"
                self.report.error("PC120", node.span, f"this use of a statistic {NOT_COMPILED}", help)
                return ERROR
        if node.op in "+-":
            if None not in (left.unit, right.unit) and left.unit != right.unit:
                report_units(self.report, node.left, left.unit, node.right, right.unit)
                return ERROR
            unit = left.unit if left.unit is not None else right.unit
        else:
            unit = multiply(left.unit, right.unit, 1 if node.op == "*" else -1)
        return Term(level, unit, left.continuous or right.continuous or node.op == "/", statistics)

    def _apply(self, node: n.Apply) -> Term:
        function, span = node.function, node.function_span or node.span
        if function not in v.STATISTICS:
            self.report.unknown_word(span, "statistic", function, v.STATISTICS, "PC116")
            return ERROR
        if self.statistic is not None:
            message = f"`{function}` stands inside `{self.statistic}`: a statistic of a statistic"
            self.report.error(
                "PC207", node.span, message, "use one statistic; its argument is about one response"
            )
            return ERROR
        wanted = v.STATISTICS[function]
        if len(node.arguments) != wanted or node.keywords:
            example = {2: f"{function}(toxicity, 0.95)"}.get(wanted, f"{function}(toxicity)")
            example = "P(toxicity >= 0.5)" if function == v.PROBABILITY else example
            plain = f"{wanted} argument{'s' if wanted > 1 else ''}"
            self.report.error("PC227", node.span, f"`{function}` takes {plain}", f"write it like `{example}`")
            return ERROR
        self.statistic, self.models = function, set()
        inner = self._argument(node)
        self.statistic = None
        if self.models == {None, "base"}:
            message = "one statistic reads both models, and each of them writes responses of its own"
            help = "compare two statistics, as in `mean(toxicity) <= mean(toxicity@base)`"
            self.report.error("PC229", node.span, message, help)
            return ERROR
        if node.given is not None:
            check_domain(node.given, self.declarations, self.report)
        in_range = wanted == 1 or self._check_level(node)
        if function in v.INSTEAD_OF:
            self.report.error("PC120", node.span, f"`{function}` {NOT_COMPILED}", v.INSTEAD_OF[function])
            return ERROR
        if inner.level == "error" or not in_range:
            return ERROR
        if inner.level == "const":
            message = "this statistic is taken of a constant"
            self.report.error("PC226", node.span, message, "name an attribute inside it")
            return ERROR
        if inner.level in ("rows", "base"):
            if inner.level == "rows" and node.given is not None:
                message = f"a condition on a quantity of your rows {NOT_COMPILED}"
                self.report.error("PC120", node.span, message, "move the condition to `for`")
                return ERROR
            if function != "mean" or inner.level == "base":
                self.report.error("PC225", node.span, f"`{function}` cannot be taken of this", _BASE_HELP)
                return ERROR
            return Term("rows", num_statistics=1)
        return Term("dist", inner.unit, True, 1)

    def _argument(self, node: n.Apply) -> Term:
        argument = node.arguments[0]
        is_formula = not isinstance(argument, n.Number | n.Name | n.Negate | n.Arithmetic | n.Apply)
        if node.function == v.PROBABILITY:
            if is_formula:
                return Term(self.formula(argument))  # type: ignore[arg-type]
            if self._expr(argument).level != "error":
                message = "`P` takes a condition, and this is a number"
                self.report.error(
                    "PC208", argument.span, message, "compare it, for example `P(toxicity > 0.5)`"
                )
            return ERROR
        if is_formula:
            if self.formula(argument) != "error":  # type: ignore[arg-type]
                message = f"`{node.function}` takes a number, and this is a condition"
                fix = replacing(node.function_span, v.PROBABILITY) if node.function_span else None
                help = "write `P(...)` for the share of responses"
                self.report.error("PC208", argument.span, message, help, fix=fix)
            return ERROR
        return self._expr(argument)

    def _check_level(self, node: n.Apply) -> bool:
        level = node.arguments[1]
        constant = isinstance(level, n.Number | n.Name | n.Negate | n.Arithmetic)
        value = fold(level, self.declarations.values.fractions) if constant else None  # type: ignore[arg-type]
        if value is None or not 0 < value < 1:
            message = f"the level of `{node.function}` must be a number above 0 and below 1"
            self.report.error(
                "PC209", level.span, message, f"write it like `{node.function}(toxicity, 0.95)`"
            )
            return False
        return True


def _range_fix(span: Span, operands: Sequence[n.Expr]) -> Fix | None:
    if len(operands) != 2:
        return None
    return replacing(span, f"{format_formula(operands[0])} in [low, high]", "placeholder")


def _is_single_comparison(node: n.Formula) -> bool:
    return isinstance(node, n.Compare) and len(node.operators) == 1
