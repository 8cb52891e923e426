"""What of a model is trained: all weights, or the adapters that the settings ask for; and its optimizer's state."""

from __future__ import annotations

from dataclasses import replace

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.estimate.model_shape import ModelShape, bytes_of
from constraintlang_runtime.estimate.work import Student
from constraintlang_runtime.estimate.workload import Training
from constraintlang_runtime.settings import ConstraintSettings

ADAPTER_BYTES = 4  # peft keeps adapters of a half-precision model in float32
# Bytes of state per trained weight, as a multiple of the weight's own bytes, or as they are.
STATES = {"adamw_torch": 2.0, "adamw_torch_fused": 2.0, "sgd": 0.0}
STATES_FIXED = {"adamw_bnb_8bit": 2.0, "adamw_8bit": 2.0, "paged_adamw_8bit": 2.0}
# Names of a module in other families for the matrices of `linears_of`.
FUSED = {
    "c_attn": ("q_proj", "k_proj", "v_proj"),
    "query_key_value": ("q_proj", "k_proj", "v_proj"),
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "c_fc": ("up_proj",),
    "dense_h_to_4h": ("up_proj",),
    "dense_4h_to_h": ("down_proj",),
    "dense": ("o_proj",),
}


def adapter_weights(shape: ModelShape, rank: int, modules: str) -> int:
    """Weights of LoRA adapters: rank · (inputs + outputs) of every matrix that gets one, in every layer.

    Raises: ConfigError for a module that the estimate does not know.
    """
    names = {name for name, _, _ in shape.linears}
    wanted = {name.strip() for name in modules.split(",") if name.strip()}
    unknown = wanted - names - set(FUSED) - {"all-linear"}
    if unknown or not wanted:
        raise ConfigError(
            f"lora_target_modules: no sizes are known for {', '.join(sorted(unknown)) or 'an empty list'}",
            help=f"write all-linear, or some of {', '.join([*sorted(names), *FUSED])}",
        )
    if "all-linear" in wanted:
        wanted = names
    chosen = {own for name in wanted for own in FUSED.get(name, (name,))}
    sizes = [(inputs, outputs) for name, inputs, outputs in shape.linears if name in chosen]
    return shape.layers * sum(rank * (inputs + outputs) for inputs, outputs in sizes)


def student_of(shape: ModelShape, config: ConstraintSettings, training: Training) -> Student:
    """The model as the settings train it."""
    if config.held_in is not None:
        shape = replace(
            shape, weight_bytes=bytes_of(config.held_in, "train_dtype"), weight_type=config.held_in
        )
    adapter = adapter_weights(shape, config.lora_r, config.lora_target_modules) if config.lora_r else 0
    trained, size = (adapter, ADAPTER_BYTES) if adapter else (shape.parameters, shape.weight_bytes)
    if training.optimizer not in STATES | STATES_FIXED:
        known = ", ".join(sorted(STATES | STATES_FIXED))
        raise ConfigError(
            f"optim: the state of `{training.optimizer}` is not known here; known: {known}",
            help="estimate with the nearest of them",
        )
    states = STATES_FIXED.get(training.optimizer, STATES.get(training.optimizer, 0.0) * size)
    element = 2 if training.half else shape.weight_bytes
    return Student(shape, trained, size, adapter, element, states, training.checkpointing)
