"""The base model in formulas: ``base`` written out as ``@base``, and what neither may be used for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import asdict, replace

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.declarations import Declarations
from constraintlang.report import Report
from constraintlang.tree import names_in


def reads_base(node: n.Node) -> bool:
    """Whether a formula or an expression mentions the base model."""
    return any(name.model == "base" or name.parts == ("base",) for name in names_in(node))


def on_base(node: Any) -> Any:
    """``node`` with every name read on the base model."""
    return _each(node, lambda name: replace(name, model="base"))


def own(node: Any) -> Any:
    """``node`` with every ``@base`` removed: a statistic of the base model's own responses reads them plainly."""
    return _each(node, lambda name: replace(name, model=None) if name.model == "base" else name)


def write_out(formula: Any) -> Any:
    """``formula`` with every ``base`` replaced by what it stands for: the left side, read on the base model."""
    if isinstance(formula, n.Compare):
        before = [None, *formula.operands]
        pairs = zip(formula.operands, before, strict=False)
        return replace(formula, operands=tuple(_repeat(operand, left) for operand, left in pairs))
    if isinstance(formula, n.InRange):
        ends = {"low": _repeat(formula.low, formula.operand), "high": _repeat(formula.high, formula.operand)}
        return replace(formula, **ends)
    changed = {}
    for key, value in asdict(formula).items():
        if isinstance(value, n.Node):
            changed[key] = write_out(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], n.Node):
            changed[key] = tuple(write_out(item) for item in value)
    return replace(formula, **changed) if changed else formula


def _repeat(operand: n.Expr, left: n.Expr | None) -> Any:
    def repeated(name: n.Name) -> n.Node:
        return name if name.parts != ("base",) or left is None else on_base(left)

    # The argument of a statistic may hold comparisons with a `base` of their own.
    return write_out(_each(operand, repeated, into_statistics=False))


def _each(node: Any, change: Any, *, into_statistics: bool = True) -> Any:
    if isinstance(node, n.Name):
        return change(node)
    if isinstance(node, n.Apply) and not into_statistics:
        return node
    changed = {}
    for key, value in asdict(node).items():
        if isinstance(value, n.Node):
            changed[key] = _each(value, change, into_statistics=into_statistics)
        elif isinstance(value, tuple) and value and isinstance(value[0], n.Node):
            changed[key] = tuple(_each(item, change, into_statistics=into_statistics) for item in value)
    return replace(node, **changed) if changed else node


def scaling_fits(operand: n.Expr, left: n.Expr | None, declarations: Declarations, report: Report) -> bool:
    """Whether one side of a comparison with the base model multiplies nothing whose range goes below 0; else PC204.

    ``left`` is what the bare ``base`` stands for.
    """
    for product in _products(operand):
        measured: list[n.Expr] = [product]
        if left is not None and any(name.parts == ("base",) for name in names_in(product)):
            measured.append(left)
        for name in _attributes(measured):
            info = declarations.attributes.get(name)
            if info is not None and info.type != "flag" and (info.low is None or info.low < 0):
                report.error(
                    "PC204",
                    product.span,
                    f"a multiple of `{name}` says little about the base model: `{name}` may be negative",
                    f"add instead, as in `{name} <= base + 0.1`, or declare a range from 0 for `{name}`",
                )
                return False
    return True


def _products(node: n.Expr) -> Iterator[n.Arithmetic]:
    if isinstance(node, n.Arithmetic):
        if node.op in "*/":
            yield node
        else:
            yield from _products(node.left)
            yield from _products(node.right)
    elif isinstance(node, n.Negate):
        yield from _products(node.operand)


def _attributes(nodes: Iterable[Any]) -> Iterator[str]:
    """Names of attributes outside ``P``: a chance is a ratio whatever it is the chance of."""
    for node in nodes:
        if isinstance(node, n.Name):
            yield ".".join(node.parts)
        elif isinstance(node, n.Apply):
            if node.function != v.PROBABILITY:
                yield from _attributes([node.arguments[0]])
        elif isinstance(node, n.Negate):
            yield from _attributes([node.operand])
        elif isinstance(node, n.Arithmetic):
            yield from _attributes([node.left, node.right])


def same_text_fits(node: n.Expr, declarations: Declarations, report: Report) -> bool:
    """Whether the base model may give the same text another score than the model does; PC228 where it cannot."""
    for name in names_in(node):
        written = ".".join(name.parts)
        info = declarations.attributes.get(written)
        if info is not None and info.backend is not None and info.backend.function not in v.MODEL_BACKENDS:
            report.error(
                "PC228",
                name.span,
                f"`{written}` measures the text alone, so the base model gives the same text the same score",
                f"compare with the base model's own responses, as in `mean({written}) <= mean({written}@base)`",
            )
            return False
    return True
