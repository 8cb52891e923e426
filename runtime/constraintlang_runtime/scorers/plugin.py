"""Runs a Python function that a policy names as a scorer, where the user allows it."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.protocol import Scorer

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place

GROUP = "constraintlang.scorers"


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> Scorer:
    """The function of `python("module:function")`, which is called as the protocol ``Scorer`` says.

    A policy is untrusted: its module is imported only with ``allow_plugins``, or when an installed package offers the
    function under the entry points `constraintlang.scorers`.
    Raises: ConfigError without that permission, or when the function is not found.
    """
    target = backend.arguments[0]
    module, colon, function = target.partition(":")
    if not colon or not module or not function:
        raise ConfigError(
            f"python: got {target!r}, expected `module:function`", help="for example `acme.metrics:grade`"
        )
    if not place.allow_plugins and not is_installed(target):
        raise ConfigError(
            f"attribute `{attribute.name}`: the policy wants to run `{target}`, and plug-ins are not allowed",
            help=f"pass --allow-plugins if you trust the policy, or install a package with an entry point of `{GROUP}`",
        )
    try:
        found: object = importlib.import_module(module)
    except Exception as error:  # the module runs what its author wrote
        raise ConfigError(
            f"python: importing `{module}` raised {type(error).__name__}: {error}",
            help="install it, or put its folder on PYTHONPATH",
        ) from error
    for name in function.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        raise ConfigError(
            f"python: `{module}` has no function `{function}`",
            help="it must take prompts=..., completions=... and **columns, and give one number or None per completion",
        )
    return found


def is_installed(target: str) -> bool:
    """Whether an installed package offers ``module:function`` as a scorer."""
    return any(point.value.replace(" ", "") == target for point in entry_points(group=GROUP))
