"""Scores texts by the probability of one label of a Hugging Face sequence classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError, ModelError

if TYPE_CHECKING:
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
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision)
            self._model = AutoModelForSequenceClassification.from_pretrained(
                name_or_path, revision=revision, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(
                f"scorer {attribute}: cannot load a sequence classifier from `{name_or_path}`: "
                f"{str(error).strip().splitlines()[0]}",
                help="give a folder with config.json, model.safetensors and a tokenizer, or a hub id",
            ) from error
        self._model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
        self._device = self._model.device  # with its number: another thread has another current device
        config = self._model.config
        self._sigmoid = config.num_labels == 1 or config.problem_type == "multi_label_classification"
        self._index = _label_index(config.id2label, label, attribute, name_or_path)
        self._batch_size = batch_size
        positions = getattr(config, "max_position_embeddings", None) or 512
        if "roberta" in config.model_type or config.model_type == "camembert":
            positions -= (config.pad_token_id or 0) + 1  # these count positions from pad_token_id + 1
        limits = [self._tokenizer.model_max_length, positions]
        self._max_length = int(min(limits))

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        import torch

        scores: list[float] = []
        for start in range(0, len(completions), self._batch_size):
            texts = list(completions[start : start + self._batch_size])
            encoded = self._tokenizer(
                texts, padding=True, truncation=True, max_length=self._max_length, return_tensors="pt"
            )
            if encoded["input_ids"].shape[1] == 0:  # every text of the batch is empty and no token is added
                encoded = self._tokenizer([" "] * len(texts), return_tensors="pt")
            with torch.inference_mode():
                logits = self._model(**encoded.to(self._device)).logits.float()
            probabilities = torch.sigmoid(logits) if self._sigmoid else torch.softmax(logits, dim=-1)
            scores.extend(probabilities[:, self._index].tolist())
        return scores


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> ClassifierScorer:
    """The scorer of `classifier("MODEL", label="LABEL", revision="COMMIT")`."""
    return ClassifierScorer(
        place.model(backend.arguments[0]),
        label=backend.keywords.get("label"),
        attribute=attribute.name,
        revision=backend.keywords.get("revision"),
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
