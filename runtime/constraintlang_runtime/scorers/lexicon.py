"""Counts or weighs the words of a list in a text (Aho-Corasick, whole words, case folded)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constraintlang_compiler.monitors.lexicons import folded
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.missing_paths import exists, looked
from constraintlang_runtime.scorers.protocol import TEXT_ALONE

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place


class LexiconScorer:
    """Sum of the weights of all occurrences of listed words or phrases, cut at ``ceiling``; of a flag, whether it is
    not 0.

    The file has one entry a line, ``word`` or ``word<TAB>weight`` (default weight 1); ``#`` starts a comment line.
    An occurrence counts when neither neighbour is a letter, digit or underscore. Overlapping entries all count.
    """

    terms = TEXT_ALONE

    def __init__(self, path: Path, *, ceiling: float = math.inf, flag: bool = False) -> None:
        import ahocorasick

        self.path = path
        self._flag, self._ceiling = flag, ceiling
        self.entries = read_lexicon(path)
        self._automaton = ahocorasick.Automaton()
        for key, value in self.entries.items():
            self._automaton.add_word(key, (len(key), value))
        self._automaton.make_automaton()

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [self._score(folded(text)) for text in completions]

    def _score(self, text: str) -> float:
        total = 0.0
        for end, (length, weight) in self._automaton.iter(text):
            start = end - length + 1
            if _is_boundary(text, start - 1) and _is_boundary(text, end + 1):
                total += weight
        return self.of_sum(total)

    def of_sum(self, total: float) -> float:
        """A sum of weights as a score: sums such as 0.1 + 0.2 must not straddle a threshold."""
        total = round(total, 12)
        return float(total != 0) if self._flag else min(total, self._ceiling)


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> LexiconScorer:
    """The scorer of `lexicon("FILE")`."""
    return lexicon_scorer(attribute, place.named_file(backend.arguments[0]))


def lexicon_scorer(attribute: AttributeRecord, path: Path) -> LexiconScorer:
    """The scorer of a word list for an attribute, cut at the top of its range."""
    ceiling = float(attribute.high) if attribute.high is not None else math.inf
    return LexiconScorer(path, ceiling=ceiling, flag=attribute.type == "flag")


def read_lexicon(path: Path) -> dict[str, float]:
    """The entries of a word list, folded, with their weights; ConfigError for a file of another form."""
    entries: dict[str, float] = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        entry, _, weight = line.partition("\t")
        if not entry.strip():
            raise ConfigError(
                f"lexicon: line {number} of `{path}` has no word", help="write `word` or `word<TAB>number`"
            )
        try:
            value = float(weight) if weight.strip() else 1.0
            if not math.isfinite(value):
                raise ValueError
        except ValueError:
            raise ConfigError(
                f"lexicon: line {number} of `{path}` has the weight {weight.strip()!r}",
                help="write `word` or `word<TAB>number`",
            ) from None
        entries[folded(entry.strip())] = value
    if not entries:
        raise ConfigError(f"lexicon: `{path}` has no entries", help="write one word a line")
    return entries


def _is_boundary(text: str, index: int) -> bool:
    return index < 0 or index >= len(text) or not (text[index].isalnum() or text[index] == "_")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"lexicon: cannot read `{path}`: {error.strerror}",
            help="check the path" if exists(path) else looked(path),
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"lexicon: `{path}` is not UTF-8", help="save it as UTF-8") from error
