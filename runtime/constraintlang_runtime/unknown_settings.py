"""Refuses keyword arguments that name no setting, and says which one is near."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from constraintlang.suggestions import closest
from constraintlang_runtime.errors import ConfigError


def require_known(what: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise ConfigError for the first name that ``what`` has no setting of."""
    for name in given:
        if name not in known:
            near = closest(name, known)
            help = f"a similar setting exists: `{near}`" if near else f"it has {', '.join(known)}"
            raise ConfigError(f"{what} has no setting `{name}`", help=help)
