"""Models and tokenizers from a folder or a hub id, with errors that name the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from constraintlang_runtime.errors import ModelError
from constraintlang_runtime.missing_paths import no_model


def load_tokenizer(name_or_path: str) -> Any:
    """The tokenizer beside a model."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name_or_path)
    except (OSError, ValueError, KeyError) as error:
        raise _missing("tokenizer", name_or_path, error) from error


def load_model(
    name_or_path: str, *, device: str | None = None, tokenizer: Any = None, dtype: str | None = None
) -> Any:
    """A causal LM in its stored precision, or in ``dtype``; weights from safetensors, no remote code.

    Raises: ModelError when it cannot be loaded, is not causal, or has fewer tokens than the tokenizer.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from constraintlang_runtime.mishaps import not_finite
    from constraintlang_runtime.model_checks import require_causal

    try:
        model = AutoModelForCausalLM.from_pretrained(
            name_or_path, use_safetensors=True, dtype="auto" if dtype is None else getattr(torch, dtype)
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _missing("causal language model", name_or_path, error) from error
    broken = not_finite(dict(model.named_parameters()))
    if broken is not None:
        raise ModelError(
            f"the weights of `{name_or_path}` hold NaN or infinities, first in `{broken}`",
            help="the run that made it diverged, or the file is damaged; use another model",
        )
    vocab = model.get_input_embeddings().weight.shape[0]
    if tokenizer is not None and len(tokenizer) > vocab:
        raise ModelError(
            f"the tokenizer of `{name_or_path}` has {len(tokenizer)} tokens, its model {vocab}",
            help="use the tokenizer that belongs to the model, or resize its embeddings",
        )
    model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    require_causal(model)
    return model


def _missing(what: str, name_or_path: str, error: Exception) -> ModelError:
    path = Path(name_or_path)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if path.is_dir():
        found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        return ModelError(
            f"cannot load a {what} from `{name_or_path}`: {reason}",
            help=f"the folder holds {found}; it needs config.json, model.safetensors and the tokenizer's files",
        )
    return no_model(name_or_path, what, reason)
