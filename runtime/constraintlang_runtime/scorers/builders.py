"""Which file builds the scorer of each backend, and where the files and models that a policy names are found."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from constraintlang_compiler.data_files import data_path
from constraintlang_compiler.ir import AttributeRecord, Backend
from constraintlang_policies.library import PREFIX
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.judge_settings import JudgeSettings
from constraintlang_runtime.scorers.protocol import Scorer

_HERE = "constraintlang_runtime.scorers"
BUILDERS: dict[str, str] = {
    "classifier": f"{_HERE}.classifier:build",
    "lexicon": f"{_HERE}.lexicon:build",
    "regex": f"{_HERE}.regex:build",
    "length": f"{_HERE}.length:build",
    "readability": f"{_HERE}.readability:build",
    "repetition": f"{_HERE}.repetition:build",
    "language": f"{_HERE}.language:build",
    "pii": f"{_HERE}.pii:build",
    "secrets": f"{_HERE}.secrets:build",
    "json": f"{_HERE}.json_text:build",
    "json_schema": f"{_HERE}.json_schema:build",
    "code": f"{_HERE}.code:build",
    "code_tests": f"{_HERE}.code_tests:build",
    "python": f"{_HERE}.plugin:build",
    "nli": f"{_HERE}.nli:build",
    "reward": f"{_HERE}.reward:build",
    "similarity": f"{_HERE}.similarity:build",
    "perplexity": f"{_HERE}.perplexity:build",
    "logprob": f"{_HERE}.perplexity:build",
    "judge": f"{_HERE}.judge:build",
}
"""Of every backend of the language, ``module:function``; a module is imported when a policy needs it."""

TEXT_BACKENDS = frozenset(
    ("lexicon", "regex", "length", "readability", "repetition", "language", "pii", "secrets", "json", "json_schema",
     "code", "code_tests")
)  # fmt: skip
"""Those whose scores follow from the text alone, without a model."""


@dataclass(frozen=True)
class Place:
    """Where the files and models of a policy are looked for, and what the user lets the policy do.

    ``file`` is what the compiler found for the attribute. ``device`` is where models are put, a GPU if there is one
    when None.
    """

    folder: Path
    file: Path | None
    allow_path: bool
    allow_code: bool = False
    allow_plugins: bool = False
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    device: str | None = None

    def named_file(self, name: str) -> Path:
        """The file that a backend names; ConfigError for a pipe or a device, of which a read may never end."""
        path = self.file or policy_file(name, self.folder, self.allow_path)
        if os.path.lexists(path) and not (path.is_file() or path.is_dir()):
            raise ConfigError(f"the policy names `{path}`, which is no file", help="write it to a file")
        return path

    def model(self, name: str) -> str:
        """A model below the policy's folder, else an id of the hub."""
        local = self.folder / name
        return str(inside(local, self.folder, self.allow_path)) if local.exists() else name


Builder = Callable[[AttributeRecord, Backend, Place], Scorer]


def builder_of(kind: str) -> Builder | None:
    """What builds the scorers of a backend; None where this release has no such file."""
    if kind not in BUILDERS:
        return None
    module, _, function = BUILDERS[kind].partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name == module:
            return None
        raise


def policy_file(name: str, folder: Path, allow_path: bool) -> Path:
    """The file of a policy that was compiled from text, without a folder."""
    if not name.startswith(PREFIX):
        return inside(data_path(name, folder), folder, allow_path)
    try:
        return data_path(name, folder)
    except ValueError as error:
        raise ConfigError(
            f"lexicon: {error}", help="name a list of the standard library, or your own"
        ) from error


def inside(path: Path, folder: Path, allow_path: bool) -> Path:
    """The path, which must not leave the policy's folder unless allowed: a policy is untrusted."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise ConfigError(f"the policy names `{path}`, which is no file", help="correct the path") from error
    if not allow_path and not resolved.is_relative_to(folder.resolve()):
        raise ConfigError(
            f"the policy names `{path}`, which lies outside its folder `{folder}`",
            help="move the file below the policy, or pass --allow-path if you trust the policy",
        )
    return resolved
