"""From artifact, model and data to a verified model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constraintlang_runtime.config import ConstraintConfig as ConstraintConfig
    from constraintlang_runtime.integrations.callback import ConstraintCallback as ConstraintCallback
    from constraintlang_runtime.integrations.policy import Policy as Policy
    from constraintlang_runtime.integrations.reward import PolicyReward as PolicyReward
    from constraintlang_runtime.integrations.testing import assert_satisfies as assert_satisfies
    from constraintlang_runtime.row_files import load_rows as load_rows
    from constraintlang_runtime.trainer import ConstraintTrainer as ConstraintTrainer

# Imported on first use: what a program does not touch costs it nothing, torch least of all.
_HOMES = {
    "ConstraintCallback": "integrations.callback",
    "ConstraintConfig": "config",
    "ConstraintTrainer": "trainer",
    "Policy": "integrations.policy",
    "PolicyReward": "integrations.reward",
    "assert_satisfies": "integrations.testing",
    "load_rows": "row_files",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
