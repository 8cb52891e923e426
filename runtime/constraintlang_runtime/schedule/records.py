"""Results of lanes as JSON and tensors: for checkpoints, and for the way from one process to another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from constraintlang_compiler.canonical import record_json
from constraintlang_compiler.ir import Clause
from constraintlang_runtime.balance import Balance
from constraintlang_runtime.checkpoint import (
    head_from,
    pack_rows,
    target_from,
    target_record,
    unpack_rows,
)
from constraintlang_runtime.control import ControllerState
from constraintlang_runtime.rounds import FitRecord, Measured, Measurement, Proposals
from constraintlang_runtime.schedule.work import GroupFit, Terms

Tensors = dict[str, Tensor]
Packed = tuple[Any, Tensors]


def pack_terms(terms: Sequence[Terms]) -> Packed:
    """Clauses and corpus means of every group."""
    record = [[record_json(clause) for clause in one.clauses] for one in terms]
    return record, {f"{n}.means": torch.from_numpy(one.corpus_means.copy()) for n, one in enumerate(terms)}


def unpack_terms(record: Any, tensors: Tensors) -> list[Terms]:
    """Inverse of ``pack_terms``."""
    return [Terms(_clauses(clauses), tensors[f"{n}.means"].numpy()) for n, clauses in enumerate(record)]


def pack_measured(measured: Sequence[Measured]) -> Packed:
    """The measurement of every group."""
    record, tensors = [], {}
    for n, one in enumerate(measured):
        record.append({
            "round": one.round, "seconds": one.seconds, "clauses": [record_json(c) for c in one.clauses],
            "tags": [row.tags for row in one.found.rows],
            "proposed": None if one.found.proposals is None else [row.tags for row in one.found.proposals.rows],
        })  # fmt: skip
        if one.found.proposals is not None:
            proposed = one.found.proposals
            tensors[f"{n}.proposed.statistics"] = torch.from_numpy(proposed.statistics.copy())
            tensors[f"{n}.proposed.weights"] = torch.from_numpy(proposed.weights.copy())
            tensors |= {f"{n}.proposed.rows.{key}": t for key, t in pack_rows(proposed.rows).items()}
        tensors[f"{n}.statistics"] = torch.from_numpy(one.found.statistics.copy())
        tensors[f"{n}.means"] = torch.from_numpy(one.corpus_means.copy())
        tensors |= {f"{n}.rows.{key}": tensor for key, tensor in pack_rows(one.found.rows).items()}
    return record, tensors


def unpack_measured(record: Any, tensors: Tensors) -> list[Measured]:
    """Inverse of ``pack_measured``."""
    return [
        Measured(
            one["round"],
            Measurement(
                unpack_rows(below(tensors, f"{n}.rows."), one["tags"]), tensors[f"{n}.statistics"].numpy(),
                None if one["proposed"] is None else _proposals(one["proposed"], below(tensors, f"{n}.proposed.")),
            ),
            _clauses(one["clauses"]), tensors[f"{n}.means"].numpy(), one["seconds"],
        )
        for n, one in enumerate(record)
    ]  # fmt: skip


def _proposals(tags: Any, tensors: Tensors) -> Proposals:
    rows = unpack_rows(below(tensors, "rows."), tags)
    return Proposals(rows, tensors["statistics"].numpy(), tensors["weights"].numpy())


def pack_fits(fits: Sequence[GroupFit]) -> Packed:
    """The fit of every group."""
    record, tensors = [], {}
    for n, fit in enumerate(fits):
        record.append({
            "target": None if fit.target is None else target_record(fit.target),
            "head": None if fit.head is None else fit.head.record(),
            "controllers": [state.to_dict() for state in fit.controllers],
            "fitted_exponent": fit.fitted_exponent,
            "balance": None if fit.balance is None else asdict(fit.balance),
            "logs": fit.record.logs, "seconds": fit.record.seconds,
        })  # fmt: skip
        tensors[f"{n}.bin_values"] = torch.from_numpy(np.ascontiguousarray(fit.bin_values).copy())
        state = {} if fit.head is None else fit.head.state_dict()
        tensors |= {f"{n}.head.{key}": t.detach().cpu().contiguous() for key, t in state.items()}
    return record, tensors


def unpack_fits(record: Any, tensors: Tensors) -> list[GroupFit]:
    """Inverse of ``pack_fits``."""
    return [
        GroupFit(
            None if one["target"] is None else target_from(one["target"]),
            None if one["head"] is None else head_from(one["head"], below(tensors, f"{n}.head.")),
            tensors[f"{n}.bin_values"].numpy(),
            None if one["balance"] is None else Balance(**one["balance"]),
            [ControllerState.from_dict(state) for state in one["controllers"]],
            one["fitted_exponent"], FitRecord(one["logs"], one["seconds"]),
        )
        for n, one in enumerate(record)
    ]  # fmt: skip


def _clauses(records: Any) -> tuple[Clause, ...]:
    return msgspec.convert(records, tuple[Clause, ...])


def below(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """The tensors whose names begin with a prefix, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Inverse of ``below``."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def to_bytes(record: Any, tensors: Mapping[str, Tensor]) -> bytes:
    """One message: the length of the JSON, the JSON, the tensors as safetensors."""
    text = json.dumps(record, default=str).encode()  # tags may be dates or bytes
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return len(text).to_bytes(8, "little") + text + save(whole)


def from_bytes(message: bytes) -> Packed:
    """Inverse of ``to_bytes``."""
    end = 8 + int.from_bytes(message[:8], "little")
    return json.loads(message[8:end]), load(message[end:])
