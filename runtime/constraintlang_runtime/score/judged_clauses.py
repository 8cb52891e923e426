"""Which clauses of a policy texts alone decide, and why the others are left out."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.attributes import attributes_needed, parts_needed
from constraintlang_compiler.measurements import reads_base_model
from constraintlang_runtime.errors import ConfigError


def decided_by_texts(policy: CompiledPolicy) -> tuple[CompiledPolicy, list[dict[str, str]]]:
    """The policy with the clauses that texts decide and the attributes that these read; the others, with the reason.

    Raises: ConfigError when no clause is left.
    """
    kept, left = [], []
    for clause in policy.ir.clauses:
        reason = None
        if clause.kind == "utility":
            reason = "it is about a model's loss on rows"
        elif reads_base_model(clause):
            reason = "it compares with what the base model writes"
        elif "tokens" in parts_needed([clause]):
            reason = "it speaks of tokens, and texts have none"
        if reason is None:
            kept.append(clause)
        else:
            left.append({"clause": clause.name, "reason": reason, "strength": clause.strength})
    if not kept:
        if not left:
            raise ConfigError(
                "the policy has no statement", help="write a statement, for example `toxicity < 0.1`"
            )
        raise ConfigError(
            f"texts decide no clause of the policy: `{left[0]['clause']}`, {left[0]['reason']}",
            help="verify it with `constraintc eval`, which has the model",
        )
    needed = {key.removesuffix("@base") for key in attributes_needed(kept)}
    needed |= {key.removesuffix("@base") for keys in parts_needed(kept).values() for key in keys}
    attributes = tuple(one for one in policy.ir.attributes if one.name in needed)
    ir = structs.replace(policy.ir, clauses=tuple(kept), attributes=attributes)
    return replace(policy, ir=ir), left
