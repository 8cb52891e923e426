"""Scores texts by the probability that they are in one language."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.extras import library
from constraintlang_runtime.scorers.protocol import TEXT_ALONE

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place


class LanguageScorer:
    """P(language | text) of py3langid's naive Bayes model over its languages, in [0, 1].

    The probabilities are those of a softmax over all languages; a text in no language that the model knows spreads
    them. None for a text without letters. Linear in the text. The model comes with the library.

    Source: Lui and Baldwin (2012), "langid.py: An Off-the-shelf Language Identification Tool".
    """

    terms = TEXT_ALONE

    def __init__(self, code: str) -> None:
        self._identifier = _identifier()
        known = self._identifier.labels
        if code not in known:
            close = difflib.get_close_matches(code.lower().replace("_", "-").partition("-")[0], known, n=1)
            raise ConfigError(
                f"language: got {code!r}, expected an ISO 639-1 code that py3langid knows",
                help=f"did you mean `{close[0]}`?" if close else f"they are {', '.join(sorted(known))}",
            )
        self._code = code

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [self.score(text) for text in completions]

    def score(self, text: str) -> float | None:
        """The score of one text."""
        if not any(map(str.isalpha, text)):
            return None
        return min(1.0, max(0.0, float(dict(self._identifier.rank(text))[self._code])))


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> LanguageScorer:
    """The scorer of `language("CODE")`."""
    return LanguageScorer(backend.arguments[0])


@cache
def _identifier() -> Any:
    langid = library("py3langid.langid", backend="language", extra="text")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
