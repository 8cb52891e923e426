"""Scores responses by the cosine of their embedding with that of the prompt, or of a fixed text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.scorers.embedding import embedder
from constraintlang_runtime.scorers.protocol import Terms

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place

PROMPT = "prompt"


class SimilarityScorer:
    """cos(e(response), e(other)), in [-1, 1]; 0 where an embedding is zero. ``to`` is the prompt or any other text.

    Each distinct text is embedded once for a call, a fixed text once. Texts longer than the encoder are cut at the
    end, and an empty text has the embedding that the encoder gives it.
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        attribute: str,
        to: str = PROMPT,
        revision: str | None = None,
        device: str | None = None,
    ) -> None:
        found = embedder(name_or_path, attribute=attribute, revision=revision, device=device)
        self._embed: Callable[[Sequence[str]], Any] = found.embed
        self.terms = Terms(identity=lambda: found.identity("similarity", to))
        self._fixed = None if to == PROMPT else self._embed([to])[0]

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        from torch.nn.functional import cosine_similarity

        if not completions:
            return []
        texts = [*completions, *(prompts if self._fixed is None else ())]
        places = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        vectors = self._embed(list(places))
        own = vectors[[places[text] for text in completions]]
        other = self._fixed if self._fixed is not None else vectors[[places[text] for text in prompts]]
        other = other.expand_as(own)
        return [float(value) for value in cosine_similarity(own, other, dim=1).clamp(-1.0, 1.0)]


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> SimilarityScorer:
    """The scorer of ``similarity("path", to="prompt", revision="...")``."""
    return SimilarityScorer(
        place.model(backend.arguments[0]), attribute=attribute.name, to=backend.keywords.get("to", PROMPT),
        revision=backend.keywords.get("revision"), device=place.device,
    )  # fmt: skip
