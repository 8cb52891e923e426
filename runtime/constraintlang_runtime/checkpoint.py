"""What the constraint adds to a checkpoint: groups, duals, auxiliary models and samples, without pickle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from constraintlang_compiler.artifact import write_whole
from constraintlang_compiler.canonical import record_json
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.targets import SoftBins, Target
from constraintlang_runtime.auxiliary import AuxiliaryModel, from_record
from constraintlang_runtime.balance import Balance
from constraintlang_runtime.control import ControllerState
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.draws import own_draws
from constraintlang_runtime.errors import TrainingError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.mishaps import damaged

STATE_FILE = "constraint.json"
TENSOR_FILE = "constraint.safetensors"
STAGING = "_staging"  # uploads to the hub leave out what begins so
VERSION = 5  # of the records in STATE_FILE


def save_groups(folder: Path, groups: Sequence[Group], extra: dict[str, Any]) -> None:
    """Write the groups' state into ``folder`` (``constraint.json`` and ``constraint.safetensors``)."""
    tensors: dict[str, torch.Tensor] = {}
    records = []
    for number, group in enumerate(groups):
        records.append(
            {
                "name": group.name,
                "indexes": list(group.indexes),
                "corpus_share": group.corpus_share,
                "corpus_means": [float(x) for x in group.corpus_means],
                "target": None if group.target is None else target_record(group.target),
                "clauses": [record_json(clause) for clause in group.clauses],  # with measured bounds
                "bin_values": group.bin_values.tolist(),
                "fitted_exponent": group.fitted_exponent,
                "fixed_exponent": group.fixed_exponent,
                "stamps": group.stamps,
                "controllers": [state.to_dict() for state in group.controllers],
                "hard_control": None if group.hard_control is None else group.hard_control.to_dict(),
                "store_tags": [row.tags for row in group.store],
                "head": None if group.head is None else group.head.record(),
                "balance": None if group.balance is None else asdict(group.balance),
            }
        )
        if group.head is not None:
            tensors |= {
                f"{number}.head.{k}": v.detach().cpu().contiguous()
                for k, v in group.head.state_dict().items()
            }
        tensors |= {f"{number}.store.{k}": v for k, v in pack_rows(group.store).items()}
    save_file(tensors, folder / TENSOR_FILE)
    (folder / STATE_FILE).write_text(
        json.dumps({"version": VERSION, "groups": records, **extra}, indent=1, default=str)
    )


def load_groups(folder: Path, groups: Sequence[Group], device: torch.device) -> dict[str, Any]:
    """Restore ``groups`` in place from ``folder``; returns the extra state.

    Raises: TrainingError when the files are missing, damaged, or belong to another policy.
    """
    try:
        state = json.loads((folder / STATE_FILE).read_text())
        tensors = load_file(folder / TENSOR_FILE)
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise damaged(folder, f"the constraint's state cannot be read: {error}") from error
    if not isinstance(state, dict) or not isinstance(state.get("groups"), list):
        raise damaged(folder, f"`{STATE_FILE}` holds no groups")
    if state.get("version") != VERSION:
        raise TrainingError(
            f"`{folder / STATE_FILE}` has version {state.get('version')!r}; this release reads version {VERSION}",
            help="go on with the release that wrote it, or start anew in another folder",
        )
    try:
        _restore(folder, groups, state["groups"], tensors, device)
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise damaged(folder, f"`{STATE_FILE}` or `{TENSOR_FILE}` is not whole ({error!r})") from error
    return {key: value for key, value in state.items() if key not in ("groups", "version")}


