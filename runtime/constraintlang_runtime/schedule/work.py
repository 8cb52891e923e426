"""What a lane does for the training lane: measure groups, or fit their auxiliary models, on a model of its own.

The results are a function of the arguments alone, whichever thread or process does the work, and whenever.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils.operations import convert_outputs_to_fp32
from numpy.typing import NDArray
from torch import Tensor

from constraintlang_compiler.ir import Clause
from constraintlang_compiler.targets import Target
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.auxiliary import AuxiliaryModel
from constraintlang_runtime.balance import Balance
from constraintlang_runtime.control import ControllerState
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.groups import Group
from constraintlang_runtime.output_head import precision_of
from constraintlang_runtime.rounds import FitRecord, Measured, RoundPlan

Floats = NDArray[np.float64]
Weights = Mapping[str, Tensor]
Beat = Callable[[], None]


@dataclass(frozen=True)
class Terms:
    """The clauses of a group with the numbers that were measured so far, and what the corpus scores under them."""

    clauses: tuple[Clause, ...]
    corpus_means: Floats


@dataclass(frozen=True)
class GroupFit:
    """What a fit gives a group: the law over its bins and, when the regularizer starts, its controllers."""

    target: Target | None
    head: AuxiliaryModel | None
    bin_values: Floats
    balance: Balance | None = None
    controllers: list[ControllerState] = field(default_factory=list)
    fitted_exponent: float = 1.0
    record: FitRecord = field(default_factory=FitRecord)

    @staticmethod
    def of(group: Group, record: FitRecord | None = None) -> GroupFit:
        """The fit that a group has now."""
        return GroupFit(
            group.target, group.head, group.bin_values, group.balance, group.controllers, group.fitted_exponent,
            record or FitRecord(),
        )  # fmt: skip


class Workbench:
    """A model and an engine of a lane's own; ``model`` must be no other lane's."""

    def __init__(self, engine: ConstraintEngine, model: Any) -> None:
        self._engine, self._model = engine, model
        self._stream: Any = None  # one for all jobs: memory and workspaces are kept for each stream

    def measure(
        self, plan: RoundPlan, terms: Sequence[Terms], weights: Weights, beat: Beat
    ) -> list[Measured]:
        """Sample the model with these weights on the prompts of every group, and score."""
        with self._at_work(weights, beat) as engine:
            engine.groups = [
                replace(group, clauses=one.clauses, corpus_means=one.corpus_means.copy())
                for group, one in zip(engine.groups, terms, strict=True)
            ]
            return engine.measure_groups(self._model, plan)

    def fit(
        self,
        plan: RoundPlan,
        measured: Sequence[Measured],
        last: Sequence[GroupFit],
        weights: Weights,
        beat: Beat,
    ) -> list[GroupFit]:
        """Fit every group on its samples, from the last fit on, with these weights as p_ref; tensors on the CPU."""
        with self._at_work(weights, beat) as engine:
            engine.anchor = Anchor(self._model)
            engine.groups = [
                replace(
                    group, clauses=one.clauses, corpus_means=one.corpus_means.copy(), target=fit.target,
                    head=copy.deepcopy(fit.head), bin_values=fit.bin_values, controllers=fit.controllers,
                    fitted_exponent=fit.fitted_exponent, balance=fit.balance, stamps={},
                )
                for group, one, fit in zip(engine.groups, measured, last, strict=True)
            ]  # fmt: skip
            records = engine.fit_groups(plan, measured)
            for group in engine.groups:
                if group.head is not None:
                    group.head.cpu()
            return [GroupFit.of(group, one) for group, one in zip(engine.groups, records, strict=True)]

    def release(self) -> None:
        """No more jobs: the model's memory is given back."""
        self._model = None

    @contextlib.contextmanager
    def _at_work(self, weights: Weights, beat: Beat) -> Iterator[ConstraintEngine]:
        """The engine of a job, the weights in the model; on a stream of its own.

        The model's own passes are in the precision of training, as accelerate has them, and nothing else is: a fit
        under autocast would round away most of what it learns.
        """
        engine = copy.copy(self._engine)
        engine.progress = lambda what, done, total: beat()
        parameters = dict(self._model.named_parameters())
        device = next(iter(parameters.values())).device
        for name, weight in weights.items():
            parameters[name].data = weight.to(device)
        beat()
        dtype = precision_of(engine.config)
        if device.type == "cuda" and self._stream is None:
            self._stream = torch.cuda.Stream(device)
        with on_stream(self._stream), in_precision(self._model, device, dtype):
            yield engine


@contextlib.contextmanager
def in_precision(model: Any, device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Passes of a model under autocast, its outputs in float32, for the block; unchanged without a precision."""
    if dtype is None:
        yield
        return
    own = model.forward
    model.forward = convert_outputs_to_fp32(torch.autocast(device.type, dtype)(own))
    try:
        yield
    finally:
        model.forward = own


@contextlib.contextmanager
def on_stream(stream: Any) -> Iterator[None]:
    """Work of the block goes to a CUDA stream, finished at its end; nothing without one."""
    if stream is None:
        yield
        return
    with torch.cuda.device(stream.device):
        with torch.cuda.stream(stream):
            yield
        stream.synchronize()


def snapshot(model: Any) -> dict[str, Tensor]:
    """The trained weights as they are now, ready for any stream."""
    weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    if any(weight.is_cuda for weight in weights.values()):
        torch.cuda.current_stream().synchronize()
    return weights
