"""Kinds of ``over`` and the words of order: where they may stand, and which attributes can be read inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.checked import AttributeInfo
from constraintlang.mixtures import Level
from constraintlang.suggestions import closest

if TYPE_CHECKING:
    from constraintlang.kinds import Kinds

_EXAMPLE = "over sentences (globally toxicity < 0.2)"


def temporal_kind(kinds: Kinds, node: n.Over | n.Temporal | n.TemporalBinary | n.Last) -> Level:
    """The level of a formula about the parts of a response; "error" when it has been complained about."""
    if isinstance(node, n.Over):
        return _over(kinds, node)
    inside = kinds.over is not None
    if not inside:
        word = "last" if isinstance(node, n.Last) else node.op
        message = f"`{word}` speaks of the order of parts, and nothing says of which parts"
        kinds.report.error("PC230", node.span, message, f"write it inside `over`, for example `{_EXAMPLE}`")
        kinds.over, kinds.unordered = v.WHOLE, True  # said once; what stands below is checked as if inside
    levels = [kinds.formula(operand) for operand in _operands(node)]
    if not inside:
        kinds.over, kinds.unordered = None, False
        return "error"
    if isinstance(node, n.Temporal) and not _bounds_fit(kinds, node):
        return "error"
    if "error" in levels:
        return "error"
    return _no_distribution(kinds, levels, _operands(node)) or "seq"


def level_fits(kinds: Kinds, name: n.Name, attribute: AttributeInfo) -> bool:
    """Whether an attribute can be read where its name stands; PC203 when it cannot."""
    wanted = kinds.over or v.WHOLE
    if wanted in attribute.levels:
        return True
    has = ", ".join(f"`{level}`" for level in attribute.levels)
    what = "on whole responses" if wanted == v.WHOLE else f"on `{wanted}`"
    levels = ", ".join(level for level in v.LEVELS if level in {*attribute.levels, wanted})
    kinds.report.error(
        "PC203",
        name.span,
        f"`{attribute.name}` is not measured {what}",
        f"declare the attribute with `levels = {{{levels}}}` if its backend can measure that",
        label=f"measured on {has}",
    )
    return False


def base_fits(kinds: Kinds, node: n.Name) -> bool:
    """Whether the base model may be named where a name stands.

    Inside ``over`` it may where a statistic is taken of the base model's own responses.
    """
    if kinds.over is None or kinds.statistic is not None:
        return True
    kinds.report.error(
        "PC120",
        node.span,
        "the parts of one text under the base model parse but are not compiled by this release",
        "compare the parts with a number, or the whole response with the base model outside `over`",
    )
    return False


def _over(kinds: Kinds, node: n.Over) -> Level:
    if kinds.unordered:
        return "error"
    if kinds.over is not None:
        message = f"`over {node.level}` stands inside another `over`"
        help = "a formula speaks of the parts of one kind: write two, joined by `and` outside"
        kinds.report.error("PC231", node.span, message, help)
        return "error"
    known = node.level in v.TRACE_LEVELS
    if not known:
        near = closest(node.level, v.TRACE_LEVELS)
        choices = ", ".join(f"`{level}`" for level in v.TRACE_LEVELS)
        message = f"responses have no parts called `{node.level}`"
        help = f"write `over {near}`" if near else f"known are {choices}"
        kinds.report.error("PC115", node.level_span or node.span, message, help)
    errors_before = kinds.report.num_errors
    # A wrong level is said once: the attributes below are then read where they can be.
    kinds.over = node.level if known else v.WHOLE
    level = kinds.formula(node.operand)
    kinds.over = None
    if not known or level == "error" or kinds.report.num_errors > errors_before:
        return "error"
    # Also a formula without attributes says something: how many parts there are.
    return _no_distribution(kinds, [level], [node.operand]) or "seq"


def _operands(node: n.Temporal | n.TemporalBinary | n.Last) -> list[n.Formula]:
    if isinstance(node, n.Temporal):
        return [node.operand]
    return [node.left, node.right] if isinstance(node, n.TemporalBinary) else []


def _no_distribution(kinds: Kinds, levels: list[Level], operands: list[n.Formula]) -> Level | None:
    for level, operand in zip(levels, operands, strict=True):
        if level in ("dist", "rows", "base"):
            kinds.report.error(
                "PC201",
                operand.span,
                "this formula mixes the parts of one response with the whole distribution",
                "put `over` inside the statistic, for example `P(over sentences (...)) >= 95%`",
                label="distribution: taken over all responses",
            )
            return "error"
    return None


def _bounds_fit(kinds: Kinds, node: n.Temporal) -> bool:
    if node.bounds is None or node.bounds[0] <= node.bounds[1]:
        return True
    low, high = node.bounds
    message = f"no position lies between {low} and {high}"
    kinds.report.error("PC209", node.span, message, f"write the smaller number first: `[{high}, {low}]`")
    return False
