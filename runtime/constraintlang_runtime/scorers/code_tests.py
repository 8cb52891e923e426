"""Scores code by the tests that it passes; it is run in a sandbox, and only where the user allows it."""

from __future__ import annotations

import ast
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.fences import code_of
from constraintlang_runtime.scorers.limits import MAX_CHARACTERS
from constraintlang_runtime.scorers.protocol import TEXT_ALONE
from constraintlang_runtime.scorers.sandbox import Limits, run_limited

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place


class CodeTestsScorer:
    """The share of tests that the code of an answer passes, in [0, 1]; 0 or 1 (all) for an attribute of type flag.

    The tests are the functions `test_...` at the top of a Python file, which imports the answer as `answer`; the code
    is the first fenced block, else the whole text. A test passes when it returns; an exception, a limit (see
    ``sandbox.Limits``) or `sys.exit` fails it, and a process that dies fails the tests it has not come to. None above
    ``MAX_CHARACTERS``.

    Each answer runs in a process of its own, about 50 ms and what its tests take: see ``sandbox_child`` for what it may
    not do. It can read what you can read, and code that means to cheat or break out may: use a container for a
    model that you do not trust.
    """

    terms = TEXT_ALONE

    def __init__(self, path: Path, *, flag: bool, limits: Limits | None = None) -> None:
        self._checks = _read(path)
        self._names = _names(self._checks, path)
        self._flag = flag
        self._limits = limits or Limits()

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [None if len(text) > MAX_CHARACTERS else self.score(text) for text in completions]

    def score(self, text: str) -> float:
        """The score of one text."""
        with tempfile.TemporaryDirectory(prefix="constraintlang-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            (folder / "answer.py").write_text(code_of(text), encoding="utf-8", errors="replace")
            (folder / "checks.py").write_text(self._checks, encoding="utf-8")
            token = secrets.token_hex(16)
            report = run_limited(folder, self._names, token=token, limits=self._limits)
        lines = set(report.splitlines())
        passed = sum(f"{token} {name}" in lines for name in self._names)
        return float(passed == len(self._names)) if self._flag else passed / len(self._names)


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> CodeTestsScorer:
    """The scorer of `code_tests("FILE")`.

    Raises: ConfigError without ``allow_code``, where the system cannot limit processes, or for a file without tests.
    """
    name = backend.arguments[0]
    path = place.named_file(name)
    if not place.allow_code:
        raise ConfigError(
            f"attribute `{attribute.name}`: `code_tests({name!r})` runs what the model writes, and code is not allowed",
            help="pass --allow-code if you want that; each answer runs in a limited process, which is no container",
        )
    try:
        import resource  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "code_tests: this system cannot limit a process", help="use Linux or macOS"
        ) from error
    return CodeTestsScorer(path, flag=attribute.type == "flag")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"code_tests: cannot read `{path}`: {error.strerror}", help="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"code_tests: `{path}` is not UTF-8", help="save it as UTF-8") from error


def _names(checks: str, path: Path) -> list[str]:
    """The tests of a file, which is parsed and not run."""
    try:
        tree = ast.parse(checks)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(
            f"code_tests: `{path}` is not Python: {error}", help="correct the file of tests"
        ) from error
    names = [
        item.name for item in tree.body if isinstance(item, ast.FunctionDef) and item.name.startswith("test_")
    ]
    if not names:
        raise ConfigError(
            f"code_tests: `{path}` has no test",
            help="write functions without arguments that are called `test_...` and import `answer`",
        )
    return list(dict.fromkeys(names))
