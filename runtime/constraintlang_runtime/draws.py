"""Random draws of a block from generators of its own, so that threads do not draw from torch's common state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional, init
from torch.overrides import TorchFunctionMode

DRAWS = frozenset({
    torch.multinomial, torch.bernoulli, torch.normal, torch.rand, torch.randn, torch.randint, torch.randperm,
    Tensor.multinomial, Tensor.bernoulli, Tensor.bernoulli_, Tensor.normal_, Tensor.uniform_, Tensor.random_,
    Tensor.exponential_, init.kaiming_uniform_, init.uniform_, init.normal_,
})  # fmt: skip


class own_draws(TorchFunctionMode):
    """Within the block, in this thread alone, torch draws what it would after ``torch.manual_seed(seed)``.

    torch's own random state is neither read nor changed: other threads, and the code after the block, see none of it.
    Covers what sampling, the start of linear layers and dropout call; not attention with dropout inside its kernel, nor
    functions of torch that draw inside, such as ``svd_lowrank``. The masks of dropout are its own, in single precision.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Give a drawing function its generator."""
        given = dict(kwargs) if kwargs else {}
        if func is functional.dropout:
            return self._dropout(*args, **given)
        if func in DRAWS and given.get("generator") is None:
            tensor = next((a for a in (*args, *given.values()) if isinstance(a, Tensor)), None)
            place = given.get("device") or torch.device("cpu") if tensor is None else tensor.device
            given["generator"] = self._generator(torch.device(place))
        return func(*args, **given)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0.0:
            return input
        # a third of the time of `bernoulli_`, which draws in double precision
        drawn = torch.rand(input.shape, generator=self._generator(input.device), device=input.device)
        return input * (drawn >= p).to(input.dtype).div_(1.0 - p)
