"""Training an auxiliary model of any form on labelled sequences, and what the fit achieved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from constraintlang_runtime.auxiliary.calibration import Cell, expected_error, reliability
from constraintlang_runtime.auxiliary.losses import consistency, observed_loss
from constraintlang_runtime.auxiliary.paths import PathReader, path_variance
from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel
from constraintlang_runtime.auxiliary.samples import AuxiliaryData, Reader, heldout_sequences
from constraintlang_runtime.draws import own_draws
from constraintlang_runtime.sampling import derived_seed


@dataclass(frozen=True)
class FitReport:
    """Held-out quality of a fit: cross-entropy per site of the law and of the constant law, and calibration.

    ``start_loss``, ``half_loss`` and ``end_loss`` are the held-out loss before the first step, the best of the first
    half of the steps, and the best of all; ``start_error`` and ``end_error`` the standard errors, over sequences, of
    the first and the last less the constant law's. All five are means over the members of an ensemble, whose
    ``heldout_loss`` is that of the mean law. ``curve`` is the reliability curve of P(bin 0) at the held-out sites,
    ``calibration_error`` its expected error.
    """

    steps: int
    train_loss: float
    start_loss: float
    half_loss: float
    end_loss: float
    start_error: float
    end_error: float
    heldout_loss: float
    constant_loss: float
    calibration_error: float
    curve: tuple[Cell, ...]

    @property
    def gain(self) -> float:
        """What the fit won on held-out samples, in nats per site; at least 0."""
        return self.start_loss - self.end_loss

    @property
    def late_gain(self) -> float:
        """The part of it that the second half of the steps won."""
        return self.half_loss - self.end_loss


def fit(
    model: AuxiliaryModel,
    data: AuxiliaryData,
    anchor_logits: Callable[[Tensor], Tensor],
    *,
    steps: int,
    learning_rate: float,
    batch_size: int,
    consistency_weight: float,
    weight_decay: float,
    seed: int,
    corpus: AuxiliaryData | None = None,
    corpus_weight: float = 0.0,
    vargrad_weight: float = 0.0,
    hard_bins: Bool[Tensor, " M"] | None = None,
    member: int = 0,
    of_steps: int | None = None,
    ema_decay: float = 0.98,
    progress: Callable[[int, int], None] | None = None,
) -> FitReport:
    """Train the law by Monte-Carlo cross-entropy plus one-step consistency; keeps the best held-out weights.

    Equation: mean_t CE(bin, π(s_{t-1}·y_{t-1} ... )) over realised tokens, plus ``consistency_weight`` times the
    cross-entropy of π(s_t) to sg Σ_v p_ref(v|s_t) π_EMA(s_t·v). The first is unbiased for the law of the sampler;
    the second lowers its variance and reaches tokens that were never sampled. ``corpus`` rows add the same
    cross-entropy with their weight, and ``vargrad_weight`` that of ``paths.path_variance``. Held out: whole sequences
    of ``data``, the same for every ``member`` of an ensemble, whose draws are its own.
    Where ``data`` has ``weights`` each site's cross-entropy is multiplied by its own, and so are held-out means. The
    learning rate falls to a tenth over ``of_steps`` steps, of which this fit goes through the last ``steps``: what was
    fitted before is not shaken by the rate of a first step.
    Source: docs/method.md, "The auxiliary model".
    """
    own = (seed,) if member == 0 else (seed, member)
    generator = torch.Generator().manual_seed(derived_seed(*own, "sites"))
    is_heldout = heldout_sequences(data, seed)[data.sequence]
    test_sites = torch.nonzero(is_heldout).squeeze(1)
    train_sites = test_sites if is_heldout.all() else torch.nonzero(~is_heldout).squeeze(1)
    labels = data.bins
    weights = None if data.weights is None else data.weights[train_sites].double()
    counts = torch.bincount(labels[train_sites], weights, minlength=model.num_bins).float() + 0.5
    base_law = (counts / counts.sum()).log()
    model.start_at(base_law)
    parameters = list(model.parameters())
    slow = [p.detach().clone() for p in parameters]
    decayed = [p for p in parameters if p.dim() > 1]  # a decayed bias would shift the rate of rare events
    kept_free = [p for p in parameters if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": kept_free, "weight_decay": 0.0}],
        lr=learning_rate,
    )
    whole = max(steps, of_steps or steps, 1)
    skipped = whole - steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - 0.9 * (skipped + step) / whole)
    train = Reader(model, data, train_sites)
    test = Reader(model, data, test_sites, like=train)
    beside = None if corpus is None else Reader(model, corpus, torch.arange(len(corpus.bins)))
    paths = PathReader(model, data, train_sites, like=train) if vargrad_weight > 0 else None
    num_paths = max(2, round(batch_size * len(train.spans) / len(train_sites)))
    with model.fitting(), own_draws(derived_seed(*own, "dropout")):  # the draws of dropout are this fit's own
        model.eval()
        best, train_loss = [p.detach().clone() for p in parameters], 0.0
        start = ending = _site_losses(test, batch_size)  # a fit never ends worse than it started
        start_loss = half_loss = best_loss = _mean(start, test)
        check_every = max(1, steps // (10 if model.reads_rows else 20))
        for step in range(steps):
            model.train()
            drawn = train.draw(batch_size, generator)
            loss = observed_loss(train, drawn, hard_bins)
            if beside is not None and corpus_weight > 0:
                loss = loss + corpus_weight * observed_loss(
                    beside, beside.draw(batch_size, generator), hard_bins
                )
            if consistency_weight > 0:
                loss = loss + consistency_weight * consistency(train, slow, drawn, anchor_logits)
            if paths is not None:
                loss = loss + vargrad_weight * path_variance(paths, num_paths, anchor_logits, generator)
            optimizer.zero_grad()
            loss.backward()
            if model.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, model.max_grad_norm)
            optimizer.step()
            schedule.step()
            if consistency_weight > 0:
                with torch.no_grad():
                    for kept, parameter in zip(slow, parameters, strict=True):
                        kept.lerp_(parameter, 1 - ema_decay)
            train_loss = float(loss.detach())
            model.eval()
            if (step + 1) % check_every == 0 or step + 1 == steps:
                losses = _site_losses(test, batch_size)
                if _mean(losses, test) < best_loss:
                    best, best_loss = [p.detach().clone() for p in parameters], _mean(losses, test)
                    ending = losses
                if 2 * (step + 1) <= steps:
                    half_loss = best_loss
                if progress is not None:
                    progress(step + 1, steps)
        with torch.no_grad():
            for parameter, kept in zip(parameters, best, strict=True):
                parameter.copy_(kept)
        optimizer.zero_grad()
        curve = reliability_curve(test, batch_size)
    constant = -base_law.double()[labels[test_sites]]
    return FitReport(
        steps, train_loss, start_loss, half_loss, best_loss, _error(start - constant, test),
        _error(ending - constant, test), best_loss, _mean(constant, test), expected_error(curve), curve,
    )  # fmt: skip


@torch.no_grad()
def _log_laws(reader: Reader, batch_size: int) -> Float[Tensor, "S M"]:
    """Bin log-probabilities after the realised tokens of all sites of a reader, on the CPU."""
    model, tokens = reader.model, reader.data.tokens
    return torch.cat(
        [
            model.one_token(drawn.inputs, tokens[drawn.sites].to(model.device)).cpu()
            for drawn in reader.through(batch_size)
        ]
    )


def heldout_loss(reader: Reader, batch_size: int) -> float:
    """Mean cross-entropy per site, in nats."""
    return _mean(_site_losses(reader, batch_size), reader)


def _site_losses(reader: Reader, batch_size: int) -> Float[Tensor, " S"]:
    """Cross-entropy at every site of a reader, on the CPU."""
    labels = reader.data.bins[reader.sites]
    return functional.nll_loss(_log_laws(reader, batch_size), labels, reduction="none").double()


def _site_weights(reader: Reader) -> Float[Tensor, " S"]:
    weights = reader.data.weights
    return torch.ones(len(reader.sites)) if weights is None else weights[reader.sites]


def _mean(values: Float[Tensor, " S"], reader: Reader) -> float:
    """Mean over sites, weighted where the data are: of the scale of an unweighted mean."""
    weights = _site_weights(reader).double()
    return float((weights * values).sum() / weights.sum())


def _error(values: Float[Tensor, " S"], reader: Reader) -> float:
    """Standard error of ``_mean``; the unit of evidence is the sequence, because all its sites have one label."""
    weights = _site_weights(reader).double()
    away = weights * (values - _mean(values, reader))
    spread = sum(float(part.sum()) ** 2 for part in away.split([len(span) for span in reader.spans]))
    count = len(reader.spans)
    return (spread * count / max(1, count - 1)) ** 0.5 / float(weights.sum())


def reliability_curve(reader: Reader, batch_size: int) -> tuple[Cell, ...]:
    """The reliability curve of P(bin 0) after the realised token of every site."""
    predicted = _log_laws(reader, batch_size)[:, 0].exp()
    weights = reader.data.weights
    happened = reader.data.bins[reader.sites] == 0
    return reliability(predicted, happened, weights=None if weights is None else weights[reader.sites])
