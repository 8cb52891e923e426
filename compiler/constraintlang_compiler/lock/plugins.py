"""Where a plug-in comes from, found without running any of it: its distribution, version and source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions, version
from pathlib import Path

from constraintlang_compiler.lock.content import content_hash


@dataclass(frozen=True)
class Plugin:
    """The module that holds a function, as installed here; ``distribution`` is None outside of any."""

    distribution: str | None
    version: str | None
    source_hash: str

    @property
    def pin(self) -> str:
        """One text for all of it."""
        named = f"{self.distribution} {self.version} " if self.distribution else ""
        return f"{named}{self.source_hash}"


def find_plugin(target: str) -> Plugin | None:
    """The plug-in of ``module:function``; None when no source file of it is found.

    Only files are read: importing a package to find a module below it would run its code.
    """
    module = target.partition(":")[0]
    source = _source(module.split("."))
    if source is None:
        return None
    names = _distributions().get(module.split(".")[0], ())
    name = names[0] if names else None
    return Plugin(name, None if name is None else version(name), content_hash(source))


@cache
def _distributions() -> Mapping[str, Sequence[str]]:
    return packages_distributions()


def _source(parts: list[str]) -> Path | None:
    if not all(part.isidentifier() for part in parts):
        return None
    try:
        spec = PathFinder.find_spec(parts[0])
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if len(parts) == 1:
        return Path(spec.origin) if spec.origin is not None and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        base = Path(folder).joinpath(*parts[1:])
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if os.path.isfile(candidate):  # false, too, of a name that no file can have
                return candidate
    return None
