"""The auxiliary model: the law of the statistic given a prefix, over the bins that the compiler derived.

π(s·v) for every next token v comes from one pass: a small trunk on the anchor's detached features and a low-rank
product with token factors. It starts without any dependence on v, so that q̂ = p_ref before training.

Axes: ``S`` sites, ``V`` vocabulary, ``M`` bins, ``F`` features (the anchor's two halves), ``R`` rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from constraintlang_runtime.draws import own_draws
from constraintlang_runtime.sampling import derived_seed


class AuxiliaryHead(nn.Module):
    """Bin logits of every one-token continuation: z_m(s·v) = c_m(s) + u_m(s)·e_v + b_m(v), bin 0 fixed at 0.

    c, u are linear maps of a residual MLP of the features, with dropout; e_v are the leading singular directions of
    the anchor's output embeddings and stay fixed, so that what is learned of one token reaches its neighbours (free
    factors overfit: held-out loss 0.622 against 0.586 on 4,096 samples of the testbed model). u and b start at 0.
    """

    def __init__(
        self,
        features: int,
        vocab_size: int,
        num_bins: int,
        *,
        rank: int,
        width: int,
        dropout: float = 0.0,
        embeddings: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.num_bins = num_bins
        self.dropout = dropout
        self.norm = nn.GroupNorm(2, features)  # the state and its running mean, each by itself
        self.trunk = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(features, width), nn.GELU(),
            nn.Dropout(dropout), nn.Linear(width, width), nn.GELU(),
        )  # fmt: skip
        self.skip = nn.Linear(features, width)
        self.state = nn.Linear(width, num_bins - 1)
        self.query = nn.Linear(width, (num_bins - 1) * rank)
        self.token_factors: Tensor
        self.register_buffer("token_factors", torch.randn(vocab_size, rank) / rank**0.5)
        self.token_bias = nn.Parameter(torch.zeros(vocab_size, num_bins - 1))
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)
        nn.init.zeros_(self.state.weight)
        nn.init.zeros_(self.state.bias)
        if embeddings is not None:
            self._start_from(embeddings)

    @torch.no_grad()
    def _start_from(self, embeddings: Float[Tensor, "V H"]) -> None:
        """Token factors from the leading left singular vectors of the centred embeddings, unit mean square norm."""
        rank = min(self.token_factors.shape[1], *embeddings.shape)
        centred = embeddings.float() - embeddings.float().mean(0)
        factors = leading_directions(centred, rank, derived_seed("token factors"))
        self.token_factors[:, :rank] = factors / factors.norm(dim=1).square().mean().sqrt().clamp_min(1e-6)
        self.token_factors[:, rank:] = 0

    def _trunk(self, features: Float[Tensor, "S F"]) -> tuple[Tensor, Tensor]:
        normed = self.norm(features.float())
        hidden = self.trunk(normed) + self.skip(normed)
        query = self.query(hidden).view(len(features), self.num_bins - 1, -1)
        return self.state(hidden), query  # [S, M-1], [S, M-1, R]

    def all_tokens(self, features: Float[Tensor, "S F"]) -> Float[Tensor, "S V M"]:
        """Bin log-probabilities after every next token. Gradient: to the parameters; features are detached."""
        state, query = self._trunk(features)
        logits = torch.einsum("smr,vr->svm", query, self.token_factors) + state[:, None, :] + self.token_bias
        return _with_first_bin(logits)

    def one_token(self, features: Float[Tensor, "S F"], tokens: Int[Tensor, " S"]) -> Float[Tensor, "S M"]:
        """Bin log-probabilities after the given next token of each site; equals ``all_tokens`` at those tokens."""
        state, query = self._trunk(features)
        factors = self.token_factors[tokens]  # [S, R]; elementwise, as a batch of tiny products is slow
        logits = (query * factors[:, None, :]).sum(-1) + state + self.token_bias[tokens]
        return _with_first_bin(logits)

    def prefix_law(
        self, features: Float[Tensor, "S F"], anchor_logits: Float[Tensor, "S V"]
    ) -> Float[Tensor, "S M"]:
        """The law at the prefix itself, π(s) = Σ_v p_ref(v|s) π(s·v), as log-probabilities."""
        return torch.logsumexp(
            self.all_tokens(features) + torch.log_softmax(anchor_logits.float(), dim=-1)[:, :, None], dim=1
        )


def leading_directions(matrix: Float[Tensor, "V H"], rank: int, seed: int) -> Float[Tensor, "V R"]:
    """Left singular vectors times singular values of the leading directions, by randomized subspace iteration.

    As ``torch.svd_lowrank`` (Halko et al. 2009, algorithms 4.4 and 5.1), which takes no generator of its own.
    """
    tall = matrix.shape[0] >= matrix.shape[1]
    a = matrix if tall else matrix.mT
    generator = torch.Generator(matrix.device).manual_seed(seed)
    start = torch.randn(a.shape[1], rank, generator=generator, dtype=a.dtype, device=a.device)
    basis = torch.linalg.qr(a @ start).Q
    for _ in range(2):
        basis = torch.linalg.qr(a @ torch.linalg.qr(a.mT @ basis).Q).Q
    left, singular, right = torch.linalg.svd(basis.mT @ a, full_matrices=False)
    return (basis @ left if tall else right.mT) * singular


def _with_first_bin(logits: Tensor) -> Tensor:
    """Bin 0 has logit 0; normalise."""
    return torch.log_softmax(functional.pad(logits, (1, 0)), dim=-1)


@dataclass(frozen=True)
class AuxiliaryData:
    """Labelled sites of sampled sequences, row-major by sequence.

    ``features`` [N, F] of the prefix s_t, ``tokens`` [N] the realised y_t, ``bins`` [N] the sequence's bin,
    ``sequence`` [N] its number, ``follows`` [N] the index of the site s_{t-1}, -1 at a first site.
    """

    features: Float[Tensor, "N F"]
    tokens: Int[Tensor, " N"]
    bins: Int[Tensor, " N"]
    sequence: Int[Tensor, " N"]
    follows: Int[Tensor, " N"]

    def of_sequences(self, wanted: Bool[Tensor, " Q"]) -> AuxiliaryData:
        """The sites of the wanted sequences; their numbers stay."""
        kept = wanted[self.sequence]
        position = torch.cumsum(kept.long(), 0) - 1
        follows = torch.where(self.follows[kept] < 0, self.follows[kept], position[self.follows[kept]])
        return AuxiliaryData(
            self.features[kept], self.tokens[kept], self.bins[kept], self.sequence[kept], follows
        )


def heldout_sequences(data: AuxiliaryData, seed: int, share: float = 0.1) -> Bool[Tensor, " Q"]:
    """Which sequences a fit with this seed holds out; all of them when there are too few to split."""
    num_sequences = int(data.sequence.max().item()) + 1
    chosen = torch.rand(num_sequences, generator=torch.Generator().manual_seed(seed)) < share
    inside = chosen[data.sequence]
    return chosen if bool(inside.any()) and not bool(inside.all()) else torch.ones_like(chosen)


@dataclass(frozen=True)
class FitReport:
    """Held-out quality of a fit: cross-entropy per site of the law, of the constant law, and calibration error."""

    steps: int
    train_loss: float
    heldout_loss: float
    constant_loss: float
    calibration_error: float


def fit(
    head: AuxiliaryHead,
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
    ema_decay: float = 0.98,
    progress: Callable[[int, int], None] | None = None,
) -> FitReport:
    """Train the law by Monte-Carlo cross-entropy plus one-step consistency; keeps the best held-out weights.

    Equation: mean_t CE(bin, π(s_{t-1}·y_{t-1} ... )) over realised tokens, plus ``consistency_weight`` times the
    cross-entropy of π(s_t) to sg Σ_v p_ref(v|s_t) π_EMA(s_t·v). The first is unbiased for the law of the sampler;
    the second lowers its variance and reaches tokens that were never sampled. ``corpus`` rows add the same
    cross-entropy with their weight. Held out: whole sequences of ``data``.
    Source: method.md section 3, targets 1 and 2.
    """
    device = _device(head)  # the data stay where they are; batches go to the head
    generator = torch.Generator().manual_seed(derived_seed(seed, "sites"))
    is_heldout = heldout_sequences(data, seed)[data.sequence]
    test_sites = torch.nonzero(is_heldout).squeeze(1)
    train_sites = test_sites if is_heldout.all() else torch.nonzero(~is_heldout).squeeze(1)
    labels = data.bins
    counts = torch.bincount(labels[train_sites], minlength=head.num_bins).float() + 0.5
    base_law = (counts / counts.sum()).log()
    with torch.no_grad():  # start at the constant law, which is the fitted value when nothing can be learned
        head.state.bias.add_(
            (base_law[1:] - base_law[0]).to(head.state.bias) if not _is_fitted(head) else 0.0
        )
    slow = [p.detach().clone() for p in head.parameters()]
    decayed = [
        p for p in head.parameters() if p.dim() > 1
    ]  # a decayed bias would shift the rate of rare events
    kept_free = [p for p in head.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": kept_free, "weight_decay": 0.0}],
        lr=learning_rate,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - 0.9 * step / max(1, steps))
    head.eval()
    best, train_loss = [p.detach().clone() for p in head.parameters()], 0.0
    best_loss = _site_loss(head, data, test_sites)  # a fit never ends worse than it started
    check_every = max(1, steps // 20)
    with own_draws(derived_seed(seed, "dropout")):  # the draws of dropout are this fit's own
        for step in range(steps):
            head.train()
            picked = train_sites[torch.randint(len(train_sites), (batch_size,), generator=generator)]
            log_law = head.one_token(data.features[picked].to(device), data.tokens[picked].to(device))
            loss = functional.nll_loss(log_law, labels[picked].to(device))
            if corpus is not None and corpus_weight > 0:
                beside = torch.randint(len(corpus.bins), (batch_size,), generator=generator)
                log_law = head.one_token(corpus.features[beside].to(device), corpus.tokens[beside].to(device))
                loss = loss + corpus_weight * functional.nll_loss(log_law, corpus.bins[beside].to(device))
            if consistency_weight > 0:
                loss = loss + consistency_weight * _consistency(head, slow, data, picked, anchor_logits)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if consistency_weight > 0:
                with torch.no_grad():
                    for kept, parameter in zip(slow, head.parameters(), strict=True):
                        kept.lerp_(parameter, 1 - ema_decay)
            train_loss = float(loss.detach())
            head.eval()
            if (step + 1) % check_every == 0 or step + 1 == steps:
                heldout_loss = _site_loss(head, data, test_sites)
                if heldout_loss < best_loss:
                    best, best_loss = [p.detach().clone() for p in head.parameters()], heldout_loss
                if progress is not None:
                    progress(step + 1, steps)
    with torch.no_grad():
        for parameter, kept in zip(head.parameters(), best, strict=True):
            parameter.copy_(kept)
    constant = float(functional.nll_loss(base_law.expand(len(test_sites), -1), labels[test_sites]))
    return FitReport(steps, train_loss, best_loss, constant, _calibration_error(head, data, test_sites))


def _device(head: AuxiliaryHead) -> torch.device:
    first = next(head.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def _is_fitted(head: AuxiliaryHead) -> bool:
    return bool(head.state.bias.abs().max() > 0)


def _consistency(
    head: AuxiliaryHead,
    slow: list[Tensor],
    data: AuxiliaryData,
    picked: Tensor,
    anchor_logits: Callable[[Tensor], Tensor],
    most: int = 256,
) -> Tensor:
    """Cross-entropy of π at a site, read from the site before, to its own one-step average under the slow copy."""
    later = picked[data.follows[picked] >= 0][:most]
    if len(later) == 0:
        return torch.zeros((), device=_device(head))
    earlier, device = data.follows[later], _device(head)
    names = [name for name, _ in head.named_parameters()]
    was_training = head.training
    head.eval()  # the target is a mean, without dropout
    with torch.no_grad():
        slow_log_law = torch.func.functional_call(
            _PrefixLaw(head),
            {f"head.{n}": p for n, p in zip(names, slow, strict=True)},
            (data.features[later].to(device), anchor_logits(data.features[later].to(device))),
        )
    head.train(was_training)
    log_law = head.one_token(data.features[earlier].to(device), data.tokens[earlier].to(device))
    return -(slow_log_law.exp() * log_law).sum(-1).mean()


class _PrefixLaw(nn.Module):
    """``prefix_law`` as a module's forward, for functional_call."""

    def __init__(self, head: AuxiliaryHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor, anchor_logits: Tensor) -> Tensor:
        return self.head.prefix_law(features, anchor_logits)


@torch.no_grad()
def _site_loss(head: AuxiliaryHead, data: AuxiliaryData, sites: Tensor, chunk: int = 8192) -> float:
    total, device = 0.0, _device(head)
    for part in sites.split(chunk):
        log_law = head.one_token(data.features[part].to(device), data.tokens[part].to(device))
        total += float(functional.nll_loss(log_law, data.bins[part].to(device), reduction="sum"))
    return total / len(sites)


@torch.no_grad()
def _calibration_error(head: AuxiliaryHead, data: AuxiliaryData, sites: Tensor, cells: int = 10) -> float:
    """Expected calibration error of P(bin 0) over equal-width cells, weighted by their share of sites."""
    device = _device(head)
    predicted = torch.cat(
        [
            head.one_token(data.features[part].to(device), data.tokens[part].to(device))[:, 0].exp().cpu()
            for part in sites.split(8192)
        ]
    )
    actual = (data.bins[sites] == 0).float()
    cell = (predicted * cells).long().clamp(max=cells - 1)
    error = 0.0
    for index in range(cells):
        inside = cell == index
        if inside.any():
            error += float(inside.float().mean() * (predicted[inside].mean() - actual[inside].mean()).abs())
    return error
