"""Labelled sites of sampled sequences, and how each form of the auxiliary model reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel
from constraintlang_runtime.data import Batch, TokenRow, collate, prediction_sites


@dataclass(frozen=True)
class AuxiliaryData:
    """Labelled sites of sampled sequences, row-major by sequence.

    ``features`` [N, F] of the prefix s_t, ``tokens`` [N] the realised y_t, ``bins`` [N] the sequence's bin,
    ``sequence`` [N] its number, ``follows`` [N] the index of the site s_{t-1}, -1 at a first site. ``rows`` holds the
    sequence of every number, for the forms that read whole rows. ``weights`` [N] are those of the cross-entropy, 1
    where there are none: suffix importance weights of sequences that another law than p_ref drew.
    """

    features: Float[Tensor, "N F"]
    tokens: Int[Tensor, " N"]
    bins: Int[Tensor, " N"]
    sequence: Int[Tensor, " N"]
    follows: Int[Tensor, " N"]
    rows: Sequence[TokenRow] = ()
    weights: Float[Tensor, " N"] | None = None

    def of_sequences(self, wanted: Bool[Tensor, " Q"]) -> AuxiliaryData:
        """The sites of the wanted sequences; their numbers stay."""
        kept = wanted[self.sequence]
        position = torch.cumsum(kept.long(), 0) - 1
        follows = torch.where(self.follows[kept] < 0, self.follows[kept], position[self.follows[kept]])
        return replace(
            self, features=self.features[kept], tokens=self.tokens[kept], bins=self.bins[kept],
            sequence=self.sequence[kept], follows=follows,
            weights=None if self.weights is None else self.weights[kept],
        )  # fmt: skip

    def followed_by(self, other: AuxiliaryData) -> AuxiliaryData:
        """The sites of both; the other's sequences are numbered on from these."""
        count, sites = len(self.rows), len(self.tokens)
        own, others = (
            torch.ones(len(part.tokens)) if part.weights is None else part.weights for part in (self, other)
        )
        follows = torch.where(other.follows < 0, other.follows, other.follows + sites)
        return AuxiliaryData(
            torch.cat([self.features, other.features]), torch.cat([self.tokens, other.tokens]),
            torch.cat([self.bins, other.bins]), torch.cat([self.sequence, other.sequence + count]),
            torch.cat([self.follows, follows]), [*self.rows, *other.rows], torch.cat([own, others]),
        )  # fmt: skip


def heldout_sequences(data: AuxiliaryData, seed: int, share: float = 0.1) -> Bool[Tensor, " Q"]:
    """Which sequences a fit with this seed holds out; all of them when there are too few to split."""
    num_sequences = int(data.sequence.max().item()) + 1
    chosen = torch.rand(num_sequences, generator=torch.Generator().manual_seed(seed)) < share
    inside = chosen[data.sequence]
    return chosen if bool(inside.any()) and not bool(inside.all()) else torch.ones_like(chosen)


@dataclass(frozen=True)
class Draw:
    """Some sites of a data set as a form reads them, on its device: ``inputs`` [S, I] of the sites numbered ``sites``.

    ``features`` [S, F] are the anchor's; ``batch`` holds the rows where whole rows were read.
    """

    inputs: Tensor
    sites: Int[Tensor, " S"]
    features: Tensor
    batch: Batch | None = None


