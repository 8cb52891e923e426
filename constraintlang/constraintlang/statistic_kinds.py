"""Kinds of statistics: what they may be taken of, their level, and their condition on the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.arithmetic_kinds import BASE_HELP, ERROR, NOT_COMPILED, Term
from constraintlang.constants import fold
from constraintlang.fixes import replacing
from constraintlang.prompts import check_domain

if TYPE_CHECKING:
    from constraintlang.kinds import Kinds


def statistic_kind(kinds: Kinds, node: n.Apply) -> Term:
    """What is known of a statistic; its level is "error" when it has been complained about."""
    function, span = node.function, node.function_span or node.span
    if function in v.BACKENDS:
        message = f"`{function}` is a backend, not a statistic"
        kinds.report.error("PC116", span, message, v.backend_help(function))
        return ERROR
    if function not in v.STATISTICS:
        kinds.report.unknown_word(span, "statistic", function, v.STATISTICS, "PC116")
        return ERROR
    if kinds.statistic is not None:
        message = f"`{function}` stands inside `{kinds.statistic}`: a statistic of a statistic"
        kinds.report.error(
            "PC207", node.span, message, "use one statistic; its argument is about one response"
        )
        return ERROR
    wanted = v.STATISTICS[function]
    if len(node.arguments) != wanted or node.keywords:
        example = {2: f"{function}(toxicity, 0.95)"}.get(wanted, f"{function}(toxicity)")
        example = "P(toxicity >= 0.5)" if function == v.PROBABILITY else example
        plain = f"{wanted} argument{'s' if wanted > 1 else ''}"
        kinds.report.error("PC227", node.span, f"`{function}` takes {plain}", f"write it like `{example}`")
        return ERROR
    kinds.statistic, kinds.models = function, set()
    inner = _argument(kinds, node)
    kinds.statistic = None
    if kinds.models == {None, "base"}:
        message = "one statistic reads both models, and each of them writes responses of its own"
        help = "compare two statistics, as in `mean(toxicity) <= mean(toxicity@base)`"
        kinds.report.error("PC229", node.span, message, help)
        return ERROR
    if node.given is not None:
        check_domain(node.given, kinds.declarations, kinds.report)
    in_range = wanted == 1 or _level_fits(kinds, node)
    if function in v.INSTEAD_OF:
        kinds.report.error("PC120", node.span, f"`{function}` {NOT_COMPILED}", v.INSTEAD_OF[function])
        return ERROR
    if inner.level == "error" or not in_range:
        return ERROR
    if inner.level == "const":
        message = "this statistic is taken of a constant"
        kinds.report.error("PC226", node.span, message, "name an attribute inside it")
        return ERROR
    if inner.level in ("rows", "base"):
        if inner.level == "rows" and node.given is not None:
            message = f"a condition on a quantity of your rows {NOT_COMPILED}"
            kinds.report.error("PC120", node.span, message, "move the condition to `for`")
            return ERROR
        if function != "mean" or inner.level == "base":
            kinds.report.error("PC225", node.span, f"`{function}` cannot be taken of this", BASE_HELP)
            return ERROR
        return Term("rows", num_statistics=1)
    return Term("dist", inner.unit, True, 1)


def _argument(kinds: Kinds, node: n.Apply) -> Term:
    argument = node.arguments[0]
    is_formula = not isinstance(argument, n.Number | n.Name | n.Negate | n.Arithmetic | n.Apply)
    if node.function == v.PROBABILITY:
        if is_formula:
            return Term(kinds.formula(argument))  # type: ignore[arg-type]
        if kinds.expression(argument).level != "error":
            message = "`P` takes a condition, and this is a number"
            kinds.report.error("PC208", argument.span, message, "compare it, for example `P(toxicity > 0.5)`")
        return ERROR
    if is_formula:
        if kinds.formula(argument) != "error":  # type: ignore[arg-type]
            message = f"`{node.function}` takes a number, and this is a condition"
            fix = replacing(node.function_span, v.PROBABILITY) if node.function_span else None
            help = "write `P(...)` for the share of responses"
            kinds.report.error("PC208", argument.span, message, help, fix=fix)
        return ERROR
    return kinds.expression(argument)


def _level_fits(kinds: Kinds, node: n.Apply) -> bool:
    level = node.arguments[1]
    constant = isinstance(level, n.Number | n.Name | n.Negate | n.Arithmetic)
    value = fold(level, kinds.declarations.values.fractions) if constant else None  # type: ignore[arg-type]
    if value is None or not 0 < value < 1 or float(value) == 1.0:
        message = f"the level of `{node.function}` must be a number above 0 and below 1"
        kinds.report.error("PC209", level.span, message, f"write it like `{node.function}(toxicity, 0.95)`")
        return False
    return True
