"""The auxiliary model: its algebra, the labels it is fitted to, and what the fit converges to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from enumerable_world import END, World, random_world
from hypothesis import given, settings
from hypothesis import strategies as st
from tabular_model import TabularLM, all_rows, state_features, state_of, token_row
from torch.nn import functional
from world_policy import Case, duals_of, make_case

from constraintlang_runtime import checkpoint
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.auxiliary import AuxiliaryData, AuxiliaryHead, fit, heldout_sequences
from constraintlang_runtime.auxiliary.calibration import expected_error
from constraintlang_runtime.auxiliary.fit import heldout_loss, reliability_curve
from constraintlang_runtime.auxiliary.losses import consistency
from constraintlang_runtime.auxiliary.samples import Draw, Reader
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.decoding import Guidance
from constraintlang_runtime.errors import TrainingError
from constraintlang_runtime.fitting import explained_share, potential_exponent, read_features
from constraintlang_runtime.regularizer import log_values, target_log_probs
from constraintlang_runtime.settings import ConstraintSettings

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
WEIGHT_DECAY = ConstraintSettings().auxiliary_weight_decay


def small(seed: int) -> World:
    return random_world(seed, vocab_size=3, length=3, num_prompts=3)


def random_head(seed: int, features: int, vocab_size: int, num_bins: int) -> AuxiliaryHead:
    """A head with every parameter away from its start."""
    torch.manual_seed(seed)
    head = AuxiliaryHead(features, vocab_size, num_bins, rank=3, width=7)
    for parameter in head.parameters():
        parameter.data = torch.randn_like(parameter)
    return head.eval().requires_grad_(False)


# ------------------------------------------------------------ algebra
@few
@given(seeds, st.integers(2, 6))
def test_one_token_is_all_tokens_at_that_token_and_both_are_laws(seed, num_bins):
    head = random_head(seed, 6, 9, num_bins)
    features, tokens = torch.randn(11, 6), torch.randint(9, (11,))
    every = head.all_tokens(features)
    assert every.shape == (11, 9, num_bins)
    torch.testing.assert_close(every.exp().sum(-1), torch.ones(11, 9))
    torch.testing.assert_close(
        head.one_token(features, tokens), every[torch.arange(11), tokens], atol=1e-3, rtol=1e-4
    )


@few
@given(seeds, st.integers(2, 6))
def test_prefix_law_is_the_anchor_weighted_sum_over_tokens(seed, num_bins):
    """π(s) = Σ_v p_ref(v|s) π(s·v), whatever constant the logits carry."""
    head = random_head(seed, 6, 9, num_bins)
    features, logits = torch.randn(11, 6), 2 * torch.randn(11, 9)
    weights = torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True)
    expected = (weights[:, :, None] * head.all_tokens(features).exp()).sum(1)
    torch.testing.assert_close(head.prefix_law(features, logits + 4.0).exp(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("rank", [2, 4, 20])
def test_a_new_head_starts_without_any_tilt(rank):
    """π(s·v) does not depend on v, so q̂ = p_ref for every potential; factors have unit mean square norm."""
    torch.manual_seed(0)
    embeddings = torch.randn(9, 6) * 2.0 ** -torch.arange(6)  # directions of unequal size
    head = AuxiliaryHead(6, 9, 3, rank=rank, width=7, embeddings=embeddings)
    logits, features = torch.randn(4, 9), torch.randn(4, 6)
    value = log_values(head.eval().all_tokens(features), torch.tensor([0.0, -1.0, -7.0]))
    torch.testing.assert_close(target_log_probs(logits, value), torch.log_softmax(logits, dim=-1))
    torch.testing.assert_close(head.token_factors.norm(dim=1).square().mean(), torch.tensor(1.0))
    centred = embeddings - embeddings.mean(0)
    # the factors are the projection of the centred embeddings on their leading directions, up to scale
    kept = min(rank, 6)
    exact = torch.linalg.svd(centred)[1][:kept]
    found = torch.linalg.svdvals(head.token_factors.detach()[:, :kept])
    torch.testing.assert_close(found / found[0], exact / exact[0], rtol=0.05, atol=0.02)


# ------------------------------------------------------------ labels and features
def read(case: Case, pairs: list[tuple[int, int]], batch_size: int, pad_id: int = END) -> AuxiliaryData:
    anchor = Anchor(TabularLM(case.world, case.world.table))
    rows = [token_row(case.world, x, n) for x, n in pairs]
    bins = np.array([case.bins[pair] for pair in pairs])
    return read_features(anchor, rows, bins, pad_id, batch_size)


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
@pytest.mark.parametrize("pad_id", [END, 2])
def test_read_features_gives_every_prefix_its_token_label_and_predecessor(batch_size, pad_id):
    """Site by site against the list of sequences, the running mean too; batching and the pad token change nothing."""
    case = make_case(small(1), "never", "rarely")
    pairs = all_rows(case.world)
    data, expected = read(case, pairs, batch_size, pad_id), state_features(case.world)
    site = 0
    for number, (x, n) in enumerate(pairs):
        y = case.world.sequences[n]
        for t, s in enumerate(case.world.path(n)):
            torch.testing.assert_close(data.features[site], expected[x * len(case.world.prefixes) + s])
            assert (data.tokens[site].item(), data.bins[site].item()) == (y[t], case.bins[x, n])
            assert (data.sequence[site].item(), data.follows[site].item()) == (number, site - 1 if t else -1)
            site += 1
    assert site == len(data.tokens) == len(data.features)


def test_read_features_leaves_out_empty_completions_and_refuses_nothing_at_all():
    case = make_case(small(1), "rarely")
    anchor, empty = Anchor(TabularLM(case.world, case.world.table)), TokenRow((1,), (), {}, False)
    row = token_row(case.world, 2, 5)
    data = read_features(anchor, [empty, row, empty], np.array([0, 1, 0]), END, 2)
    assert data.tokens.tolist() == list(row.completion)
    assert data.bins.unique().tolist() == [1]
    with pytest.raises(TrainingError, match="empty"):
        read_features(anchor, [empty], np.array([0]), END, 2)


@few
@given(seeds)
def test_exact_law_is_consistent_along_every_sequence(seed):
    """π(s_{t-1}·y_{t-1}) = Σ_v p_ref(v|s_t) π(s_t·v): the loss `_consistency` is the entropy of π there."""
    case = make_case(small(seed), "never", "rarely")
    data = read(case, all_rows(case.world), 64)
    head = case.group(np.zeros(1)).head
    anchor = Anchor(TabularLM(case.world, case.world.table))
    later = torch.nonzero(data.follows >= 0).squeeze(1)
    before = head.one_token(data.features[data.follows[later]], data.tokens[data.follows[later]])
    here = head.prefix_law(data.features[later], anchor.logits_from(data.features[later]))
    torch.testing.assert_close(before.exp(), here.exp(), atol=1e-6, rtol=1e-5)


@few
@given(seeds)
def test_consistency_loss_is_the_cross_entropy_to_the_one_step_average(seed):
    """CE(Σ_v p_ref π_slow(s_t·v), π(s_{t-1}·y_{t-1})) by hand, the slow copy held apart from the head."""
    case = make_case(small(seed), "rarely")
    data = read(case, all_rows(case.world)[:20], 64)
    anchor = Anchor(TabularLM(case.world, case.world.table))
    head, other = (random_head(seed + i, data.features.shape[1], 3, 2) for i in range(2))
    other.token_factors = head.token_factors  # fixed directions, not part of what is averaged
    picked = torch.arange(len(data.tokens))
    reader, features = Reader(head, data, picked), data.features
    loss = consistency(reader, list(other.parameters()), Draw(features, picked, features), anchor.logits_from)
    total, count = 0.0, 0
    for site in picked[data.follows >= 0].tolist():
        logits = anchor.logits_from(data.features[site][None])
        target = (
            torch.softmax(logits, -1)[0, :, None] * other.all_tokens(data.features[site][None])[0].exp()
        ).sum(0)
        earlier = int(data.follows[site])
        at = head.all_tokens(data.features[earlier][None])[0, int(data.tokens[earlier])]
        total, count = total - float((target * at).sum()), count + 1
    np.testing.assert_allclose(loss.item(), total / count, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------ the fit
def sampled(case: Case, count: int, seed: int) -> AuxiliaryData:
    """``count`` draws as ``read`` would give them, each listed row read once."""
    world = case.world
    pairs = all_rows(world)
    listed = read(case, pairs, 256)
    place = np.empty((world.num_prompts, len(world.sequences)), dtype=np.int64)
    place[tuple(np.array(pairs).T)] = np.arange(len(pairs))
    drawn = place[world.draw(world.law, count, seed)]
    lengths = np.bincount(listed.sequence.numpy())
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    sequence = np.repeat(np.arange(count), lengths[drawn])
    within = np.arange(len(sequence)) - np.repeat(np.cumsum(lengths[drawn]) - lengths[drawn], lengths[drawn])
    site = torch.from_numpy(starts[drawn][sequence] + within)
    follows = torch.from_numpy(np.where(within > 0, np.arange(len(sequence)) - 1, -1))
    return AuxiliaryData(
        listed.features[site], listed.tokens[site], listed.bins[site], torch.from_numpy(sequence), follows
    )


@pytest.mark.parametrize("rate", [0.03, 0.3, 0.8])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_known_defect_constant_label_rate_is_fitted_as_itself(rate, weight):
    """Labels that depend on nothing, rate c: the fitted value is c (not at most 0.5, not min(1, c/(1-c)))."""
    case = make_case(small(2), "rarely")
    data = sampled(case, 4000, 3)
    of_sequence = torch.from_numpy(np.random.default_rng(4).permutation(4000) < rate * 4000).long()
    data = AuxiliaryData(data.features, data.tokens, of_sequence[data.sequence], data.sequence, data.follows)
    torch.manual_seed(0)
    head = AuxiliaryHead(data.features.shape[1], 3, 2, rank=3, width=16)
    anchor = Anchor(TabularLM(case.world, case.world.table))
    report = fit(
        head, data, anchor.logits_from, steps=60, learning_rate=3e-3, batch_size=512,
        consistency_weight=weight, weight_decay=WEIGHT_DECAY, seed=0,
    )  # fmt: skip
    first = data.features[data.follows < 0]
    fitted = head.prefix_law(first, anchor.logits_from(first)).exp()[:, 1].mean().item()
    assert abs(fitted - rate) < 0.1 * rate + 0.01
    assert report.heldout_loss < report.constant_loss + 0.01
    assert report.calibration_error < 0.03


@pytest.mark.parametrize("chosen", [("rarely",), ("never", "rarely"), ("mean",)])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_fit_on_samples_approaches_the_exact_law(chosen, weight):
    """π̂(s·v) against the enumeration, weighted by how often s·v is visited; also the value of a tilt."""
    case = make_case(small(5), *chosen)
    world, num_bins = case.world, case.target.num_bins
    data = sampled(case, 4000, 6)
    torch.manual_seed(0)
    head = AuxiliaryHead(data.features.shape[1], 3, num_bins, rank=3, width=48)
    anchor = Anchor(TabularLM(world, world.table))
    report = fit(
        head, data, anchor.logits_from, steps=120, learning_rate=1e-2, batch_size=512,
        consistency_weight=weight, weight_decay=WEIGHT_DECAY, seed=0,
    )  # fmt: skip
    exact = world.bin_law(world.law, case.bins, num_bins)
    features = state_features(world)
    found = head.all_tokens(features).exp().detach().numpy().reshape(*world.table.shape, num_bins)
    mass = world.prompt_law[:, None, None] * world.mass(world.law)[:, world.child]
    distance = 0.5 * np.abs(found - exact[:, world.child]).sum(-1)
    assert (mass * distance).sum() / mass.sum() < 0.06
    at_prompts = features[[state_of(world, prompt) for prompt in ((1,), (2, 1), (2, 2))]]
    law = head.prefix_law(at_prompts, anchor.logits_from(at_prompts)).exp().detach().numpy()
    np.testing.assert_allclose(law, exact[:, 0], atol=0.08)
    assert report.heldout_loss < report.constant_loss - 0.02


@pytest.mark.parametrize("chosen", [("never", "rarely"), ("rarely", "rarely other")])
def test_fit_on_many_samples_converges_to_the_exact_law_and_target(chosen):
    """Total variation of π̂(s·v) from π under 0.02 and KL(q̂‖q*) of whole sequences under 0.01 nats.

    One chance clause alone is among the forms.
    """
    case = make_case(small(5), *chosen)
    world, num_bins = case.world, case.target.num_bins
    data = sampled(case, 30_000, 6)
    torch.manual_seed(0)
    head = AuxiliaryHead(data.features.shape[1], 3, num_bins, rank=3, width=48)
    anchor = Anchor(TabularLM(world, world.table))
    fit(
        head, data, anchor.logits_from, steps=400, learning_rate=1e-2, batch_size=2048, consistency_weight=0.0,
        weight_decay=0.0, seed=0,
    )  # fmt: skip
    exact = world.bin_law(world.law, case.bins, num_bins)
    log_law = head.all_tokens(state_features(world)).detach()
    found = log_law.exp().numpy().reshape(*world.table.shape, num_bins)
    weight = world.prompt_law[:, None, None] * world.mass(world.law)[:, world.child]
    distance = 0.5 * np.abs(found - exact[:, world.child]).sum(-1)
    assert (weight * distance).sum() / weight.sum() < 0.02
    strengths = duals_of(case, 2.0)
    value = log_values(log_law, torch.from_numpy(case.log_potential(strengths)).float())
    logits = torch.from_numpy(np.log(world.table)).flatten(0, 1)
    target = target_log_probs(logits, value).exp().double().numpy().reshape(world.table.shape)
    projected, _ = world.tilt(world.law, np.exp(case.log_potential(strengths))[case.bins])
    divergence = world.kl(world.law_of(target), projected)
    assert 0 < world.over_prompts(divergence) < 0.01
    assert world.over_prompts(world.kl(world.law, projected)) > 0.1  # and it is not that nothing was asked


def test_fit_is_reproducible_and_a_second_fit_starts_from_the_first():
    case = make_case(small(7), "rarely")
    data, anchor = sampled(case, 500, 8), Anchor(TabularLM(case.world, case.world.table))
    options = {
        "learning_rate": 3e-3,
        "batch_size": 128,
        "consistency_weight": 0.5,
        "weight_decay": WEIGHT_DECAY,
        "seed": 1,
    }
    heads = []
    for other in range(2):
        torch.manual_seed(0)
        heads.append(AuxiliaryHead(data.features.shape[1], 3, 2, rank=3, width=8, dropout=0.3))
        torch.manual_seed(other)  # whatever the rest of the program has drawn, before and after
        state = torch.random.get_rng_state()
        fit(heads[-1], data, anchor.logits_from, steps=20, **options)
        assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(*(head.parameters() for head in heads), strict=True))
    before = heads[0].one_token(data.features, data.tokens).detach()
    fit(heads[0], data, anchor.logits_from, steps=1, **(options | {"learning_rate": 0.0}))
    assert torch.equal(before, heads[0].one_token(data.features, data.tokens))


def test_a_fitted_head_comes_back_from_a_checkpoint_as_the_same_law(tmp_path):
    """After ``load_groups`` the law is deterministic and bit-equal: no dropout is left switched on."""
    case = make_case(small(7), "rarely")
    data, anchor = sampled(case, 500, 8), Anchor(TabularLM(case.world, case.world.table))
    group, restored = case.group(np.array([1.0])), case.group(np.array([0.0]))
    torch.manual_seed(0)
    group.head = AuxiliaryHead(data.features.shape[1], 3, 2, rank=3, width=8, dropout=0.3)
    fit(
        group.head, data, anchor.logits_from, steps=30, learning_rate=1e-2, batch_size=128,
        consistency_weight=0.0, weight_decay=WEIGHT_DECAY, seed=0,
    )  # fmt: skip
    checkpoint.save_groups(tmp_path, [group], {})
    checkpoint.load_groups(tmp_path, [restored], torch.device("cpu"))
    assert restored.duals.tolist() == [1.0]
    assert torch.equal(group.head.all_tokens(data.features), restored.head.all_tokens(data.features))
    assert torch.equal(group.log_potential(), restored.log_potential())


def test_calibration_error_of_the_exact_law_is_small_and_of_a_wrong_law_is_its_error():
    case = make_case(small(9), "rarely")
    data, head = sampled(case, 4000, 10), case.group(np.zeros(1)).head
    every = Reader(head, data, torch.arange(len(data.tokens)))
    assert expected_error(reliability_curve(every, 100)) < 0.03
    head.table = torch.log_softmax(torch.tensor([4.0, 0.0]), 0).expand_as(head.table)
    wrong = 1 / (1 + np.exp(-4.0)) - (data.bins == 0).float().mean().item()
    (cell,) = reliability_curve(every, 100)
    assert cell.count == len(data.tokens)
    np.testing.assert_allclose(cell.predicted - cell.actual, wrong, atol=1e-5)
    np.testing.assert_allclose(expected_error((cell,)), abs(wrong), atol=1e-5)
    expected = functional.nll_loss(head.one_token(data.features, data.tokens), data.bins).item()
    np.testing.assert_allclose(heldout_loss(every, 100), expected, rtol=1e-5)


# ------------------------------------------------------------ guided decoding
@few
@given(seeds, st.floats(0.05, 5.0), st.sampled_from([1.0, 3.0]))
def test_guidance_samples_from_the_projected_law(seed, dual, exponent):
    """Softmax of the processed logits = the exact conditional of p ψ / Z at every open prefix; p V^γ when asked."""
    case = make_case(small(seed), "rarely")
    world, model = case.world, TabularLM(case.world, case.world.table)
    group = case.group(np.array([dual]))
    guidance = Guidance(group.head, group.log_potential(), exponent)
    potential = case.potential(np.array([dual]))
    expected = world.table * world.value(potential)[:, world.child] ** exponent
    expected /= expected.sum(-1, keepdims=True)
    if exponent == 1.0:
        projected, _ = world.tilt(world.law, potential)
        np.testing.assert_allclose(expected, world.next_token(projected), atol=1e-9)
    with guidance.attached(model):
        for s, prefix in enumerate(world.prefixes):
            ids = torch.tensor([[2, 1, *prefix], [2, 2, *prefix]])
            scores = guidance(ids, model(ids, torch.ones_like(ids)).logits[:, -1])
            torch.testing.assert_close(
                torch.softmax(scores, -1).double(), torch.from_numpy(expected[1:, s]), atol=2e-5, rtol=1e-4
            )
    with pytest.raises(RuntimeError, match="not attached"):
        guidance(ids, scores)


def test_guidance_reads_what_the_anchor_reads():
    """Token by token, and again for another call of generate: the head sees the anchor's own features."""
    case = make_case(small(3), "rarely")
    world, model = case.world, TabularLM(case.world, case.world.table)
    expected, potential = state_features(world), torch.tensor([0.0, -2.0])
    head = random_head(1, expected.shape[1], 3, 2)
    guidance = Guidance(head, potential)
    with guidance.attached(model):
        for n in (0, len(world.sequences) // 2, len(world.sequences) - 1):
            for s in world.path(n):
                ids = torch.tensor([[2, 1, *world.prefixes[s]]])
                logits = model(ids, torch.ones_like(ids)).logits[:, -1]
                at = expected[[len(world.prefixes) + s]]
                torch.testing.assert_close(
                    guidance(ids, logits),
                    logits + log_values(head.all_tokens(at), potential),
                    atol=1e-4,
                    rtol=1e-4,
                )


# ------------------------------------------------------------ what the law explains
@pytest.mark.parametrize("kept", [1.0, 0.5, 0.0])
def test_explained_share_is_one_for_the_exact_law_and_falls_with_its_token_preferences(kept):
    """π' = kept · π(s·v) + (1 - kept) · π(s): the same law at every prefix, advantages times ``kept``."""
    case = make_case(small(11), "rarely")
    world, group = case.world, case.group(np.array([1.5]))
    data = sampled(case, 6000, 12)
    law = world.bin_law(world.law, case.bins, case.target.num_bins)
    after, here = law[:, world.child], law[:, : len(world.prefixes), None]
    with np.errstate(divide="ignore"):
        mixed = np.log(kept * after + (1 - kept) * here).reshape(-1, *after.shape[2:])
    group.head.table = torch.from_numpy(mixed).float()
    anchor = Anchor(TabularLM(world, world.table))
    share = explained_share(group.head, data, anchor, -group.log_potential())
    assert abs(share - kept) < 0.1
    exponent = potential_exponent(share)
    assert exponent == min(8.0, max(1.0, 1 / max(share, 1e-6)))


def test_held_out_sequences_are_renumbered_with_their_predecessors():
    case = make_case(small(11), "rarely")
    data = sampled(case, 300, 12)
    wanted = heldout_sequences(data, 3)
    part = data.of_sequences(wanted)
    assert 0 < len(part.bins) < len(data.bins)
    assert set(part.sequence.tolist()) == set(torch.nonzero(wanted).squeeze(1).tolist())
    for site, before in enumerate(part.follows.tolist()):
        assert before in (-1, site - 1)
        assert before == -1 or part.sequence[before] == part.sequence[site]


def test_corpus_rows_teach_what_samples_do_not_show():
    """Few samples of the anchor and many labelled rows beside them: the law is nearer the exact one with the rows."""
    case = make_case(small(5), "rarely")
    world, exact = case.world, case.group(np.zeros(1)).head
    anchor, every = Anchor(TabularLM(world, world.table)), state_features(world)
    weight = (world.prompt_law[:, None, None] * world.mass(world.law)[:, world.child]).reshape(-1, 3)
    error = {0.0: 0.0, 1.0: 0.0}
    for seed in (0, 10, 20):
        data, corpus = sampled(case, 150, 6 + seed), sampled(case, 4000, 7 + seed)
        for share in error:
            torch.manual_seed(seed)
            head = AuxiliaryHead(data.features.shape[1], 3, 2, rank=3, width=48)
            fit(
                head, data, anchor.logits_from, steps=100, learning_rate=6e-3, batch_size=512, consistency_weight=0.0,
                weight_decay=WEIGHT_DECAY, seed=seed, corpus=corpus, corpus_weight=share,
            )  # fmt: skip
            distance = (
                (head.all_tokens(every).exp() - exact.all_tokens(every).exp()).abs()[..., 0].detach().numpy()
            )
            error[share] += float((weight * distance).sum() / weight.sum())
    assert error[1.0] < 0.75 * error[0.0]