class Reader:
    """Sites of some sequences of a data set as a form's inputs, drawn at random or read through.

    A form that reads features draws sites; one that reads rows draws whole sequences, as many as have about the wanted
    number of sites, because its inputs at one site cost the whole row before it.
    """

    def __init__(
        self,
        model: AuxiliaryModel,
        data: AuxiliaryData,
        sites: Int[Tensor, " N"],
        *,
        like: Reader | None = None,
    ) -> None:
        self.model, self.data, self.sites = model, data, sites
        self._features: Tensor = beside(data.features, model.device) if like is None else like._features
        self._before: Tensor | None = None  # what the form reads beside them
        if not model.reads_rows:
            found = model.read_before(data.tokens, data.sequence) if like is None else like._before
            self._before = found if found is None else found.to(self._features.device)
        _, counts = data.sequence[sites].unique_consecutive(return_counts=True)
        self.spans = sites.split(counts.tolist())  # the sites of each sequence
        if model.reads_rows:
            self._mean = len(sites) / len(self.spans)
            self._rows = collate([data.rows[int(data.sequence[span[0]])] for span in self.spans], pad_id=0)
            self._widths = self._rows.attention_mask.sum(1)

    @cached_property
    def after(self) -> Int[Tensor, " N"]:
        """The site that follows each site of the data, -1 at a last one."""
        found = torch.full_like(self.data.follows, -1)
        later = torch.nonzero(self.data.follows >= 0).squeeze(1)
        found[self.data.follows[later]] = later
        return found

    def draw(self, batch_size: int, generator: torch.Generator) -> Draw:
        """About ``batch_size`` sites, with replacement. Gradient: to the model's parameters."""
        if not self.model.reads_rows:
            picked = self.sites[torch.randint(len(self.sites), (batch_size,), generator=generator)]
            return self.at(picked)
        count = max(1, round(batch_size / self._mean))
        return self.read(torch.randint(len(self.spans), (count,), generator=generator))

    def at(self, sites: Int[Tensor, " S"]) -> Draw:
        """The sites as a form that does not read rows has them."""
        device = self.model.device
        features = self._features[sites].to(device)
        if self._before is None:
            return Draw(features, sites, features)
        return Draw(torch.cat([features, self._before[sites].to(device)], dim=1), sites, features)

    @torch.no_grad()
    def through(self, batch_size: int, chunk: int = 8192) -> Iterator[Draw]:
        """All sites in order, without gradients; ``chunk`` at a time, or rows of about ``batch_size`` sites."""
        if not self.model.reads_rows:
            yield from map(self.at, self.sites.split(chunk))
        else:
            count = max(1, round(batch_size / self._mean))
            yield from map(self.read, torch.arange(len(self.spans)).split(count))

    def read(self, chosen: Int[Tensor, " Q"]) -> Draw:
        """All sites of some sequences, by their place in ``spans``. Gradient: to the model's parameters."""
        device = self.model.device
        picked = torch.cat([self.spans[i] for i in chosen.tolist()])
        if not self.model.reads_rows:
            return self.at(picked)
        features = self._features[picked].to(device)
        rows = self._rows
        cut = (chosen, slice(int(self._widths[chosen].max())))
        batch = Batch(rows.input_ids[cut], rows.attention_mask[cut], rows.labels[cut], rows.region[cut]).to(
            device
        )
        return Draw(
            self.model.inputs(batch, prediction_sites(batch.region), features), picked, features, batch
        )


def beside(features: Float[Tensor, "N F"], device: torch.device) -> Float[Tensor, "N F"]:
    """Features on a GPU where they take at most a quarter of its free memory, so that no step waits for them."""
    if device.type != "cuda" or features.nbytes > torch.cuda.mem_get_info(device)[0] // 4:
        return features
    return features.to(device)


def site_inputs(
    model: AuxiliaryModel, data: AuxiliaryData, sites: Int[Tensor, " S"], batch_size: int = 2048
) -> Float[Tensor, "S I"]:
    """A form's inputs at some sites of the data, without gradients, on the CPU."""
    if not model.reads_rows:
        before = model.read_before(data.tokens, data.sequence)
        features = data.features[sites]
        return features if before is None else torch.cat([features, before.cpu()[sites]], dim=1)
    reader = Reader(model, data, torch.arange(len(data.tokens)))
    return torch.cat([drawn.inputs.cpu() for drawn in reader.through(batch_size)])[sites]
