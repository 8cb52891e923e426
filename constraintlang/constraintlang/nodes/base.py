"""What all nodes share: a place in the source, and an equality that does not see it."""

from __future__ import annotations

from msgspec import Struct

from constraintlang.source import Span

NO_SPAN = Span(0, 0)
PLACES = frozenset(
    {
        "span",
        "name_span",
        "label_span",
        "function_span",
        "type_span",
        "flag_spans",
        "key_spans",
        "level_span",
    }
)
NOT_COMPARED = PLACES | {"percent", "comments"}  # how a number was written; what only the formatter reads


class Node(Struct, frozen=True, kw_only=True, eq=False):
    """Base of all nodes; ``span`` is where the node stands in the source."""

    span: Span = NO_SPAN

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _compared(self) == _compared(other)

    def __ne__(self, other: object) -> bool:
        return not self == other  # a Struct brings a `!=` of its own, which would compare identities

    def __hash__(self) -> int:
        return hash((type(self), _compared(self)))

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in PLACES]
        return f"{type(self).__name__}({', '.join(shown)})"


def _compared(node: object) -> tuple[object, ...]:
    assert isinstance(node, Node)
    return tuple([getattr(node, name) for name in node.__struct_fields__ if name not in NOT_COMPARED])
