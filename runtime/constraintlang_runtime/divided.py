"""A model whose weights FSDP2 divides over the processes: gathered for a while, exchanged shard by shard.

Every pass of such a model gathers its weights layer by layer, in all processes at once. What a process does alone, or
more often than the others, therefore happens under ``whole_weights``, where a pass gathers nothing; and where
gathering everything would take too much memory, passes are made equal in number (``most``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from constraintlang_runtime.ranks import rank_and_size


def is_divided(model: Any) -> bool:
    """Whether FSDP2 has divided the weights of a model (``fully_shard``)."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


def undivided_type(module: Any) -> type:
    """The class of a module before ``fully_shard`` put one of its own in front."""
    found = type(module)
    return found.__mro__[2] if is_divided(module) else found


def is_shard(tensor: Tensor) -> bool:
    """Whether a tensor is one process's part of a larger one."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory; the tensor itself where it is whole."""
    return tensor.detach().to_local() if is_shard(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together of all processes' parts; a call of all processes."""
    return tensor.detach().full_tensor() if is_shard(tensor) else tensor  # type: ignore[attr-defined]


def divided_as(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor, the same in all processes, divided as ``pattern`` is; moved to its device where that is whole."""
    moved = tensor.to(device=pattern.device, dtype=pattern.dtype)
    if not is_shard(pattern) or is_shard(tensor):
        return moved
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = pattern.device_mesh, pattern.placements  # type: ignore[attr-defined]
    return distribute_tensor(moved, mesh, placements, src_data_rank=None)


def _units(model: Any) -> list[Any]:
    """The parts of a divided model that are gathered together."""
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def release(model: Any) -> None:
    """Let go of everything that is gathered; the next pass gathers it anew from the shards."""
    for unit in _units(model):
        unit.reshard()


def shards(model: Any) -> dict[str, Tensor]:
    """The parameters of a model by name, where they are divided as shards; what is gathered is let go of."""
    if is_divided(model):
        release(model)
    return dict(model.named_parameters())


@contextlib.contextmanager
def whole_weights(model: Any) -> Iterator[None]:
    """All weights whole in every process for the block, in which passes need no other process.

    A call of all processes; nothing for a model that is not divided. Memory: the whole model in the precision of its
    passes. The block has no backward pass.
    """
    if not is_divided(model):
        yield
        return
    _start(model)
    units = _units(model)
    kept = [unit for unit in units if not _releases(unit)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        release(model)
        for unit in units:
            if not any(unit is one for one in kept):
                unit.set_reshard_after_forward(True, recurse=False)


def _releases(unit: Any) -> bool:
    """Whether a part lets go of its weights after a forward pass."""
    state = unit._get_fsdp_state()  # torch has no public way to read what `set_reshard_after_forward` sets
    groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]
    return any(group is not None and group._reshard_after_forward for group in groups)


def _start(model: Any) -> None:
    """FSDP2 finds its root in the first pass, which has to be one of the whole model."""
    if model._get_fsdp_state()._is_root is None:
        with torch.no_grad():
            model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=next(model.parameters()).device))
        release(model)


@contextlib.contextmanager
def exchanged(model: Any, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The shards of ``weights`` in the place of the model's for the block, and the model's in theirs.

    Contents change places; memory stays where it is, because passes gather from it. What autograd saved of the model
    is gathered anew in its backward pass, which has to come after the block.
    """
    parameters = shards(model)
    pairs = [(own_part(parameters[name]), own_part(weight)) for name, weight in weights.items()]

    def swap() -> None:
        release(model)
        torch.clear_autocast_cache()  # it is keyed by the parameter, not by what it holds
        _wait_for_streams(pairs)
        with torch.no_grad():
            for own, other in pairs:
                kept = own.clone()
                own.copy_(other)
                other.copy_(kept)
        _wait_for_streams(pairs)

    swap()
    try:
        yield
    finally:
        swap()


def _wait_for_streams(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """FSDP2 gathers in streams of its own, which in a backward pass do not wait for what was written here."""
    if pairs and pairs[0][0].is_cuda:
        torch.cuda.synchronize(pairs[0][0].device)


def most(own: int, device: torch.device) -> int:
    """The largest of a number over the processes."""
    if rank_and_size()[1] == 1:
        return own
    found = torch.tensor([own], device=device)
    torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
    return int(found)
