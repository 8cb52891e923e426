"""Warns of a file or an import that demands nothing (PC412)."""

from __future__ import annotations

from constraintlang import nodes as n
from constraintlang.declarations import Declarations, walk
from constraintlang.report import Report
from constraintlang.source import Span
from constraintlang.tree import names_in
from constraintlang_policies.library import PREFIX, SUFFIX


def check_idle(policy: n.Policy, declarations: Declarations, report: Report) -> None:
    """Look at a policy without errors; what was lost to one could be what is missing here."""
    if all(isinstance(item, n.Edition | n.Group | n.Test) for item, _ in walk(policy.items)):
        message = "this policy demands nothing: it has neither a statement nor a declaration"
        report.warning("PC412", Span(0, 0), message, "write a statement, for example `toxicity < 0.1`")
        return
    # Domains and tags are names in the user's data, which apply without being named here.
    imports = [
        item for item in policy.items if isinstance(item, n.Import) and item in declarations.names_only
    ]
    if not imports:
        return
    used = {name.parts[0] for name in names_in(policy)}
    for item in imports:
        alias = declarations.names_only[item]
        if alias not in used:
            message = "nothing of this import is used; an import adds no demand"
            report.warning("PC412", item.span, message, _help(item, alias, declarations))


def _help(item: n.Import, alias: str, declarations: Declarations) -> str:
    """A demand on the first flag that the import brings, or its names; and how the demands of a file are copied."""
    own = [key for key in [*declarations.attributes, *declarations.constants] if key.startswith(f"{alias}.")]
    flag = next(
        (k for k in own if k in declarations.attributes and declarations.attributes[k].type == "flag"), None
    )
    if flag is not None:
        help = f"name it in a demand, as in `always not {flag}`"
    else:
        help = f"name `{own[0]}` in a demand" if own else "remove it: the file declares nothing"
    if not item.path.startswith(PREFIX):
        return help
    return f"{help}, or copy those of the library: `constraintc init --from {item.path.removesuffix(SUFFIX)}`"
