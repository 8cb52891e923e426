"""Distribution-level formulas as trees of comparisons, with ``not`` pushed into the comparators.

``and`` at the top gives several demands; ``or`` gives one choice, whose alternatives are bounds on sums of parts.
Law kept: a law on which every statistic is known satisfies the formula exactly when it satisfies the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from constraintlang import nodes
from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.ir import AllOf, AnyOf, Bound, Condition, Op
from constraintlang_compiler.operators import MIRRORED, NEGATED, OP_OF
from constraintlang_compiler.rejection import Rejection


@dataclass(frozen=True)
class Link:
    """One comparison; a plain number stands on the right, where `base` and readers expect it."""

    left: nodes.Expr
    op: Op
    right: nodes.Expr


@dataclass(frozen=True)
class Junction:
    """``and`` or ``or`` of two or more trees."""

    is_and: bool
    operands: tuple[Tree, ...]


Tree = Link | Junction


BoundOf = Callable[[Link], Bound]


def conjuncts(formula: nodes.Formula, bound_of: BoundOf) -> list[Tree]:
    """The trees, single comparisons and choices, whose conjunction the formula is; ``or`` repeats nothing."""
    tree = _without_repetition(_tree(formula, negated=False), bound_of)
    return list(tree.operands) if isinstance(tree, Junction) and tree.is_and else [tree]


def condition(tree: Tree, bound_of: BoundOf) -> Condition:
    """A tree as a canonical condition: the operands sorted."""
    if isinstance(tree, Link):
        return bound_of(tree)
    return _sorted(tree.is_and, (condition(operand, bound_of) for operand in tree.operands))


def _sorted(is_and: bool, parts: Iterable[Condition]) -> Condition:
    ordered = tuple(sorted(parts, key=sort_key))
    return AllOf(operands=ordered) if is_and else AnyOf(operands=ordered)


def _without_repetition(tree: Tree, bound_of: BoundOf) -> Tree:
    """The tree with equal operands of each ``or``, and of the ``and`` inside, taken once.

    The ``and`` at the top is left alone: its operands become clauses, of which equal ones are one.
    """
    if isinstance(tree, Link):
        return tree
    if tree.is_and:
        return _junction(
            True,
            (
                operand if isinstance(operand, Link) else _choice(operand, bound_of)[0]
                for operand in tree.operands
            ),
        )
    return _choice(tree, bound_of)[0]


def _choice(tree: Tree, bound_of: BoundOf) -> tuple[Tree, Condition]:
    """A tree with equal operands taken once, and its condition, for which no part is lowered a second time."""
    if isinstance(tree, Link):
        return tree, bound_of(tree)
    reduced = [_choice(operand, bound_of) for operand in tree.operands]
    unique = {sort_key(found): (operand, found) for operand, found in reduced}
    parts: list[Condition] = []
    for _, found in unique.values():
        if isinstance(found, AllOf | AnyOf) and isinstance(found, AllOf) == tree.is_and:
            parts.extend(found.operands)
        else:
            parts.append(found)
    whole = parts[0] if len(parts) == 1 else _sorted(tree.is_and, parts)
    return _junction(tree.is_and, (operand for operand, _ in unique.values())), whole


def _tree(formula: nodes.Formula, *, negated: bool) -> Tree:
    match formula:
        case nodes.Not(operand=inner):
            return _tree(inner, negated=not negated)
        case nodes.And(operands=parts) | nodes.Or(operands=parts):
            is_and = isinstance(formula, nodes.And) != negated
            return _junction(is_and, (_tree(part, negated=negated) for part in parts))
        case nodes.Implies(left=premise, right=conclusion):
            sides = (_tree(premise, negated=not negated), _tree(conclusion, negated=negated))
            return _junction(negated, sides)
        case nodes.InRange(operand=operand, low=low, high=high):
            ends = (_link(operand, "ge", low, negated), _link(operand, "le", high, negated))
            return _junction(not negated, ends)
        case nodes.Compare(operands=operands, operators=operators):
            links = zip(operands, operators, operands[1:], strict=False)
            return _junction(
                not negated, (_link(left, OP_OF[op], right, negated) for left, op, right in links)
            )
        case _:
            raise Rejection(
                "PC120",
                "this is not compiled as a requirement on the distribution",
                help="compare statistics with numbers, and join the comparisons with `and`, `or`, `implies`",
                span=formula.span,
            )


def _junction(is_and: bool, operands: Iterable[Tree]) -> Tree:
    flat: list[Tree] = []
    for operand in operands:
        same = isinstance(operand, Junction) and operand.is_and == is_and
        flat.extend(operand.operands if same else (operand,))  # type: ignore[union-attr]
    return flat[0] if len(flat) == 1 else Junction(is_and, tuple(flat))


def _link(left: nodes.Expr, op: Op, right: nodes.Expr, negated: bool) -> Link:
    op = NEGATED[op] if negated else op
    return Link(right, MIRRORED[op], left) if isinstance(left, nodes.Number) else Link(left, op, right)
