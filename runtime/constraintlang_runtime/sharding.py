"""What may divide a model's weights over processes: FSDP2, as far as this release reads it; the refusal of the rest."""

from __future__ import annotations

import os
from typing import Any

from constraintlang_runtime.errors import ConfigError

ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}  # as `accelerate launch` tells its processes
SETTINGS = {"deepspeed": "DeepSpeed", "parallelism_config": "a parallelism configuration"}
INSTEAD = (
    "use FSDP2 (fsdp: true, or `accelerate launch` with fsdp_version: 2), DDP (torchrun, or `accelerate launch "
    "--multi_gpu`), --lora_r for a model whose training state is too large, --gradient_checkpointing for activations"
)


def _is_set(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")


def is_fsdp(arguments: Any) -> bool:
    """Whether training arguments, or the launcher, ask for FSDP."""
    return bool(getattr(arguments, "fsdp", None)) or _is_set("ACCELERATE_USE_FSDP")


def require_known_engine(arguments: Any) -> None:
    """Raise ConfigError for an engine that divides weights in a way that the reference model is not read under."""
    asked = {f"`{name}`": engine for name, engine in SETTINGS.items() if getattr(arguments, name, None)}
    asked |= {f"`accelerate launch` ({name})": engine for name, engine in ENGINES.items() if _is_set(name)}
    for where, engine in asked.items():
        raise ConfigError(
            f"{where} asks for {engine}, under which the reference model is not read: the result would be wrong",
            help=INSTEAD,
        )


def require_whole_weights(arguments: Any) -> None:
    """Raise ConfigError for every engine that divides weights, FSDP2 included: for losses in a trainer of others."""
    require_known_engine(arguments)
    if is_fsdp(arguments):
        raise ConfigError(
            "FSDP: another trainer's passes of divided weights cannot be joined by the reference model's",
            help="use `constraintc train` or ConstraintTrainer, which know FSDP2, or DDP",
        )


def check_fsdp(arguments: Any) -> None:
    """Set what this release needs of FSDP2 in checked training arguments, or in the launcher's words.

    Every process reads the whole model into the memory of the processor, because adapters and the start model are
    recorded before weights are divided; checkpoints are whole, in safetensors.
    Raises: ConfigError for FSDP1, offloading, and settings of ours that need whole weights all the time.
    """
    if not is_fsdp(arguments):
        return
    own = getattr(arguments, "fsdp_plugin_args", None)
    version = os.environ.get("FSDP_VERSION", "1") if own is None else own.get("fsdp_version", 1)
    offloads = _is_set("FSDP_OFFLOAD_PARAMS") if own is None else bool(own.get("cpu_offload"))
    problem = None
    if int(version) != 2:
        problem = f"version {version} of FSDP keeps weights in a form that the reference model cannot take the place of"
    elif offloads:
        problem = "weights that are offloaded to the processor are not gathered where samples are drawn"
    elif arguments.schedule == "parallel":
        problem = "the lanes of `schedule: parallel` need whole weights"
    elif arguments.auxiliary == "adapter":
        problem = "`auxiliary: adapter` changes layers of the reference model, which are divided"
    elif arguments.sampler_url is not None:
        problem = "`sampler_url` gives a server whole weights, which no process has"
    elif arguments.torch_compile:
        problem = "`torch_compile`: the reference model cannot take the place of a compiled one"
    if problem is not None:
        raise ConfigError(f"FSDP: {problem}", help="change that setting, or use DDP")
    if own is not None:
        own |= {"cpu_ram_efficient_loading": False, "state_dict_type": "FULL_STATE_DICT"}
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    os.environ["FSDP_STATE_DICT_TYPE"] = "FULL_STATE_DICT"