def _restore(
    folder: Path, groups: Sequence[Group], records: list[dict[str, Any]], tensors: dict[str, torch.Tensor],
    device: torch.device,
) -> None:  # fmt: skip
    """Set the groups from their records."""
    recorded = [(record["name"], tuple(record["indexes"])) for record in records]
    expected = [(group.name, group.indexes) for group in groups]
    if recorded != expected:
        raise TrainingError(
            f"the checkpoint `{folder}` has the groups {recorded}, this policy and data give {expected}",
            help="resume with the policy, data and settings that the run was started with",
        )
    for number, (group, record) in enumerate(zip(groups, records, strict=True)):
        group.corpus_share = record["corpus_share"]
        group.corpus_means = np.array(record["corpus_means"])
        group.clauses = msgspec.convert(record["clauses"], tuple[Clause, ...])
        group.bin_values = np.array(record["bin_values"])
        group.fitted_exponent, group.fixed_exponent = record["fitted_exponent"], record["fixed_exponent"]
        group.stamps = dict(record["stamps"])
        group.controllers = [ControllerState.from_dict(entry) for entry in record["controllers"]]
        hard = record["hard_control"]
        group.hard_control = None if hard is None else ControllerState.from_dict(hard)
        group.balance = None if record["balance"] is None else Balance(**record["balance"])
        group.target = None if record["target"] is None else target_from(record["target"])
        if record["head"] is not None:
            prefix = f"{number}.head."
            state_dict = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            group.head = head_from(record["head"], state_dict).to(device)
        prefix = f"{number}.store."
        packed = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        group.store = unpack_rows(packed, record["store_tags"])


def pack_rows(rows: Sequence[TokenRow]) -> dict[str, torch.Tensor]:
    """Rows as three flat tensors: all ids, prompt lengths, completion lengths."""
    return {
        "ids": torch.tensor([token for row in rows for token in row.ids], dtype=torch.int32),
        "prompt_lengths": torch.tensor([len(row.prompt) for row in rows], dtype=torch.int32),
        "completion_lengths": torch.tensor([len(row.completion) for row in rows], dtype=torch.int32),
    }


def unpack_rows(packed: dict[str, torch.Tensor], tags: Sequence[dict[str, Any]]) -> list[TokenRow]:
    """Inverse of ``pack_rows``."""
    ids, position, rows = packed["ids"].tolist(), 0, []
    lengths = zip(packed["prompt_lengths"].tolist(), packed["completion_lengths"].tolist(), tags, strict=True)
    for prompt, completion, row_tags in lengths:
        middle, end = position + prompt, position + prompt + completion
        rows.append(TokenRow(tuple(ids[position:middle]), tuple(ids[middle:end]), dict(row_tags), False))
        position = end
    return rows


def newest_checkpoint(output_dir: Path) -> Path | None:
    """The newest whole checkpoint below ``output_dir``; a half-written one never has its final name."""
    found = [
        path
        for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.name.split("-")[-1].isdigit() and (path / STATE_FILE).exists()
    ]
    return max(found, key=lambda path: int(path.name.split("-")[-1]), default=None)


def publish(staged: Path, final: Path) -> None:
    """Move a wholly written folder to its final name in one step."""
    if final.exists():
        shutil.rmtree(final)
    os.replace(staged, final)


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old or the new one, never half."""
    write_whole(path, text.encode())


def head_from(record: dict[str, Any], state: dict[str, torch.Tensor]) -> AuxiliaryModel:
    """An auxiliary model of this record with these tensors, frozen; torch's random state is left as it is."""
    with own_draws(0):
        head = from_record(record).requires_grad_(False).eval()
    head.load_state_dict(state)
    return head


def target_record(target: Target) -> dict[str, Any]:
    """A target as JSON; inverse of ``target_from``."""
    return {
        "clauses": list(target.clauses),
        "hard": list(target.hard),
        "soft": [{**asdict(bins), "edges": [str(e) for e in bins.edges]} for bins in target.soft],
    }


def target_from(record: dict[str, Any]) -> Target:
    """Inverse of ``target_record``."""
    soft = tuple(
        SoftBins(**{**bins, "edges": tuple(float(e) for e in bins["edges"])}) for bins in record["soft"]
    )
    return Target(tuple(record["clauses"]), tuple(record["hard"]), soft)
