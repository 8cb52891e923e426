"""Losses of the auxiliary model beside the cross-entropy to observed bins."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel
from constraintlang_runtime.auxiliary.samples import Draw, Reader
from constraintlang_runtime.data import prediction_sites


def consistency(
    reader: Reader,
    slow: list[Tensor],
    draw: Draw,
    anchor_logits: Callable[[Tensor], Tensor],
    most: int = 256,
) -> Tensor:
    """Cross-entropy of π at a site, read from the site before, to its own one-step average under the slow copy.

    Source: method.md section 3, target 2. At most ``most`` sites, since the average runs over the vocabulary.
    """
    model, data, device = reader.model, reader.data, reader.model.device
    place = torch.nonzero(data.follows[draw.sites] >= 0).squeeze(1)[:most]
    if len(place) == 0:
        return torch.zeros((), device=device)
    later = draw.sites[place]
    earlier = data.follows[later]
    was_training = model.training
    model.eval()  # the target is a mean, without dropout
    with torch.no_grad():
        own = {f"model.{n}": p for (n, _), p in zip(model.named_parameters(), slow, strict=True)}
        features = data.features[later].to(device)
        slow_log_law = torch.func.functional_call(
            _PrefixLaw(model, draw, place), own, (features, anchor_logits(features))
        )
    model.train(was_training)
    # a form that reads rows has all sites of a row side by side
    before = draw.inputs[place - 1] if model.reads_rows else data.features[earlier].to(device)
    log_law = model.one_token(before, data.tokens[earlier].to(device))
    return -(slow_log_law.exp() * log_law).sum(-1).mean()


class _PrefixLaw(nn.Module):
    """``prefix_law`` at some sites of a draw as a module's forward, for functional_call."""

    def __init__(self, model: AuxiliaryModel, draw: Draw, place: Tensor) -> None:
        super().__init__()
        self.model, self._draw, self._place = model, draw, place

    def forward(self, features: Tensor, anchor_logits: Tensor) -> Tensor:
        inputs, batch = features, self._draw.batch
        if batch is not None:
            every = self.model.inputs(batch, prediction_sites(batch.region), self._draw.features)
            inputs = every[self._place]
        return self.model.prefix_law(inputs, anchor_logits)
