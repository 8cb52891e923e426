"""A frozen reference model that is run once per row: its last hidden states are kept, and only its head is paid."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from constraintlang_runtime.anchor import Anchor, running_mean
from constraintlang_runtime.data import Batch
from constraintlang_runtime.output_head import OWN_PASS, OutputHead, difference
from constraintlang_runtime.ranks import rank_and_size
from constraintlang_runtime.state_file import Room, StateFile
from constraintlang_runtime.weight_hash import weight_hash

logger = logging.getLogger(__name__)
FOLDER = "_anchor_cache"  # uploads to the hub leave out what begins so


class AnchorStates:
    """The folder of a run in which hidden states of its frozen anchors lie, and the step that the run is at.

    A file is named by the hash of the weights and by the precision of the pass, so that another anchor never finds it;
    files of anchors that are no longer in use are removed. ``limit`` is in bytes, of all processes together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.step = folder, 0
        self._used: list[CachedAnchor] = []
        self._limit = limit
        self._room: Room | None = None
        self._files: dict[str, StateFile] = {}

    @staticmethod
    def below(output_dir: str | Path, gib: float | int) -> AnchorStates | None:
        """In a folder of a run; None for a size of 0."""
        return AnchorStates(Path(output_dir) / FOLDER, int(gib * 2**30)) if gib > 0 else None

    def of(self, anchor: Anchor | None) -> Anchor | None:
        """The anchor with its states kept, if it is frozen."""
        if anchor is None or anchor.weights is None or isinstance(anchor, CachedAnchor):
            return anchor
        return CachedAnchor(anchor, self)

    def use(self, *anchors: Anchor | None) -> None:
        """These are read from here on, and no others: the files of others may go."""
        self._used = [anchor for anchor in anchors if isinstance(anchor, CachedAnchor)]

    def at(self, step: int) -> None:
        """The optimizer step that follows: what other processes wrote before it is seen from here on."""
        self.step = step
        for file in self._files.values():
            file.share(step)

    def file(self, key: str, precision: str) -> StateFile:
        """The states under the weights with this hash, in the precision of a pass."""
        name = f"{key}-{precision}"
        if name not in self._files:
            rank, num_ranks = rank_and_size()
            self._remove_stale(rank, num_ranks)
            if self._room is None:
                self._room = Room(self.folder, self._limit, num_ranks)
            self._files[name] = StateFile(
                self.folder, name, self._room, step=self.step, rank=rank, num_ranks=num_ranks
            )
        return self._files[name]

    def _remove_stale(self, rank: int, num_ranks: int) -> None:
        """Delete this process's files of other weights, those of an earlier run too."""
        used = {anchor.key for anchor in self._used}
        for name in [name for name in self._files if name.split("-")[0] not in used]:
            self._files.pop(name).remove()
        for path in self.folder.glob("*-*.*.*"):
            key, number = path.name.split("-")[0], path.name.split(".")[-2]
            own = number == str(rank) or (rank == 0 and number.isdigit() and int(number) >= num_ranks)
            if own and key not in used:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete all, at the end of a run."""
        self._files.clear()
        self._room = None
        if rank_and_size()[0] == 0:
            shutil.rmtree(self.folder, ignore_errors=True)


class CachedAnchor(Anchor):
    """An ``Anchor`` of frozen weights whose last hidden states are computed once per row, on first reading.

    A row is known by its tokens and its sites, wherever it stands in a batch. States have the type that the model gives
    them. A batch in which no row is known is read as without a cache, to the same bits; states that were computed in
    another batch, with other padding, differ from this one's by the rounding of the model's own passes.
    """

    def __init__(self, anchor: Anchor, states: AnchorStates) -> None:
        super().__init__(anchor.model, anchor.weights)
        self._states = states
        self._key: str | None = None
        self._head_is_all: bool | None = (
            None  # whether logits are those of the output embeddings; None: not known
        )

    @property
    def key(self) -> str:
        """The hash of the weights that a pass uses."""
        if self._key is None:
            own = self.weights or {}
            self._key = weight_hash((n, own.get(n, p.detach())) for n, p in self.model.named_parameters())
        return self._key

    def features(self, batch: Batch, sites: Bool[Tensor, "B T"]) -> Float[Tensor, "S F"]:
        """As ``Anchor.features``, from what is kept where it is."""
        file, rows = self._file(), row_hashes(batch, sites)
        places = file.find(rows)
        counts = sites.sum(1).tolist()
        missing = [i for i, place in enumerate(places) if place is None and counts[i]]
        kept = [place for place in places if place is not None]
        if not kept:
            found = super().features(batch, sites)
            self._keep(file, batch, rows, counts, found, range(len(rows)))
            return found
        width = self.feature_size // 2
        flat = file.read(kept).to(sites.device)
        if missing:
            chosen = torch.tensor(missing, device=sites.device)
            found = super().features(batch.rows(chosen), sites[chosen])
            self._keep(file, batch, rows, counts, found, missing)
            is_kept = torch.tensor([place is not None for place in places], device=sites.device)
            at = is_kept.repeat_interleave(sites.sum(1))
            both = torch.empty((len(at), width), dtype=flat.dtype, device=flat.device)
            both[at], both[~at] = flat, found[:, :width]
            flat = both
        hidden = torch.zeros((*sites.shape, width), dtype=flat.dtype, device=flat.device)
        hidden[sites] = flat
        return torch.cat([flat, running_mean(hidden, sites)[sites]], dim=-1)

    def read(
        self, batch: Batch, sites: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "S V"], Float[Tensor, "S F"]]:
        """As ``Anchor.read``; without the cache for a model whose head does more than its output embeddings."""
        if self._head_is_all is None:
            self._head_is_all = OutputHead.of(self.model) is not None
            if self._head_is_all and bool(sites.any()):
                logits, found = super().read(batch, sites)
                self._head_is_all = difference(self.logits_from(found), logits, OWN_PASS) is None
        if not self._head_is_all:
            return super().read(batch, sites)
        found = self.features(batch, sites)
        return self.logits_from(found), found

    def _file(self) -> StateFile:
        device = self.head.weight.device.type
        autocast = torch.is_autocast_enabled(device)
        precision = str(torch.get_autocast_dtype(device)).removeprefix("torch.") if autocast else "own"
        return self._states.file(self.key, precision)

    def _keep(
        self, file: StateFile, batch: Batch, rows: Sequence[bytes], counts: Sequence[int], found: Tensor,
        numbers: Sequence[int],
    ) -> None:  # fmt: skip
        """Keep the states of the rows with these numbers, whose features are ``found``, if they are read again."""
        again = [True] * len(rows) if batch.again is None else batch.again.tolist()
        if not any(again[number] for number in numbers):
            return
        states = found[:, : self.feature_size // 2].cpu().split([counts[number] for number in numbers])
        for number, own in zip(numbers, states, strict=True):
            if again[number]:
                file.put(rows[number], own, self._states.step)


def row_hashes(batch: Batch, sites: Bool[Tensor, "B T"]) -> list[bytes]:
    """16 bytes for each row, from its tokens and its sites; padding has no part in them."""
    ids = batch.input_ids.to("cpu", torch.int32).numpy().astype("<i4")
    where, lengths = sites.cpu().numpy(), batch.attention_mask.sum(1).tolist()
    return [
        hashlib.blake2b(ids[i, :n].tobytes() + np.packbits(where[i, :n]).tobytes(), digest_size=16).digest()
        for i, n in enumerate(lengths)
    ]
