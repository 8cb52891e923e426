"""Finds personal data in texts with the pattern recognizers of Presidio, without a language model."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.extras import library
from constraintlang_runtime.scorers.limits import MAX_PII
from constraintlang_runtime.scorers.protocol import TEXT_ALONE
from constraintlang_runtime.scorers.regex import utf8

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place

ANY = "any"
PART = 2000
NOT_PERSONAL = "URL"  # and its pattern takes a millisecond a character on a text such as "a.a.a."
SURE = 0.4  # Presidio's own example threshold; below it are patterns such as "nine digits"


class PiiScorer:
    """Number of places in a text that hold personal data of a kind; 0 or 1 for an attribute of type flag.

    A kind is an entity of Presidio's pattern recognizers (patterns, checksums and phone-number rules, no named-entity
    model, so no names of persons). A named kind counts whatever its patterns find, however weak: nine digits are a
    US_SSN. ``"any"`` is every recognizer that Presidio turns on for English, of matches with a confidence of 0.4 or
    more; these include dates, and not URLs. Overlapping matches are one place. A text of more than 2000
    characters is searched in parts that end at a line or at white space where there is some. None above ``MAX_PII``.

    No spaCy model is loaded and nothing is fetched: e-mail addresses are checked against the suffix list that comes
    with tldextract.
    """

    terms = TEXT_ALONE

    def __init__(self, entity: str, *, flag: bool) -> None:
        self._flag = flag
        self._least = SURE if entity == ANY else 0.0
        self._recognizers = _default_recognizers() if entity == ANY else _recognizers_of(entity)
        offline = library("tldextract", backend="pii", extra="pii").TLDExtract(
            suffix_list_urls=(), cache_dir=None
        )
        for recognizer in self._recognizers:
            if type(recognizer).__name__ == "EmailRecognizer":  # its own check would download a list
                recognizer.validate_result = lambda text: bool(offline(text).fqdn)

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [None if len(text) > MAX_PII else self.score(text) for text in completions]

    def score(self, text: str) -> float:
        """The score of one text."""
        places = sum(self._places(part) for part in parts_of(utf8(text)))
        return float(min(places, 1) if self._flag else places)

    def _places(self, text: str) -> int:
        spans = [
            (found.start, found.end)
            for recognizer in self._recognizers
            for found in recognizer.analyze(text, recognizer.supported_entities, None) or ()
            if found.score > 0 and found.score >= self._least
        ]
        return _merged(spans)


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> PiiScorer:
    """The scorer of `pii("ENTITY")`."""
    return PiiScorer(backend.arguments[0], flag=attribute.type == "flag")


def parts_of(text: str) -> Iterator[str]:
    """The text in parts of at most PART characters: some patterns are quadratic."""
    start = 0
    while len(text) - start > PART:
        end = text.rfind("\n", start + 1, start + PART) + 1 or text.rfind(" ", start + 1, start + PART) + 1
        end = end or start + PART
        yield text[start:end]
        start = end
    yield text[start:]


def _merged(spans: Iterable[tuple[int, int]]) -> int:
    """How many places the spans make when those that overlap are one."""
    places, reach = 0, -1
    for start, end in sorted(spans):
        if start >= reach:
            places += 1
        reach = max(reach, end)
    return places


def _default_recognizers() -> list[Any]:
    presidio = library("presidio_analyzer", backend="pii", extra="pii")
    registry = presidio.RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    kinds = _kinds()
    known: list[Any] = [one for one in registry.recognizers if isinstance(one, kinds)]
    return [one for one in known if one.supported_entities != [NOT_PERSONAL]]


def _recognizers_of(entity: str) -> list[Any]:
    """Every recognizer of an entity; of a country too, whether or not Presidio turns it on."""
    predefined = library("presidio_analyzer.predefined_recognizers", backend="pii", extra="pii")
    found: dict[str, list[Any]] = {}
    for _, kind in inspect.getmembers(predefined, inspect.isclass):
        if issubclass(kind, _kinds()):
            recognizer: Any = kind()
            for name in recognizer.supported_entities:
                found.setdefault(name, []).append(recognizer)
    if entity not in found:
        close = difflib.get_close_matches(entity.upper(), found, n=1, cutoff=0.5)
        raise ConfigError(
            f'pii: got {entity!r}, expected "any" or an entity that Presidio\'s patterns recognize',
            help=f"did you mean `{close[0]}`?" if close else f"they are {', '.join(sorted(found))}",
        )
    return found[entity]


def _kinds() -> tuple[type, ...]:
    """The recognizers that need nothing but the text."""
    presidio = library("presidio_analyzer", backend="pii", extra="pii")
    predefined = library("presidio_analyzer.predefined_recognizers", backend="pii", extra="pii")
    return presidio.PatternRecognizer, predefined.PhoneRecognizer
