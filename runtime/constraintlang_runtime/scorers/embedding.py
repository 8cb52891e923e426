"""Embeddings of texts: encoder and pooling as a sentence-transformers folder describes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError, ModelError
from constraintlang_runtime.model_names import commit_of, split_revision
from constraintlang_runtime.scorers.hf_model import load_scoring_model
from constraintlang_runtime.scorers.model_identity import ModelFiles

if TYPE_CHECKING:
    from torch import Tensor

POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
EXTRA = "similarity"
Embed = Callable[[Sequence[str]], "Tensor"]


@dataclass(frozen=True)
class Embedder:
    """``embed`` takes n texts to their embeddings [n, H]; ``files`` and ``how`` are what these follow from."""

    embed: Embed
    files: ModelFiles
    how: tuple[Any, ...]

    def identity(self, kind: str, *told: Any) -> str | None:
        """What scores from these embeddings follow from."""
        return self.files.identity(kind, *self.how, *told)


@dataclass(frozen=True)
class PlainEncoder:
    """A transformer and one pooling, all that most sentence encoders are; a normalisation does not change a cosine."""

    pooling: str
    max_length: int | None
    lower_case: bool


def embedder(name_or_path: str, *, attribute: str, revision: str | None, device: str | None) -> Embedder:
    """What embeds texts.

    A folder whose ``modules.json`` lists a transformer and a pooling by mean, first token or maximum is run here, so
    that its scores do not depend on what else is installed; any other is run by sentence-transformers.
    Raises: ConfigError where that package is needed and absent; ModelError for a model that cannot be loaded.
    """
    if revision is None:
        name_or_path, revision = split_revision(name_or_path)
    plain = _plain_encoder(name_or_path, revision, attribute)
    if plain is None:
        return _by_sentence_transformers(name_or_path, attribute, revision, device)
    scoring = load_scoring_model(
        name_or_path, "text encoder", attribute=attribute, revision=revision, device=device,
        max_length=plain.max_length,
    )  # fmt: skip

    def embed(texts: Sequence[str]) -> Tensor:
        import torch

        encodings = [scoring.encode(text.lower() if plain.lower_case else text) for text in texts]
        return torch.stack(scoring.map(encodings, lambda out, mask: _pooled(out, mask, plain.pooling)))

    where = (scoring.max_length, str(scoring.model.dtype), scoring.model.device.type)
    return Embedder(embed, scoring.files, (*where, asdict(plain)))


def _pooled(outputs: Any, mask: Tensor, pooling: str) -> Tensor:
    """Embeddings [n, H] of hidden states [n, T, H] and their mask [n, T]."""
    states, inside = outputs.last_hidden_state.float(), mask[:, :, None].bool()
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        return states.masked_fill(~inside, float("-inf")).amax(1)
    return states.masked_fill(~inside, 0.0).sum(1) / inside.sum(1)


def _plain_encoder(name_or_path: str, revision: str | None, attribute: str) -> PlainEncoder | None:
    """What the files of a folder or repository say, where it is nothing but encoder and pooling."""
    modules = _json(name_or_path, "modules.json", revision, attribute)
    if not isinstance(modules, list):
        return None
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or modules[0].get(
        "path"
    ):
        return None
    pooling = _json(name_or_path, f"{modules[1]['path']}/config.json", revision, attribute) or {}
    chosen = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    if isinstance(pooling.get("pooling_mode"), str):
        chosen = [f"pooling_mode_{pooling['pooling_mode']}"]
    named = {**POOLINGS, **{f"pooling_mode_{name}": name for name in POOLINGS.values()}}
    prompts = _json(name_or_path, "config_sentence_transformers.json", revision, attribute) or {}
    if len(chosen) != 1 or chosen[0] not in named or prompts.get("default_prompt_name"):
        return None
    own = _json(name_or_path, "sentence_bert_config.json", revision, attribute) or {}
    return PlainEncoder(named[chosen[0]], own.get("max_seq_length"), bool(own.get("do_lower_case")))


def _json(name_or_path: str, file: str, revision: str | None, attribute: str) -> Any:
    """A JSON file beside a model; None where there is none."""
    from transformers.utils import cached_file

    try:
        path = cached_file(
            name_or_path, file, revision=revision, _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )  # fmt: skip
        return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"scorer {attribute}: cannot read `{file}` of `{name_or_path}`: {error}",
            help="give a folder of sentence-transformers, or a hub id",
        ) from error


def _by_sentence_transformers(
    name_or_path: str, attribute: str, revision: str | None, device: str | None
) -> Embedder:
    files = ModelFiles.of(name_or_path, revision=revision)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(
            f"scorer {attribute}: `{name_or_path}` is more than an encoder with a pooling in `modules.json`, and "
            "sentence-transformers is not installed",
            help=f"pip install 'constraintlang[{EXTRA}]', or name a model with modules.json and 1_Pooling/config.json",
        ) from error
    if Path(name_or_path).is_dir() and not (Path(name_or_path) / "modules.json").is_file():
        raise ConfigError(
            f"scorer {attribute}: `{name_or_path}` has no modules.json, so nothing says how its tokens are pooled",
            help="name a model that was trained for sentence embeddings",
        )
    try:
        model = SentenceTransformer(
            name_or_path, revision=revision, device=device, trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"scorer {attribute}: cannot load a text encoder from `{name_or_path}`: {error}",
            help="give a folder of sentence-transformers, or a hub id",
        ) from error

    if not files.stamps:
        commit = commit_of(name_or_path, revision)
        files = ModelFiles.of(name_or_path, revision=revision, commit=commit)

    def embed(texts: Sequence[str]) -> Tensor:
        return model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False).float().cpu()

    return Embedder(embed, files, ("sentence-transformers", str(model.device.type)))
