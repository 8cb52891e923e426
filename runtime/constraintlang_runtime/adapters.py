"""LoRA adapters from the run's settings; the base model stays as it is."""

from __future__ import annotations

from typing import Any

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.model_names import commit_of, split_revision
from constraintlang_runtime.sampling import seeded
from constraintlang_runtime.settings import ConstraintSettings


def with_adapter(model: Any, settings: ConstraintSettings, seed: int, name: str | None = None) -> Any:
    """The model with a fresh adapter, drawn from ``seed``; the model itself when the settings ask for none.

    The adapter of a model of the hub keeps the commit of that, by whose ``name`` it was loaded.
    Raises: ConfigError for modules that the model does not have.
    """
    if settings.lora_r == 0:
        return model
    from peft import LoraConfig, get_peft_model

    base, revision = split_revision(name or "")
    modules = [name.strip() for name in settings.lora_target_modules.split(",") if name.strip()]
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha or 2 * settings.lora_r,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear" if modules == ["all-linear"] else modules,
    )
    try:
        with seeded(seed):
            return get_peft_model(model, config, revision=commit_of(base, revision) or revision)
    except ValueError as error:
        linear = sorted(
            {name.rpartition(".")[2] for name, m in model.named_modules() if "Linear" in type(m).__name__}
        )
        raise ConfigError(
            f"lora_target_modules: {str(error).splitlines()[0]}",
            help=f"the model's linear modules are {', '.join(linear)}; or write all-linear",
        ) from error
