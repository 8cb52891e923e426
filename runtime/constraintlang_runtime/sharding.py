"""What divides a model's weights over processes, and the refusal of it: a run under it would end in other weights.

Under FSDP2 a parameter is a shard that every pass gathers from storage of its own. A reference model put in the
student's place is not read then: on two CPU processes with ``fully_shard`` the anchor gave the student's logits. And
processes that sample different numbers of batches would wait for each other's gathers.
"""

from __future__ import annotations

import os
from typing import Any

from constraintlang_runtime.errors import ConfigError

ENGINES = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}  # as `accelerate launch` tells its processes
SETTINGS = {"fsdp": "FSDP", "deepspeed": "DeepSpeed", "parallelism_config": "a parallelism configuration"}


def require_whole_weights(arguments: Any) -> None:
    """Raise ConfigError when training arguments, or the launcher, ask for divided weights."""
    asked = {f"`{name}`": engine for name, engine in SETTINGS.items() if getattr(arguments, name, None)}
    asked |= {
        f"`accelerate launch` ({name})": engine
        for name, engine in ENGINES.items()
        if os.environ.get(name, "false").lower() in ("true", "1")
    }
    for where, engine in asked.items():
        raise ConfigError(
            f"{where} asks for {engine}, under which the reference model is not read: the result would be wrong",
            help="use DDP (torchrun, or `accelerate launch --multi_gpu`), --lora_r for a model whose training state is "
            "too large, --gradient_checkpointing for activations",
        )
