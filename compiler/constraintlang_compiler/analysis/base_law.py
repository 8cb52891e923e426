"""The base model's own responses to the same prompts: a second law, whose scores are further variables.

Inside a statistic ``a@base`` is a score of such a response; in a statement about single responses it is another
score of the model's response. So the two get different names here.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import asdict, replace

from constraintlang import nodes as n

BASE_LAW = "base law"
_MARK = f"@{BASE_LAW}"


def on_base_law(node: Any) -> Any:
    """``node`` with every ``@base`` read on the base model's own responses."""
    if isinstance(node, n.Name):
        return replace(node, model=BASE_LAW) if node.model == "base" else node
    changed = {}
    for key, value in asdict(node).items():
        if isinstance(value, n.Node) and key != "given":
            changed[key] = on_base_law(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], n.Node):
            changed[key] = tuple(on_base_law(item) for item in value)
    return replace(node, **changed) if changed else node


def own_name(name: str) -> str | None:
    """The name of a score in the base model's law; None for a score of the model's own response."""
    return name.removesuffix(_MARK) if name.endswith(_MARK) else None
