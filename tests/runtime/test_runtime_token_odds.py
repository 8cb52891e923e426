"""What single tokens say of a bin, and laws that are learned from the guess of the prefix after."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from constraintlang_runtime.auxiliary.token_odds import PRIOR_VARIANCE, fit_token_odds, odds_before
from constraintlang_runtime.data import TokenRow


def rows_of(completions: list[list[int]]) -> list[TokenRow]:
    return [TokenRow((0,), tuple(tokens), {}, False) for tokens in completions]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=6), st.integers(0, 99)
)
def test_odds_before_a_site_is_the_sum_over_the_tokens_before_it(
    completions: list[list[int]], seed: int
) -> None:
    """By a loop over every response."""
    weights = torch.randn(5, 2, generator=torch.Generator().manual_seed(seed))
    tokens = torch.tensor([token for own in completions for token in own])
    sequence = torch.tensor([7 + number for number, own in enumerate(completions) for _ in own])
    found = odds_before(weights, tokens, sequence)
    expected = [weights[own[:t]].sum(0) for own in completions for t in range(len(own))]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(2, 4))
def test_the_weights_are_the_mode_of_their_posterior(seed: int, num_bins: int) -> None:
    """Weight / variance = Σ count (label - probability) in every token and bin; tokens that never occur weigh 0."""
    draw = np.random.default_rng(seed)
    completions = [draw.integers(0, 6, draw.integers(1, 8)).tolist() for _ in range(40)]
    bins = torch.from_numpy(draw.integers(0, num_bins, 40))
    weights = fit_token_odds(rows_of(completions), bins, vocab_size=9, num_bins=num_bins).double()
    assert (weights[6:] == 0).all()
    counts = torch.zeros(40, 9, dtype=torch.float64)
    for number, own in enumerate(completions):
        for token in own:
            counts[number, token] += 1
    # the shift has no prior, so that its own condition gives it
    shift = torch.zeros(num_bins - 1, dtype=torch.float64)
    for _ in range(400):
        law = torch.softmax(functional.pad(counts @ weights + shift, (1, 0)), 1)[:, 1:]
        share = torch.stack([(bins == m).double().mean() for m in range(1, num_bins)])
        shift = shift + (share.clamp_min(1e-9) / law.mean(0)).log()
    label = functional.one_hot(bins, num_bins)[:, 1:].double()
    torch.testing.assert_close(weights / PRIOR_VARIANCE, counts.T @ (label - law), atol=2e-2, rtol=2e-2)


def test_a_word_that_decides_is_found_among_words_that_do_not() -> None:
    """Responses violate by token 3 alone: it weighs most, and nothing else weighs half of it."""
    draw = np.random.default_rng(3)
    completions = [draw.integers(0, 12, 10).tolist() for _ in range(600)]
    bins = torch.tensor([int(3 in own) for own in completions])
    weights = fit_token_odds(rows_of(completions), bins, vocab_size=12, num_bins=2).squeeze(1)
    others = torch.cat([weights[:3], weights[4:]]).abs()
    assert weights[3] > 2.0
    assert others.max() < 0.5 * weights[3]
