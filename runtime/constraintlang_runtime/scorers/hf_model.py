"""Transformers models that score: loaded from safetensors without remote code, and run on texts of like length."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from constraintlang_runtime.errors import ModelError
from constraintlang_runtime.missing_paths import no_model
from constraintlang_runtime.model_names import commit_of, split_revision
from constraintlang_runtime.scorers.model_identity import ModelFiles
from constraintlang_runtime.scorers.protocol import Terms

if TYPE_CHECKING:
    from torch import Tensor

What = Literal["sequence classifier", "text encoder", "causal language model"]
CLASSES: dict[What, str] = {
    "sequence classifier": "AutoModelForSequenceClassification",
    "text encoder": "AutoModel",
    "causal language model": "AutoModelForCausalLM",
}
UNUSED_WEIGHTS = ("pooler.",)  # of an encoder: what it pools with is never read
FALLBACK_LENGTH = 512
BATCH_SIZE = 64

Encoding = dict[str, list[int]]


@dataclass(frozen=True)
class ScoringModel:
    """A model in evaluation mode with its tokenizer; ``max_length`` is in tokens."""

    model: Any
    tokenizer: Any
    source: str
    attribute: str
    max_length: int
    files: ModelFiles

    def terms(self, kind: str, *told: Any) -> Terms:
        """The terms of a scorer that was ``told`` this besides: its scores are kept by the content of the files."""
        model = self.model
        where = [self.max_length, str(model.dtype), model.device.type]
        return Terms(identity=lambda: self.files.identity(kind, *where, *told))

    def encode(self, text: str, pair: str | None = None, *, cut: str = "longest_first") -> Encoding:
        """Token ids of one text or pair, cut at the model's length; at least one token, so that empty texts score."""
        found = self.tokenizer(text, pair, truncation=cut, max_length=self.max_length)
        return self.not_empty({key: list(values) for key, values in found.items()})

    def not_empty(self, encoding: Encoding) -> Encoding:
        """The encoding; where a tokenizer makes nothing of an empty text, that of a space, else a special token."""
        if encoding["input_ids"]:
            return encoding
        known = self.tokenizer
        ids = list(known(" ", add_special_tokens=False)["input_ids"])
        named = (known.bos_token_id, known.eos_token_id, known.unk_token_id, 0)
        ids = ids or [next(i for i in named if i is not None)]
        filled = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        return {key: filled.get(key, [0] * len(ids)) for key in encoding}

    def map(
        self,
        encodings: Sequence[Encoding],
        read: Callable[[Any, Tensor], Tensor],
        *,
        batch_size: int = BATCH_SIZE,
    ) -> list[Any]:
        """``read(outputs, attention mask)`` of every encoding, in order; texts of like length run together.

        Without a pad token texts run one by one. Padding is on the right, so that a text scores as it does alone.
        """
        import torch

        order = sorted(range(len(encodings)), key=lambda i: len(encodings[i]["input_ids"]))
        step = 1 if self.tokenizer.pad_token_id is None else batch_size
        results: list[Any] = [None] * len(encodings)
        with torch.inference_mode():
            for start in range(0, len(order), step):
                chosen = order[start : start + step]
                batch = self._padded([encodings[i] for i in chosen])
                found = read(self.model(**batch), batch["attention_mask"]).float().cpu()
                for index, value in zip(chosen, found, strict=True):
                    results[index] = value
        return results

    def _padded(self, encodings: list[Encoding]) -> dict[str, Tensor]:
        import torch

        width = max(len(e["input_ids"]) for e in encodings)
        fill = {"input_ids": self.tokenizer.pad_token_id or 0}
        return {
            key: torch.tensor(
                [e[key] + [fill.get(key, 0)] * (width - len(e[key])) for e in encodings],
                device=self.model.device,
            )
            for key in encodings[0]
        }


def load_scoring_model(
    name_or_path: str,
    what: What,
    *,
    attribute: str,
    revision: str | None = None,
    device: str | None = None,
    max_length: int | None = None,
) -> ScoringModel:
    """A model and its tokenizer from a folder or a hub id (``split_revision``); ``max_length`` lowers the model's own.

    Raises: ModelError when it cannot be loaded or its file lacks weights, which transformers would draw at random.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    where, given = f"scorer {attribute}", name_or_path
    if revision is None:
        name_or_path, revision = split_revision(given)
    files = ModelFiles.of(name_or_path, revision=revision)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            name_or_path, revision=revision, trust_remote_code=False
        )
        model, loaded = getattr(transformers, CLASSES[what]).from_pretrained(
            name_or_path, revision=revision, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if not Path(name_or_path).is_dir():
            raise no_model(given, what, reason, where) from error
        raise ModelError(
            f"{where}: cannot load a {what} from `{name_or_path}`: {reason}",
            help="give a folder with config.json, model.safetensors and a tokenizer, or a hub id",
        ) from error
    lacking = sorted(key for key in loaded["missing_keys"] if not key.startswith(UNUSED_WEIGHTS))
    if lacking:
        raise ModelError(
            f"{where}: `{name_or_path}` is no {what}: it lacks {len(lacking)} weights, first `{lacking[0]}`",
            help="without them the scores would be random; name a model that was trained for this",
        )
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    limit = min(_max_length(model.config, tokenizer), max_length or sys.maxsize)
    if not files.stamps:
        commit = commit_of(name_or_path, revision)
        files = ModelFiles.of(name_or_path, revision=revision, commit=commit)
    return ScoringModel(model, tokenizer, given, attribute, limit, files)


def _max_length(config: Any, tokenizer: Any) -> int:
    """Tokens that a model takes, special tokens included."""
    inner = config.get_text_config()
    positions = getattr(inner, "max_position_embeddings", None) or FALLBACK_LENGTH
    if "roberta" in inner.model_type or inner.model_type in ("camembert", "mpnet"):
        positions -= (inner.pad_token_id or 0) + 1  # these count positions from pad_token_id + 1
    return int(min(tokenizer.model_max_length, positions))
