"""The form `head`: a small trunk on the anchor's detached features and a low-rank product with token factors.

π(s·v) for every next token v comes from one pass. Without token odds it starts without any dependence on v, so that
q̂ = p_ref before training.

Axes: ``S`` or ``N`` sites, ``V`` vocabulary, ``M`` bins, ``K`` = M-1, ``F`` features (two halves), ``R`` rank.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel, Step
from constraintlang_runtime.auxiliary.token_odds import odds_before
from constraintlang_runtime.data import Batch, next_tokens
from constraintlang_runtime.sampling import derived_seed


class AuxiliaryHead(AuxiliaryModel):
    """Bin logits of every one-token continuation: z_m(s·v) = c_m(s) + u_m(s)·e_v + b_m(v) + E_m(s·v), bin 0 fixed at 0.

    c, u are linear maps of a residual MLP of the features, with dropout; e_v are the leading singular directions of
    the anchor's output embeddings and stay fixed, so that what is learned of one token reaches its neighbours (free
    factors overfit: held-out loss 0.622 against 0.586 on 4,096 samples of the testbed model). u and b start at 0.
    E is a fixed sum over the tokens of the completion, v among them, of what each says of the bin, its log-odds
    (``token_odds.py``); 0 without them. Inputs are then the features and E so far. What a token says stays said, where
    without E the next state has to read it off the anchor's hidden state.
    ``value_law`` is the law at the prefix itself by a layer of its own, which the fit bootstraps from.
    """

    token_odds: Tensor
    mean_odds: Tensor

    def __init__(
        self,
        features: int,
        vocab_size: int,
        num_bins: int,
        *,
        rank: int,
        width: int,
        dropout: float = 0.0,
        token_odds: bool = False,
        embeddings: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.num_bins = num_bins
        self.dropout = dropout
        self.features = features
        # the state and its running mean, each by itself; without a scale of its own, which the layers after it have,
        # so that no gradient has to come down to the features
        self.norm = nn.GroupNorm(2, features, affine=False)
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
        self.reads_tokens = token_odds
        if token_odds:
            self.value = nn.Linear(width, num_bins - 1)
            nn.init.zeros_(self.value.weight)
            nn.init.zeros_(self.value.bias)
            self.register_buffer("token_odds", torch.zeros(vocab_size, num_bins - 1))
            self.register_buffer("mean_odds", torch.zeros(num_bins - 1))
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)
        nn.init.zeros_(self.state.weight)
        nn.init.zeros_(self.state.bias)
        if embeddings is not None:
            self.token_factors.copy_(token_factors(embeddings, rank))

    def inputs(
        self, batch: Batch, sites: Bool[Tensor, "B T"], features: Float[Tensor, "S F"]
    ) -> Float[Tensor, "S I"]:
        """The features, and the sum of the token odds so far where they are read."""
        before = self.read_before(next_tokens(batch.input_ids, sites), torch.nonzero(sites)[:, 0])
        return features if before is None else torch.cat([features, before], dim=1)

    def read_before(
        self, tokens: Int[Tensor, " N"], sequence: Int[Tensor, " N"]
    ) -> Float[Tensor, "N K"] | None:
        """The sum of the token odds so far, where they are read."""
        if not self.reads_tokens:
            return None
        return odds_before(self.token_odds, tokens.to(self.device), sequence.to(self.device))

    def step(self, now: Step) -> tuple[Float[Tensor, "B I"], Any]:
        """The same while decoding; the memory is the sum so far [B, K]."""
        if not self.reads_tokens:
            return now.features, None
        so_far = (
            now.features.new_zeros(len(now.features), self.num_bins - 1)
            if now.memory is None
            else now.memory + self.token_odds[now.input_ids[:, -1]]
        )
        return torch.cat([now.features, so_far], dim=1), so_far

    def select(self, memory: Any, rows: Tensor) -> Any:
        """The sums so far of some rows."""
        return memory[rows] if self.reads_tokens else memory

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.token_factors.shape[0]

    def take_odds(self, token_odds: Float[Tensor, "V K"], mean: Float[Tensor, " K"]) -> None:
        """Weights of the tokens, and the mean over sites of what they sum to, which the constant law holds already."""
        self.token_odds.copy_(token_odds)
        self.mean_odds.copy_(mean)

    def _trunk(self, inputs: Float[Tensor, "S I"]) -> tuple[Tensor, Tensor]:
        hidden, so_far = self._hidden(inputs)
        query = self.query(hidden).view(len(inputs), self.num_bins - 1, -1)
        return self.state(hidden) + so_far, query  # [S, M-1], [S, M-1, R]

    def _hidden(self, inputs: Float[Tensor, "S I"]) -> tuple[Tensor, Tensor | float]:
        """The trunk's output and the sum of the token odds so far, centred."""
        normed = self.norm(inputs[:, : self.features].float())
        hidden = self.trunk(normed) + self.skip(normed)
        return hidden, inputs[:, self.features :].float() - self.mean_odds if self.reads_tokens else 0.0

    def _bias(self, tokens: Tensor | slice = slice(None)) -> Float[Tensor, "V K"]:
        """What a next token adds wherever it stands, for all tokens or some."""
        own = self.token_bias[tokens]
        return own + self.token_odds[tokens] if self.reads_tokens else own

    def value_law(self, inputs: Float[Tensor, "S I"]) -> Float[Tensor, "S M"]:
        """Bin log-probabilities at the prefixes themselves. Gradient: to the parameters."""
        hidden, so_far = self._hidden(inputs)
        return _with_first_bin(self.value(hidden) + so_far)

    def all_tokens(self, features: Float[Tensor, "S F"]) -> Float[Tensor, "S V M"]:
        """Bin log-probabilities after every next token. Gradient: to the parameters; features are detached."""
        state, query = self._trunk(features)
        logits = torch.einsum("smr,vr->svm", query, self.token_factors) + state[:, None, :] + self._bias()
        return _with_first_bin(logits)

    def log_values(
        self, inputs: Float[Tensor, "S F"], log_potential: Float[Tensor, "*S_or_1 M"]
    ) -> Float[Tensor, "S V"]:
        """log V(s·v) without the law in between, where no gradient is asked for.

        Equation: V = ψ_min + (ψ_max - ψ_min) σ(±z) for two bins, Σ_m ψ_m softmax(z)_m for more: sums of positive
        numbers, so that V keeps its relative precision however small.
        """
        if torch.is_grad_enabled() and any(
            p.requires_grad for p in (*self.parameters(), inputs, log_potential)
        ):
            return super().log_values(inputs, log_potential)
        state, query = self._trunk(inputs)
        potential = log_potential.to(state).exp()
        factors, bias = self.token_factors.T, self._bias()
        if self.num_bins > 2 or potential.dim() > 1:
            logits = torch.zeros(
                self.num_bins, len(state), factors.shape[1], dtype=state.dtype, device=state.device
            )
            for m in range(1, self.num_bins):
                torch.addmm(bias[:, m - 1], query[:, m - 1], factors, out=logits[m])
                logits[m] += state[:, m - 1, None]
            law = torch.softmax(logits, dim=0, out=logits)
            each = potential.unbind(-1)
            value = law[0].mul_(each[0][..., None])
            for m in range(1, self.num_bins):
                value.addcmul_(law[m], each[m][..., None])
            return value.log_()
        low, high = potential.amin(), potential.amax()
        sign = torch.where(potential[1] > potential[0], 1.0, -1.0).to(state)  # of the logit of bin 1 in σ
        value = torch.addmm(bias[:, 0] * sign, query[:, 0] * sign, factors)
        value.add_(state * sign).sigmoid_()
        return value.mul_(high - low).add_(low).log_()

    def one_token(self, features: Float[Tensor, "S F"], tokens: Int[Tensor, " S"]) -> Float[Tensor, "S M"]:
        """Bin log-probabilities after the given next token of each site; equals ``all_tokens`` at those tokens."""
        return self._after(*self._hidden(features), tokens)

    def observed_laws(
        self, inputs: Float[Tensor, "S I"], tokens: Int[Tensor, " S"]
    ) -> tuple[Float[Tensor, "S M"], Float[Tensor, "S M"]]:
        """``one_token`` and ``value_law`` from one pass of the trunk, under the same dropout."""
        hidden, so_far = self._hidden(inputs)
        return self._after(hidden, so_far, tokens), _with_first_bin(self.value(hidden) + so_far)

    def _after(
        self, hidden: Float[Tensor, "S W"], so_far: Tensor | float, tokens: Int[Tensor, " S"]
    ) -> Float[Tensor, "S M"]:
        query = self.query(hidden).view(len(hidden), self.num_bins - 1, -1)
        factors = self.token_factors[tokens]  # [S, R]; elementwise, as a batch of tiny products is slow
        logits = (query * factors[:, None, :]).sum(-1) + self.state(hidden) + so_far + self._bias(tokens)
        return _with_first_bin(logits)

    @torch.no_grad()
    def start_at(self, log_law: Float[Tensor, " M"]) -> None:
        """Put the constant law into the bias, which is the fitted value when nothing can be learned."""
        if not bool(self.state.bias.abs().max() > 0):
            self.state.bias.add_((log_law[1:] - log_law[0]).to(self.state.bias))
            if self.reads_tokens:
                self.value.bias.copy_(self.state.bias)

    def record(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "form": "head",
            "features": self.features,
            "vocab_size": self.token_factors.shape[0],
            "num_bins": self.num_bins,
            "rank": self.token_factors.shape[1],
            "width": self.skip.out_features,
            "dropout": self.dropout,
            "token_odds": self.reads_tokens,
        }


@torch.no_grad()
def token_factors(embeddings: Float[Tensor, "V H"], rank: int) -> Float[Tensor, "V R"]:
    """Leading left singular vectors of the centred embeddings, unit mean square norm; 0 beyond their rank."""
    found = torch.zeros(len(embeddings), rank)
    kept = min(rank, *embeddings.shape)
    centred = embeddings.float() - embeddings.float().mean(0)
    factors = leading_directions(centred, kept, derived_seed("token factors"))
    found[:, :kept] = factors / factors.norm(dim=1).square().mean().sqrt().clamp_min(1e-6)
    return found


def _with_first_bin(logits: Tensor) -> Tensor:
    """Bin 0 has logit 0; normalise."""
    return torch.log_softmax(functional.pad(logits, (1, 0)), dim=-1)


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
