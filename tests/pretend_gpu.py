"""A pretended GPU: tensors that say so, hold their numbers on the host, and refuse to meet its tensors as CUDA would.

For a process of its own: it replaces a few functions of torch for good. Nothing is computed otherwise than on a CPU.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

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


def is_ours(place: Any) -> bool:
    """Whether a name of a device means the pretended one, which who asks for `cuda` gets."""
    return torch.device(place).type in (DEVICE.type, "cuda")


class Generator(torch.Generator):
    """A generator that draws on the host and knows of which device it is."""

    of_device: dict[int, Generator] = {}  # by what all Python objects of one generator share

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls, "cpu")
        if is_ours(device):
            cls.of_device[made._cdata] = made
        return made


class OnDevice(torch.Tensor):
    """A tensor of the device; ``held`` has its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnDevice:
        with torch.inference_mode(False):  # under it, a wrapper could be no view of a tensor from before
            made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
                layout=held.layout, device=DEVICE, requires_grad=False,
            )  # fmt: skip
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({self.held})"

    @property
    def data(self) -> torch.Tensor:  # type: ignore[override]
        """The numbers without a history; setting it exchanges them, as snapshots of a model do."""
        return OnDevice(self.held)

    @data.setter
    def data(self, other: torch.Tensor) -> None:
        if not isinstance(other, OnDevice):
            raise MixedDevices("a tensor of the device was given the numbers of one of the host")
        self.held = other.held

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise MixedDevices("a tensor of the device was taken for a numpy array")

    __array__ = numpy

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copied: Any = OnDevice(self.held.detach().clone())
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Watch(TorchDispatchMode):
    """Looks at every operation, those that make tensors too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def on_host(value: Any) -> Any:
    """What stands for a value on the host: a tensor of the device or its name, else the value itself."""
    if isinstance(value, OnDevice):
        return value.held
    return torch.device("cpu") if isinstance(value, torch.device) and is_ours(value) else value


def tree_map(change: Any, value: Any) -> Any:
    """Every leaf of nested tuples, lists and dictionaries changed; torch's own takes as long as the operations."""
    if isinstance(value, tuple | list):
        return type(value)([tree_map(change, part) for part in value])
    if isinstance(value, dict):
        return {name: tree_map(change, part) for name, part in value.items()}
    return change(value)


def tree_leaves(value: Any) -> list[Any]:
    """The leaves of nested tuples, lists and dictionaries."""
    found: list[Any] = []
    tree_map(found.append, value)
    return found


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operation, on the device where its arguments are; MixedDevices where they are on two."""
    given = tree_leaves((args, kwargs))
    tensors = [value for value in given if isinstance(value, torch.Tensor)]
    named = next((value for value in given if isinstance(value, torch.device)), None)
    ours = any(isinstance(tensor, OnDevice) for tensor in tensors)
    for generator in (value for value in given if isinstance(value, torch._C.Generator)):
        if (generator._cdata in Generator.of_device) != (ours if named is None else is_ours(named)):
            raise MixedDevices(f"{func} with a generator of another device")
    if ours and func not in COPYING:
        of_host = [t for t in tensors if not isinstance(t, OnDevice)]
        # a number without dimensions goes anywhere, and indices of the host go into tensors of a device
        may = func in INDEXING and isinstance(args[0], OnDevice)
        may = may and (len(args) < 3 or isinstance(args[2], OnDevice) or args[2].dim() == 0)
        written = func._schema.is_mutable and tensors and not isinstance(tensors[0], OnDevice)
        if written or (any(t.dim() for t in of_host) and not may):
            raise MixedDevices(f"{func} of {[(type(t).__name__, tuple(t.shape)) for t in tensors]}")
    found = func(*tree_map(on_host, args), **tree_map(on_host, kwargs))
    if func is aten._local_scalar_dense.default:
        return found
    if func in (aten.copy_.default, aten.set_.source_Tensor):
        to_device = isinstance(args[0], OnDevice)
    else:
        to_device = ours if named is None else is_ours(named)
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
            if one is not None and isinstance(one, OnDevice) != to_device:
                if id(one) not in done:
                    done[id(one)] = one, torch.nn.Parameter(of(one.data), requires_grad=one.requires_grad)
                part._parameters[name] = done[id(one)][1]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = of(buffer)
    return module


@contextlib.contextmanager
def pretended() -> Any:
    """Within the block `gpu:0` is a device, in all threads that start there; torch says that it has CUDA."""
    torch.utils._device._device_constructors()  # remembers torch's own functions, so before they are changed
    own_tensor, own_to, own_run = torch.tensor, torch.nn.Module.to, threading.Thread.run

    def tensor(data: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> torch.Tensor:
        if isinstance(data, OnDevice):
            return data.clone() if dtype is None else data.to(dtype)
        made = own_tensor(data, dtype=dtype)
        return OnDevice(made) if device is not None and is_ours(device) else made

    def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> torch.Tensor:
        if isinstance(data, torch.Tensor):
            return data.to(device=device or data.device, dtype=dtype or data.dtype)
        return tensor(data, dtype=dtype, device=device)

    def to(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        places = [x for x in (*args, *kwargs.values()) if isinstance(x, str | torch.device)]
        return moved(self, is_ours(places[0])) if places else own_to(self, *args, **kwargs)

    def run(self: threading.Thread) -> None:
        with Watch():  # a mode is of one thread
            own_run(self)

    changed: Any = torch
    changed.tensor, changed.as_tensor = tensor, as_tensor
    changed.Tensor.new_tensor = lambda self, data, dtype=None, device=None, requires_grad=False: tensor(
        data, dtype=dtype or self.dtype, device=device or self.device
    )
    changed.Generator = Generator
    changed.nn.Module.to = to
    changed.nn.Module.cpu = lambda self: to(self, "cpu")
    changed.cuda.random.get_rng_state = Backend().get_rng_state
    changed.cuda.random.set_rng_state = Backend().set_rng_state
    threading.Thread.run = run  # type: ignore[method-assign]
    changed.cuda.is_available = lambda: True
    try:
        with Watch():
            yield
    finally:
        threading.Thread.run, changed.cuda.is_available = own_run, lambda: False  # type: ignore[method-assign]
