"""Path consistency (VarGrad): a loss that holds whatever law the sequences were drawn from.

Axes: ``Q`` sequences drawn, ``S`` their sites, ``V`` vocabulary, ``M`` bins.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel
from constraintlang_runtime.auxiliary.samples import AuxiliaryData, Draw, Reader
from constraintlang_runtime.draws import own_draws
from constraintlang_runtime.errors import TrainingError
from constraintlang_runtime.regularizer import log_values

TILT = 3.0  # the potentials drawn are exp(-u), u uniform in [0, TILT] for each bin
CHUNK = 1 << 22  # values of V(s·v) held at once


class PathReader(Reader):
    """Draws whole sequences, several of one prompt together, for every form."""

    def __init__(
        self,
        model: AuxiliaryModel,
        data: AuxiliaryData,
        sites: Int[Tensor, " N"],
        *,
        like: Reader | None = None,
    ) -> None:
        super().__init__(model, data, sites, like=like)
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for number, span in enumerate(self.spans):
            by_prompt.setdefault(data.rows[int(data.sequence[span[0]])].prompt, []).append(number)
        self._several = [torch.tensor(numbers) for numbers in by_prompt.values() if len(numbers) > 1]
        if not self._several:
            raise TrainingError(
                "vargrad compares completions of one prompt, and no prompt was sampled twice",
                help="raise --anchor_samples above the number of prompts, or leave vargrad_weight out",
            )

    def draw_paths(
        self, count: int, generator: torch.Generator, most: int = 8
    ) -> tuple[Draw, Tensor, Tensor]:
        """About ``count`` sequences: their sites, each site's sequence [S], and each sequence's prompt [Q]."""
        chosen: list[Tensor] = []
        prompts: list[Tensor] = []
        while sum(len(part) for part in chosen) < count:
            number = int(torch.randint(len(self._several), (), generator=generator))
            group = self._several[number]
            picked = group[torch.randperm(len(group), generator=generator)[:most]]
            chosen.append(picked)
            prompts.append(torch.full_like(picked, len(prompts)))
        numbers = torch.cat(chosen)
        lengths = torch.tensor([len(self.spans[i]) for i in numbers.tolist()])
        path = torch.arange(len(numbers)).repeat_interleave(lengths)
        return self.read(numbers), path, torch.cat(prompts)


def path_variance(
    reader: PathReader, count: int, anchor_logits: Callable[[Tensor], Tensor], generator: torch.Generator
) -> Float[Tensor, ""]:
    """The variance, within a prompt, of what the law leaves unexplained along a path.

    Equation: r(y) = log ψ(m(y)) - Σ_t [log V(s_t·y_t) - log Σ_v p_ref(v|s_t) V(s_t·v)]; the loss is the mean of
    (r - mean of r over the prompt's sequences)². For the exact law r = log V(x) on every path, whatever law the paths
    came from: log ψ = log q(y)/p_ref(y) + log Z. ψ is drawn anew at every call, so that the loss holds for every λ.
    It sets V(s·v) up to a factor for each prefix, which is why it stands beside the cross-entropy. Units: nats².
    Gradient: to the model. Source: Richter et al. 2020 (VarGrad, arXiv 2010.10436); Malkin et al. 2022 (GFlowNets,
    arXiv 2201.13259).
    """
    model, data = reader.model, reader.data
    drawn, path, prompt = reader.draw_paths(count, generator)
    device = model.device
    log_potential = -TILT * torch.rand(model.num_bins, generator=generator)
    bins = torch.zeros(len(prompt), dtype=torch.long).scatter(0, path, data.bins[drawn.sites])

    def step(inputs: Tensor, features: Tensor, tokens: Tensor, seed: int) -> Tensor:
        with own_draws(seed):  # the backward pass comes here again, and drops the same units
            value = log_values(model.all_tokens(inputs), log_potential.to(device))
        mean = torch.logsumexp(torch.log_softmax(anchor_logits(features).float(), dim=-1) + value, dim=-1)
        return value.gather(1, tokens[:, None]).squeeze(1) - mean

    size = max(1, CHUNK // int(anchor_logits(drawn.features[:1]).shape[-1]))
    tokens = data.tokens[drawn.sites].to(device)
    parts = list(zip(drawn.inputs.split(size), drawn.features.split(size), tokens.split(size), strict=True))
    seeds = torch.randint(1 << 62, (len(parts),), generator=generator).tolist()
    steps = torch.cat(
        [
            checkpoint(step, *part, seed, use_reentrant=False, preserve_rng_state=False)
            for part, seed in zip(parts, seeds, strict=True)
        ]
    )
    residual = log_potential[bins].to(device).index_add(0, path.to(device), -steps)
    where = prompt.to(device)
    sums = residual.new_zeros(int(prompt.max()) + 1).index_add(0, where, residual)
    sizes = torch.bincount(where)
    return (residual - (sums / sizes)[where]).square().sum() / (sizes - 1).sum()
