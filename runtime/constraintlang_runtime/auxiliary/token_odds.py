"""What single tokens say of the bin of a response: a logistic regression on how often each of them occurs in it.

Axes: ``N`` sites of responses, ``V`` vocabulary, ``M`` bins, ``K`` = M-1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel
from constraintlang_runtime.auxiliary.samples import AuxiliaryData
from constraintlang_runtime.data import TokenRow

PRIOR_VARIANCE = 0.5  # of a token's weight; between 0.5 and 1 on the testbed, see docs/method.md
ITERATIONS = 100


def fit_token_odds(
    rows: Sequence[TokenRow], bins: Int[Tensor, " Q"], *, vocab_size: int, num_bins: int
) -> Float[Tensor, "V K"]:
    """Weights B of the tokens in log P(bin m | y) - log P(bin 0 | y) = b_m + Σ_i B[y_i, m], from labelled responses.

    Equation: the mode of Σ_responses log P(bin | y) - |B|² / (2 ``PRIOR_VARIANCE``), by L-BFGS; it is concave, so there
    is one. A token that no response has weighs 0. Any text that was labelled counts alike, whoever wrote it: this is
    a model of the labels and not of the texts. Units: nats. Cost: a pass over the tokens for each iteration.
    """
    lengths = torch.tensor([len(row.completion) for row in rows])
    tokens = torch.tensor([token for row in rows for token in row.completion])
    seen, places = tokens.unique(return_inverse=True)
    offsets = lengths.cumsum(0) - lengths
    weights = torch.zeros(len(seen), num_bins - 1, requires_grad=True)
    counts = torch.bincount(bins, minlength=num_bins).float() + 0.5
    shift = (counts[1:] / counts[0]).log().requires_grad_(True)
    optimizer = torch.optim.LBFGS([weights, shift], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = functional.embedding_bag(places, weights, offsets, mode="sum") + shift
        loss = functional.cross_entropy(functional.pad(logits, (1, 0)), bins, reduction="sum")
        loss = (loss + weights.square().sum() / (2 * PRIOR_VARIANCE)) / len(rows)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    found = torch.zeros(vocab_size, num_bins - 1)
    found[seen] = weights.detach()
    return found


def odds_before(
    token_odds: Float[Tensor, "V K"], tokens: Int[Tensor, " N"], sequence: Int[Tensor, " N"]
) -> Float[Tensor, "N K"]:
    """Σ of the weights of the tokens before each site in its own response; sites of a response follow each other.

    ``tokens`` are those after the sites, ``sequence`` the number of each site's response.
    """
    own = token_odds[tokens].double()
    total = own.cumsum(0) - own
    first = torch.ones_like(sequence, dtype=torch.bool)
    first[1:] = sequence[1:] != sequence[:-1]
    starts = torch.nonzero(first).squeeze(1)
    base = total[starts][torch.cumsum(first.long(), 0) - 1]
    return (total - base).to(token_odds)


def give_token_odds(
    model: AuxiliaryModel,
    data: AuxiliaryData,
    heldout: Bool[Tensor, " Q"],
    more: tuple[Sequence[TokenRow], Int[Tensor, " R"]] | None,
    *,
    vocab_size: int,
) -> None:
    """Give a new model that reads them the weights of the tokens, from every labelled text but the held-out ones.

    ``more`` are rows and bins beside the data's. A model that does not read tokens is left as it is.
    """
    if not model.reads_tokens:
        return
    kept = heldout if heldout.all() else ~heldout
    first = torch.nonzero(data.follows < 0).squeeze(1)
    first = first[kept[data.sequence[first]]]
    rows, bins = [data.rows[i] for i in data.sequence[first].tolist()], data.bins[first]
    if more is not None:
        rows, bins = [*rows, *more[0]], torch.cat([bins, more[1]])
    found = fit_token_odds(rows, bins, vocab_size=vocab_size, num_bins=model.num_bins)
    after = odds_before(found, data.tokens, data.sequence) + found[data.tokens]
    model.take_odds(found, after[kept[data.sequence]].mean(0))
