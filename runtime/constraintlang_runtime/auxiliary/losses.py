"""Losses of the auxiliary model: what labelled sites say of its law, and what its law says of itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel
from constraintlang_runtime.auxiliary.samples import AuxiliaryData, Draw, Reader
from constraintlang_runtime.data import prediction_sites


def label_loss(log_law: Tensor, data: AuxiliaryData, sites: Tensor) -> Tensor:
    """Mean over sites of weight times cross-entropy; unbiased, as E[weight | s] = 1 at every prefix.

    Gradient: to the law.
    """
    labels = data.bins[sites].to(log_law.device)
    if data.weights is None:
        return functional.nll_loss(log_law, labels)
    weights = data.weights[sites].to(log_law.device)
    return (weights * functional.nll_loss(log_law, labels, reduction="none")).mean()


def observed_loss(reader: Reader, draw: Draw, hard_bins: Tensor | None = None) -> Tensor:
    """What a draw of labelled sites says of the law π(s·y) after the realised tokens. Gradient: to the model.

    Of a form with a law ω(s) of the prefix itself (``value_law``): that law's ``label_loss``, and the cross-entropy of
    π(s·y) to sg ω(s·y), or to the label where the response ends. ω has seen y, so it knows most of what y did, and its
    guess varies much less than the label, which the rest of the response decides; no importance weight is needed, for
    the target does not depend on what follows. Whether the bin is one of ``hard_bins`` [M] is always the label's, since
    a guess is never as certain as log V has to be there. Of the other forms: the ``label_loss`` of π itself.
    Source: temporal differences, Sutton 1988 (Machine Learning 3); docs/method.md, "The auxiliary model".
    """
    model, data, device = reader.model, reader.data, reader.model.device
    tokens = data.tokens[draw.sites].to(device)
    if not model.reads_tokens:
        return label_loss(model.one_token(draw.inputs, tokens), data, draw.sites)
    log_law, own_law = model.observed_laws(draw.inputs, tokens)
    after = reader.after[draw.sites]
    was_training = model.training
    model.eval()  # the target is a mean, without dropout
    with torch.no_grad():
        later = model.value_law(reader.at(after.clamp_min(0)).inputs).exp()
    model.train(was_training)
    label = functional.one_hot(data.bins[draw.sites], model.num_bins).to(later)
    target = torch.where((after >= 0).to(device)[:, None], later, label)
    if hard_bins is not None and bool(hard_bins.any()):
        hard = hard_bins.to(device)
        soft = later.masked_fill(hard, 0.0)
        soft = soft / soft.sum(1, keepdim=True).clamp_min(1e-30)
        target = torch.where(
            label[:, hard].any(1, keepdim=True) | (after < 0).to(device)[:, None], label, soft
        )
    own = label_loss(own_law, data, draw.sites)
    return own - (target * log_law).sum(-1).mean()


def consistency(
    reader: Reader,
    slow: list[Tensor],
    draw: Draw,
    anchor_logits: Callable[[Tensor], Tensor],
    most: int = 256,
) -> Tensor:
    """Cross-entropy of π at a site, read from the site before, to its own one-step average under the slow copy.

    Source: docs/method.md, "The auxiliary model". At most ``most`` sites, since the average runs over the vocabulary.
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
        read = features if model.reads_rows else reader.at(later).inputs
        slow_log_law = torch.func.functional_call(
            _PrefixLaw(model, draw, place), own, (read, anchor_logits(features))
        )
    model.train(was_training)
    # a form that reads rows has all sites of a row side by side
    before = draw.inputs[place - 1] if model.reads_rows else reader.at(earlier).inputs
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
