"""Models and tokenizers from a folder or a hub id, with errors that name the fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from constraintlang_runtime.errors import ConfigError, ModelError
from constraintlang_runtime.missing_paths import no_model
from constraintlang_runtime.model_names import split_revision


def load_tokenizer(name_or_path: str) -> Any:
    """The tokenizer beside a model; the name as of ``load_model``."""
    from transformers import AutoTokenizer

    name, revision = split_revision(name_or_path)
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise _missing("tokenizer", name_or_path, error) from error


def load_model(
    name_or_path: str, *, device: str | None = None, tokenizer: Any = None, dtype: str | None = None,
    attention: str | None = None,
) -> Any:  # fmt: skip
    """A causal LM in its stored precision, or in ``dtype``; weights from safetensors, no remote code.

    ``name_or_path`` is a folder, or an id of the hub, pinned as in ``OWNER/NAME@REVISION``.
    Raises: ModelError when it cannot be loaded, is not causal, or has fewer tokens than the tokenizer.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from constraintlang_runtime.mishaps import not_finite
    from constraintlang_runtime.model_checks import require_causal

    options: dict[str, Any] = {
        "use_safetensors": True, "dtype": "auto" if dtype is None else getattr(torch, dtype),
        **({} if attention is None else {"attn_implementation": attention}),
    }  # fmt: skip
    try:
        model = _from_pretrained(AutoModelForCausalLM, *split_revision(name_or_path), options)
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        if attention is not None and _is_about_attention(error, name_or_path):
            raise ConfigError(
                f"got {attention!r}, which `{name_or_path}` cannot be loaded with: {_first_line(error)}",
                help="install what it needs, or use sdpa",
                parameter="attn_implementation",
            ) from error
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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _from_pretrained(maker: Any, name: str, revision: str | None, options: dict[str, Any]) -> Any:
    """The model, or, of an adapter, the model that it is for with it: of which transformers forgets the revision."""
    from transformers.utils import is_peft_available
    from transformers.utils.peft_utils import find_adapter_config_file

    found = find_adapter_config_file(name, revision=revision) if is_peft_available() else None
    if found is None or (Path(name) / "config.json").exists():
        return maker.from_pretrained(name, revision=revision, **options)
    known = json.loads(Path(found).read_text(encoding="utf-8"))
    model = maker.from_pretrained(known["base_model_name_or_path"], revision=known.get("revision"), **options)
    model.load_adapter(name, adapter_kwargs={"revision": revision})
    return model


def _is_about_attention(error: Exception, name: str) -> bool:
    """Whether transformers refused the attention, and not the model: it says so in words alone."""
    text = str(error).replace(name, "").lower()
    return "no file named" not in text and any(
        word in text for word in ("attn", "attention", "flash", "kernel")
    )


def _missing(what: str, name_or_path: str, error: Exception) -> ModelError:
    path = Path(name_or_path)
    reason = _first_line(error)
    if path.is_dir():
        found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        return ModelError(
            f"cannot load a {what} from `{name_or_path}`: {reason}",
            help=f"the folder holds {found}; it needs config.json, model.safetensors and the tokenizer's files",
        )
    return no_model(name_or_path, what, reason)
