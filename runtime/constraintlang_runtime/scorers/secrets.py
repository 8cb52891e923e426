"""Finds keys, tokens and passwords in texts with the detectors of detect-secrets."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.scorers.extras import library
from constraintlang_runtime.scorers.limits import MAX_CHARACTERS
from constraintlang_runtime.scorers.protocol import TEXT_ALONE

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place

LEFT_OUT = ("IPPublicDetector",)  # an address is no secret
WINDOW, OVERLAP = (
    4000,
    500,
)  # characters of a long line that are searched at once: some patterns are quadratic


class SecretsScorer:
    """Number of different secrets in a text; 0 or 1 for an attribute of type flag.

    All detectors of detect-secrets but the one for IP addresses, line by line, without its filters and without asking
    any service whether a key works. Quoted strings count when their Shannon entropy is above the detectors' limits
    (4.5 bits in base64, 3 in hexadecimal). The same text found by two detectors counts once; in a line longer than 4000
    characters a secret longer than 500 may be missed. None above ``MAX_CHARACTERS``.
    """

    terms = TEXT_ALONE

    def __init__(self, *, flag: bool) -> None:
        self._flag = flag
        self._detectors = _detectors()

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [None if len(text) > MAX_CHARACTERS else self.score(text) for text in completions]

    def score(self, text: str) -> float:
        """The score of one text."""
        if self._flag:
            return float(any(True for _ in self.found(text)))
        return float(len(set(self.found(text))))

    def found(self, text: str) -> Iterator[str]:
        """The secrets of a text, some of them more than once."""
        for line in text.splitlines():
            if not line or line.isspace():
                continue
            for start in range(0, max(1, len(line) - OVERLAP), WINDOW - OVERLAP):
                part = line[start : start + WINDOW]
                for detector in self._detectors:
                    limit = getattr(detector, "entropy_limit", None)
                    for secret in detector.analyze_string(part):
                        if secret and (limit is None or detector.calculate_shannon_entropy(secret) > limit):
                            yield secret


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> SecretsScorer:
    """The scorer of `secrets()`."""
    return SecretsScorer(flag=attribute.type == "flag")


def _detectors() -> list[Any]:
    """One of each detector that the library ships."""
    plugins = library("detect_secrets.plugins", backend="secrets", extra="secrets")
    base = importlib.import_module("detect_secrets.plugins.base").BasePlugin
    found: dict[str, Any] = {}
    for info in pkgutil.iter_modules(plugins.__path__):
        module = importlib.import_module(f"{plugins.__name__}.{info.name}")
        for name, value in vars(module).items():
            if (
                isinstance(value, type)
                and issubclass(value, base)
                and value.__module__ == module.__name__
                and isinstance(getattr(value, "secret_type", None), str)
                and name not in LEFT_OUT
            ):
                found[name] = value()
    return [found[name] for name in sorted(found)]
