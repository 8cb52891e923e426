"""Imports the library of a scorer, or says which extra brings it."""

from __future__ import annotations

import importlib
from types import ModuleType

from constraintlang_runtime.errors import ConfigError


def library(module: str, *, backend: str, extra: str) -> ModuleType:
    """The module that a backend needs.

    Raises: ConfigError naming the extra of constraintlang when the module or one that it imports is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"the backend `{backend}` needs the library `{module.partition('.')[0]}`: {error}",
            help=f"install it with: pip install 'constraintlang[{extra}]'",
        ) from error
