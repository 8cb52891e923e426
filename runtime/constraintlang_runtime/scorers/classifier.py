"""Scores texts by the probability of one label of a Hugging Face sequence classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.hf_model import load_scoring_model

if TYPE_CHECKING:
    from torch import Tensor

    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place


class ClassifierScorer:
    """P(label | text) of a sequence classifier from a local folder or a hub id.

    Softmax over the labels, or a sigmoid where the model is multi-label or has one output. Texts longer than the
    classifier's limit are cut at the end. Only safetensors weights are loaded, and no remote code.
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        label: str | None,
        attribute: str,
        revision: str | None = None,
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        self._scoring = load_scoring_model(
            name_or_path, "sequence classifier", attribute=attribute, revision=revision, device=device
        )
        config = self._scoring.model.config
        self._sigmoid = config.num_labels == 1 or config.problem_type == "multi_label_classification"
        self._index = _label_index(config.id2label, label, attribute, name_or_path)
        self._batch_size = batch_size
        self.terms = self._scoring.terms("classifier", self._index, self._sigmoid)

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        encodings = [self._scoring.encode(text) for text in completions]
        found = self._scoring.map(encodings, self._probability, batch_size=self._batch_size)
        return [float(value) for value in found]

    def _probability(self, outputs: Any, mask: Tensor) -> Tensor:
        logits = outputs.logits.float()
        probabilities = logits.sigmoid() if self._sigmoid else logits.softmax(-1)
        return probabilities[:, self._index]


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> ClassifierScorer:
    """The scorer of `classifier("MODEL", label="LABEL", revision="COMMIT")`."""
    return ClassifierScorer(
        place.model(backend.arguments[0]),
        label=backend.keywords.get("label"),
        attribute=attribute.name,
        revision=backend.keywords.get("revision"),
        device=place.device,
    )


def _label_index(id2label: dict[int, str], label: str | None, attribute: str, source: str) -> int:
    """The output to read; an ambiguous choice is an error that lists the labels."""
    names = {str(name).casefold(): int(index) for index, name in id2label.items()}
    listing = ", ".join(str(name) for name in id2label.values())
    if label is not None:
        if label.casefold() in names:
            return names[label.casefold()]
        if label.isdigit() and int(label) in {int(i) for i in id2label}:
            return int(label)
        raise ConfigError(
            f"scorer {attribute}: `{source}` has no label `{label}`", help=f"its labels are {listing}"
        )
    if len(names) == 1:
        return 0
    if attribute.casefold() in names:
        return names[attribute.casefold()]
    raise ConfigError(
        f"scorer {attribute}: `{source}` has {len(names)} labels ({listing}) and none is named",
        help=f"write --scorer {attribute}={source}#LABEL with one of them",
    )
