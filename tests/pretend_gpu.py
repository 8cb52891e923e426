"""A pretended GPU: tensors that say so, hold their numbers on the host, and refuse to meet its tensors as CUDA would.

For a process of its own: it replaces a few functions of torch for good. Nothing is computed otherwise than on a CPU.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
INDEXING = {
    aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default,
    aten._unsafe_index.Tensor, aten._unsafe_index_put.default,
}  # fmt: skip
COPYING = {
    aten._to_copy.default, aten.copy_.default, aten.copy.default, aten._local_scalar_dense.default,
    *(getattr(aten.to, name) for name in aten.to.overloads()),
}  # fmt: skip


class MixedDevices(RuntimeError):
    """An operation on tensors of two devices, or a look into the memory of a device."""


class Backend(backend_registration._DummyBackendModule):  # type: ignore[misc]
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.zeros(8, dtype=torch.uint8)

    def set_rng_state(self, state: Any, device: Any = None) -> None:
        """Draws come from the host's generators."""

    def manual_seed(self, seed: int) -> None:
        """Draws come from the host's generators."""

    def device(self, device: Any) -> Any:
        return contextlib.nullcontext()


backend_registration._setup_privateuseone_for_python_backend(rename="gpu", backend_module=Backend())
DEVICE = torch.device("gpu:0")


class OnDevice(torch.Tensor):
    """A tensor of the device; ``held`` has its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({self.held})"

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise MixedDevices("a tensor of the device was taken for a numpy array")

    __array__ = numpy

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Watch(TorchDispatchMode):
    """Looks at every operation, those that make tensors too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operation, on the device where its arguments are; MixedDevices where they are on two."""
    given = tree_leaves((args, kwargs))
    tensors = [value for value in given if isinstance(value, torch.Tensor)]
    named = next((value for value in given if isinstance(value, torch.device)), None)
    ours = any(isinstance(tensor, OnDevice) for tensor in tensors)
    if ours and func not in COPYING:
        of_host = [t for t in tensors if not isinstance(t, OnDevice)]
        # a number without dimensions goes anywhere, and indices of the host go into tensors of a device
        may = func in INDEXING and isinstance(args[0], OnDevice)
        may = may and (len(args) < 3 or isinstance(args[2], OnDevice) or args[2].dim() == 0)
        written = func._schema.is_mutable and tensors and not isinstance(tensors[0], OnDevice)
        if written or (any(t.dim() for t in of_host) and not may):
            raise MixedDevices(f"{func} of {[(type(t).__name__, tuple(t.shape)) for t in tensors]}")
    host = torch.device("cpu")
    plain = lambda x: x.held if isinstance(x, OnDevice) else host if isinstance(x, torch.device) else x  # noqa: E731
    own_kwargs = tree_map(plain, kwargs)
    if own_kwargs.get("device") is not None:
        own_kwargs["device"] = host
    found = func(*tree_map(plain, args), **own_kwargs)
    if func is aten._local_scalar_dense.default:
        return found
    if func in (aten.copy_.default, aten.set_.source_Tensor):
        to_device = isinstance(args[0], OnDevice)
    else:
        to_device = ours if named is None else named.type == DEVICE.type
    if not to_device:
        return found
    wrapped = tree_map(
        lambda x: OnDevice(x) if isinstance(x, torch.Tensor) and not isinstance(x, OnDevice) else x, found
    )
    if named is not None or func in COPYING - {aten.copy_.default}:
        return wrapped
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def moved(module: torch.nn.Module, to_device: bool) -> torch.nn.Module:
    """A module with its tensors on the device, or back; tied parameters stay tied."""
    done: dict[int, tuple[torch.nn.Parameter, torch.nn.Parameter]] = {}  # by what it was, which is kept alive

    def of(tensor: torch.Tensor) -> torch.Tensor:
        held = tensor.held if isinstance(tensor, OnDevice) else tensor
        return OnDevice(held) if to_device else held

    for part in module.modules():
        for name, one in part._parameters.items():
            if one is not None:
                if id(one) not in done:
                    done[id(one)] = one, torch.nn.Parameter(of(one.data), requires_grad=one.requires_grad)
                part._parameters[name] = done[id(one)][1]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = of(buffer)
    return module


@contextlib.contextmanager
def pretended() -> Any:
    """Within the block `gpu:0` is a device."""
    own_tensor, own_to, own_generator = torch.tensor, torch.nn.Module.to, torch.Generator

    def tensor(data: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> torch.Tensor:
        if isinstance(data, OnDevice):
            return data.clone() if dtype is None else data.to(dtype)
        made = own_tensor(data, dtype=dtype)
        return OnDevice(made) if device is not None and torch.device(device).type == DEVICE.type else made

    def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> torch.Tensor:
        if isinstance(data, torch.Tensor):
            return data.to(device=device or data.device, dtype=dtype or data.dtype)
        return tensor(data, dtype=dtype, device=device)

    def to(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        places = [x for x in (*args, *kwargs.values()) if isinstance(x, str | torch.device)]
        return (
            moved(self, torch.device(places[0]).type == DEVICE.type)
            if places
            else own_to(self, *args, **kwargs)
        )

    changed: Any = torch
    changed.tensor, changed.as_tensor = tensor, as_tensor
    changed.Tensor.new_tensor = lambda self, data, dtype=None, device=None, requires_grad=False: tensor(
        data, dtype=dtype or self.dtype, device=device or self.device
    )
    changed.Generator = lambda device="cpu": own_generator("cpu")
    changed.nn.Module.to = to
    changed.nn.Module.cpu = lambda self: to(self, "cpu")
    with Watch():
        yield
