"""The word lists, schemas and rubrics that a policy names: where they lie, and what to say when they do not.

A name below ``std/`` is the standard library's. Any other is relative to the folder of the file that declares
the attribute, and below it unless the caller allows otherwise, because a policy is untrusted. Models are not
looked for here: they may be ids of a hub.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from constraintlang import vocabulary as v
from constraintlang.checked import AttributeInfo
from constraintlang.diagnostics import Diagnostic
from constraintlang.nodes import NO_SPAN
from constraintlang.places import is_below
from constraintlang.source import SourceFile
from constraintlang_policies.library import PREFIX, std_path

KINDS = tuple(name for name, backend in v.BACKENDS.items() if backend.reads == "file")


def data_path(name: str, folder: Path) -> Path:
    """The file that a policy in ``folder`` calls ``name``; it need not exist.

    Raises: ValueError for a name below ``std/`` that climbs out.
    """
    return std_path(name) if name.startswith(PREFIX) else folder / name


def data_files(
    attributes: Iterable[AttributeInfo], source: SourceFile, *, allow_path: bool
) -> tuple[dict[str, Path], list[Diagnostic]]:
    """The file of each attribute that names one, and what is wrong with them.

    An attribute of a text that is no file is left out unless its file is the standard library's: the caller
    knows the folder.
    """
    found: dict[str, Path] = {}
    diagnostics: list[Diagnostic] = []
    for info in attributes:
        if info.backend is None or info.backend.function not in KINDS:
            continue
        argument = info.backend.arguments[0]
        name, declared_in = str(argument.value), info.source or source
        if declared_in.folder is None and not name.startswith(PREFIX):
            continue
        finding, path = None, None
        try:
            path = data_path(name, declared_in.folder or Path())
            outside = not (
                allow_path or name.startswith(PREFIX) or is_below(path, declared_in.folder or Path())
            )
            missing = not outside and not path.is_file()
        except (OSError, ValueError, RuntimeError):  # climbs out of std/, is too long, links to itself
            path, outside, missing = None, False, True
        span = argument.span if argument.span != NO_SPAN else (info.span or NO_SPAN)
        if outside:
            message = f"`{name}` leaves the folder of the file that names it"
            help = "move it below that folder, or pass --allow-path if you trust the policy"
            finding = Diagnostic("PC119", "error", span, message, help=help, source=info.source)
        elif missing:
            message = f"there is no file `{name}`, which measures `{info.name}`"
            help = "correct the path, or bind the attribute with --scorer when the policy is used"
            finding = Diagnostic("PC605", "warning", span, message, help=help, source=info.source)
        if finding is not None:
            diagnostics.append(finding)
        if path is not None and not outside:
            found[info.name] = path
    return found, diagnostics
