"""Scores texts by the probability that they entail a sentence, under a natural language inference model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.hf_model import load_scoring_model

if TYPE_CHECKING:
    from torch import Tensor

    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place


class NliScorer:
    """P(entailment | text, hypothesis): softmax over all labels of the model, the text as the premise.

    Texts longer than the model's limit are cut at the end, the hypothesis never is. An empty text is an empty premise.
    Raises: ConfigError without a label of entailment in the model's ``id2label``, or when the hypothesis leaves no
    room for a text.
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        hypothesis: str,
        attribute: str,
        revision: str | None = None,
        batch_size: int = 32,
        device: str | None = None,
    ) -> None:
        self._scoring = load_scoring_model(
            name_or_path, "sequence classifier", attribute=attribute, revision=revision, device=device
        )
        self._index = entailment_index(self._scoring.model.config.id2label, attribute, name_or_path)
        self._hypothesis = hypothesis
        self._batch_size = batch_size
        self.terms = self._scoring.terms("nli", hypothesis, self._index)
        used = len(self._scoring.tokenizer("", hypothesis)["input_ids"])
        if used >= self._scoring.max_length:
            raise ConfigError(
                f"scorer {attribute}: the hypothesis takes {used} tokens of the {self._scoring.max_length} that "
                f"`{name_or_path}` reads",
                help="write a shorter sentence",
            )

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        encodings = [self._scoring.encode(text, self._hypothesis, cut="only_first") for text in completions]
        found = self._scoring.map(encodings, self._probability, batch_size=self._batch_size)
        return [float(value) for value in found]

    def _probability(self, outputs: Any, mask: Tensor) -> Tensor:
        return outputs.logits.float().softmax(-1)[:, self._index]


def entailment_index(id2label: dict[int, str], attribute: str, source: str) -> int:
    """The output whose label says entailment: `entailment` in any case, or one that begins with `entail`."""
    names = {int(index): str(name).casefold() for index, name in id2label.items()}
    exact = [index for index, name in names.items() if name == "entailment"]
    near = exact or [index for index, name in names.items() if name.startswith("entail")]
    if len(near) == 1:
        return near[0]
    listing = ", ".join(str(name) for name in id2label.values())
    raise ConfigError(
        f"scorer {attribute}: `{source}` has {'several labels' if near else 'no label'} of entailment; its labels are "
        f"{listing}",
        help="name a model of natural language inference, or its labels in `id2label` of config.json",
    )


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> NliScorer:
    """The scorer of ``nli("path", hypothesis="...", revision="...")``."""
    hypothesis = backend.keywords.get("hypothesis", "").strip()
    if not hypothesis:
        raise ConfigError(
            f"attribute `{attribute.name}`: its backend `nli` has no hypothesis",
            help='write the sentence: nli("path", hypothesis="The text gives medical advice.")',
        )
    return NliScorer(
        place.model(backend.arguments[0]), hypothesis=hypothesis, attribute=attribute.name,
        revision=backend.keywords.get("revision"), device=place.device,
    )  # fmt: skip
