"""Walking trees without recursion."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import asdict

from constraintlang import nodes as n


def children(node: n.Node) -> Iterator[n.Node]:
    """The nodes directly below ``node``, in source order."""
    for value in asdict(node).values():
        if isinstance(value, n.Node):
            yield value
        elif isinstance(value, tuple):
            for item in value:
                if isinstance(item, n.Node):
                    yield item
                elif isinstance(item, tuple):
                    yield from (x for x in item if isinstance(x, n.Node))


def descendants(root: n.Node) -> Iterator[n.Node]:
    """``root`` and every node below it."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(children(node))


def dotted(name: n.Name) -> str:
    """A name as it is written, without the model."""
    return ".".join(name.parts)


def tree_depth(root: n.Node) -> int:
    """The number of nodes on the longest path from ``root`` down."""
    deepest, stack = 0, [(root, 1)]
    while stack:
        node, depth = stack.pop()
        deepest = max(deepest, depth)
        stack.extend((child, depth + 1) for child in children(node))
    return deepest


def speaks_of_order(root: n.Node) -> bool:
    """Whether a formula reads positions within a response, so that scores of the whole do not decide it."""
    order = (n.Over, n.Temporal, n.TemporalBinary, n.Last)
    return any(isinstance(node, order) for node in descendants(root))


def names_in(root: n.Node) -> list[n.Name]:
    """Every name below ``root``, in source order."""
    found = [node for node in descendants(root) if isinstance(node, n.Name)]
    return sorted(found, key=lambda name: name.span.start)


def overs_in(root: n.Node) -> list[n.Over]:
    """Every ``over`` below ``root``."""
    return [node for node in descendants(root) if isinstance(node, n.Over)]


def whole_names_in(root: n.Node) -> list[n.Name]:
    """The names that are read on the whole response: those outside ``over``, in source order."""
    inside = {id(name) for over in overs_in(root) for name in names_in(over)}
    return [name for name in names_in(root) if id(name) not in inside]
